"""What a node daemon that was killed left half-made in a directory."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

import structlog

from racimo.storage.filesystem import is_locked

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

LEFTOVER_AGE = 3600.0
"""Seconds for which nobody has written to an unnamed file before it counts as left behind."""


def sweep(folder: Path, age: float = LEFTOVER_AGE) -> None:
    """Remove what an earlier node daemon left half-made when it was killed: old, and not being written."""
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > age and not is_locked(path):
                path.unlink()
                log.warning("removed a half-made image that was left behind", file=str(path))
