"""Who did what: one line of JSON for each change and each refusal, in files of this node that are rotated by size.

No line holds the value of a parameter, but of those that name what was changed.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

MAX_BYTES = 8 << 20
"""Of one file."""
KEPT = 8
"""Older files beside the present one."""
WAITING = 10_000
"""Lines that may wait for the disk; more are counted, and that is said."""
MAX_VALUE = 200
"""Characters of anything that a client sent."""
TOLD = frozenset(
    {"username", "userid", "groupid", "roleid", "tokenid", "poolid", "realm", "id", "path", "roles", "users", "groups",
     "tokens", "vmid", "vms", "storage", "node", "target", "sid", "name", "type", "delete", "propagate"}
)  # fmt: skip
"""Parameters whose values are told."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Deed:
    """What somebody did, or was refused. ``at`` in seconds since the epoch, ``code`` that of the answer."""

    at: float
    user: str
    token: str
    address: str
    method: str
    path: str
    code: int
    outcome: str
    origin: str
    via: str = ""
    """The node that handed it on."""
    about: Mapping[str, str] = field(default_factory=dict)


class AuditLog:
    """Writes deeds to ``folder/audit.log``; older files are ``audit.log.1`` and so on. ``run`` does the writing."""

    def __init__(self, folder: Path, *, max_bytes: int = MAX_BYTES, kept: int = KEPT) -> None:
        self.file, self._max, self._kept = folder / "audit.log", max_bytes, kept
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(WAITING)
        self._lost = 0

    def note(self, deed: Deed) -> None:
        """To be written soon. Never waits."""
        line = json.dumps({name: value for name, value in asdict(deed).items() if value not in ("", {})})
        try:
            self._waiting.put_nowait(line.encode() + b"\n")
        except asyncio.QueueFull:
            self._lost += 1

    async def written(self) -> None:
        """Wait until all that was noted so far has been written, or could not be."""
        await self._waiting.join()

    async def run(self) -> None:
        """Write until cancelled; what is waiting then is written still."""
        try:
            while True:
                await self._write([await self._waiting.get(), *self._taken()])
        finally:
            if not self._waiting.empty():
                self._append(b"".join(self._taken()))

    async def _write(self, lines: list[bytes]) -> None:
        try:
            await asyncio.shield(asyncio.to_thread(self._append, b"".join(lines)))
        except OSError as error:
            _log.error("the audit log cannot be written", path=str(self.file), why=str(error), todo="Make room there")
        for _ in lines:
            self._waiting.task_done()

    def _taken(self) -> list[bytes]:
        lines: list[bytes] = []
        while not self._waiting.empty():
            lines.append(self._waiting.get_nowait())
        if self._lost:
            _log.error("deeds are missing in the audit log", count=self._lost, why="the disk did not keep up")
            self._lost = 0
        return lines

    def _append(self, lines: bytes) -> None:
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            if self.file.stat().st_size + len(lines) > self._max:
                self._rotate()
        handle = os.open(self.file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(handle, lines)
        finally:
            os.close(handle)

    def _rotate(self) -> None:
        for number in range(self._kept - 1, 0, -1):
            older = self.file.with_name(f"{self.file.name}.{number}")
            if older.exists():
                older.rename(self.file.with_name(f"{self.file.name}.{number + 1}"))
        self.file.rename(self.file.with_name(f"{self.file.name}.1"))


def told(parameters: Mapping[str, object]) -> dict[str, str]:
    """Of a request's parameters those that name what it is about."""
    return {name: str(value)[:MAX_VALUE] for name, value in parameters.items() if name in TOLD and value is not None}
