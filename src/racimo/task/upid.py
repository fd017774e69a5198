"""UPID: the name of a task, in the form that Proxmox VE's clients read.

``UPID:node:PID8:START8:TIME8:type:id:user:`` with three hexadecimal numbers: the daemon's process id, a number that
only this task of the daemon has, and the start in seconds since the epoch.
"""

from __future__ import annotations

import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import BadParameter

if TYPE_CHECKING:
    from collections.abc import Callable

_FORM = re.compile(
    r"UPID:([a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?):([0-9A-Fa-f]{8}):([0-9A-Fa-f]{8,9}):([0-9A-Fa-f]{8})"
    r":([a-zA-Z0-9_-]+):([^:\s/]*):([^:\s/]+):"
)
_ESCAPE = re.compile(r"[^A-Za-z0-9_.,@!+=-]")
_ESCAPED = re.compile(r"\\x([0-9a-f]{2})")
MAX_LENGTH = 250
"""Characters: it names a file."""


@dataclass(frozen=True, slots=True)
class Upid:
    """A parsed UPID. ``start`` is in seconds since the epoch; ``subject`` is what the task is about, such as a vmid."""

    node: str
    pid: int
    serial: int
    start: int
    kind: str
    subject: str
    user: str

    def __str__(self) -> str:
        subject, user = _escaped(self.subject), _escaped(self.user)
        return f"UPID:{self.node}:{self.pid:08X}:{self.serial:08X}:{self.start:08X}:{self.kind}:{subject}:{user}:"

    @classmethod
    def parse(cls, text: str) -> Upid:
        """Raises ``BadParameter`` when ``text`` is not a UPID."""
        match = _FORM.fullmatch(text) if len(text) <= MAX_LENGTH else None
        if match is None:
            raise BadParameter({"upid": f"'{text[:80]}' is not a task's UPID"}, todo="Take it from the list of tasks")
        node, _, pid, serial, start, kind, subject, user = match.groups()
        return cls(node, int(pid, 16), int(serial, 16), int(start, 16), kind, _unescaped(subject), _unescaped(user))


class UpidSource:
    """Draws the UPIDs of one daemon's tasks; no two are equal, not even across restarts of the daemon."""

    def __init__(self, node: str, clock: Callable[[], float]) -> None:
        self.node, self._clock, self._pid = node, clock, os.getpid()
        self._serials = itertools.count(_process_start_ticks())

    def draw(self, kind: str, subject: str, user: str) -> Upid:
        """A new UPID. Raises ``BadParameter`` when the subject is too long for one."""
        serial = next(self._serials) & 0xFFFFFFFF
        upid = Upid(self.node, self._pid & 0xFFFFFFFF, serial, int(self._clock()) & 0xFFFFFFFF, kind, subject, user)
        if len(str(upid)) > MAX_LENGTH:
            raise BadParameter({"id": f"'{subject[:40]}…' is too long for a task's name"})
        return upid


def _escaped(text: str) -> str:
    return _ESCAPE.sub(lambda match: "".join(f"\\x{byte:02x}" for byte in match[0].encode()), text)


def _unescaped(text: str) -> str:
    if "\\x" not in text:
        return text
    parts = _ESCAPED.split(text)
    raw = b"".join(bytes.fromhex(part) if i % 2 else part.encode() for i, part in enumerate(parts))
    return raw.decode(errors="replace")


def _process_start_ticks() -> int:
    """When this process started, in clock ticks since boot (proc(5), field 22 of stat); 0 where /proc is missing."""
    try:
        stat = Path("/proc/self/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[19])
