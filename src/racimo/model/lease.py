"""The lease of a node as the HA daemon writes it and others read it: one line of ASCII, replaced by rename.

``deadline_ns kill_margin_ns watchdog_ns incarnation sequence``; times in nanoseconds on CLOCK_BOOTTIME. No file means
no lease. Standard library only: the guard and the wrapper that starts QEMU read it too.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class Lease:
    """What a node's last acknowledged heartbeat gives it. All times in nanoseconds."""

    deadline_ns: int
    """When the lease ends, on CLOCK_BOOTTIME."""
    kill_margin_ns: int
    """How long before the end the node's HA guests are killed."""
    watchdog_ns: int
    """The hardware watchdog's time-out: it is fed only while more than this is left."""
    incarnation: str
    sequence: int

    def holds(self, now_ns: int) -> bool:
        """Whether HA guests may run at ``now_ns`` (CLOCK_BOOTTIME)."""
        return now_ns < self.deadline_ns - self.kill_margin_ns

    def feeds(self, now_ns: int) -> bool:
        """Whether the lease alone allows to feed the watchdog at ``now_ns``."""
        return now_ns < self.deadline_ns - self.watchdog_ns


def boottime_ns() -> int:
    """Now, on the clock that leases are counted on: it goes on while the machine is suspended."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def format_lease(lease: Lease) -> str:
    """The line that stands in the lease file."""
    return f"{lease.deadline_ns} {lease.kill_margin_ns} {lease.watchdog_ns} {lease.incarnation} {lease.sequence}\n"


def parse_lease(line: str) -> Lease | None:
    """The lease in ``line``; None for anything that is not exactly one: in doubt there is no lease."""
    fields = line.split(" ")
    if len(fields) != 5 or not line.endswith("\n"):
        return None
    try:
        deadline, margin, watchdog, sequence = (int(fields[place]) for place in (0, 1, 2, 4))
    except ValueError:
        return None
    if min(deadline, margin, watchdog, sequence) < 0 or not fields[3]:
        return None
    return Lease(deadline, margin, watchdog, fields[3], sequence)


def read_lease(path: Path | str) -> Lease | None:
    """The lease that this node was given, valid or run out; None when there is none or it cannot be read."""
    try:
        with open(path, encoding="ascii") as file:
            return parse_lease(file.read())
    except (OSError, ValueError):
        return None


def write_lease(path: Path | str, lease: Lease) -> None:
    """Replace the lease file in one step: a reader sees the old lease or the new one. Raises ``OSError``."""
    new = f"{path}.new"
    with open(new, "w", encoding="ascii") as file:
        file.write(format_lease(lease))
    os.replace(new, path)


def remove_lease(path: Path | str) -> None:
    """From now on there is no lease."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
