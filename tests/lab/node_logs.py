"""What the nodes of a lab logged last, for the report of a test that failed: the lab is gone when somebody reads it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from racimo.lab.lab import Lab

UNITS = ("racimo-node", "racimo-ha", "racimo-guard", "racimo-etcd")
LINES = 60
READ_TIMEOUT_S = 20.0


def node_logs(lab: Lab) -> str:
    """The last lines of each node's daemons, oldest first; nodes without power too."""
    told = []
    for node in lab.nodes:
        units = [f"--unit={unit}" for unit in UNITS]
        command = node.journalctl(*units, "--output=short-precise", f"--lines={LINES}")
        shown = subprocess.run(command, capture_output=True, text=True, timeout=READ_TIMEOUT_S, check=False)
        told += [f"== {node.name}, {'on' if node.leader else 'off'}", shown.stdout or shown.stderr]
    return "\n".join(told)
