"""The stand-in for a watchdog device stands beside the tests, the guard as a process beside those of HA."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "ha")]
