"""The lab's watchdog: what a hardware watchdog is to a server, a datagram socket is to a node.

The node's guard sends ``arm SECONDS``, then ``feed`` again and again, and ``disarm`` when it ends in order. A node that
is armed and not fed for its seconds is reset: its power is cut, then it is switched on again.
"""

from __future__ import annotations

import asyncio
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

log = structlog.get_logger()

MESSAGE_BYTES = 64


@dataclass(slots=True)
class LabWatchdog:
    """One node's watchdog. ``reset`` is awaited each time it bites; it is unarmed then until the node arms it anew."""

    path: Path
    reset: Callable[[], Awaitable[None]]
    seconds: float = 0.0
    """Time-out; 0 while it is not armed."""

    async def serve(self, listening: asyncio.Event) -> None:
        """Watch until cancelled. Sets ``listening`` when the node can reach it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as door:
            try:
                door.bind(str(self.path))
                os.chmod(self.path, 0o600)
                listening.set()
                while True:
                    try:
                        async with asyncio.timeout(self.seconds or None):
                            message = await loop.sock_recv(door, MESSAGE_BYTES)
                    except TimeoutError:
                        await self._bite()
                    else:
                        self._hear(message.decode("ascii", errors="replace").split())
            finally:
                self.path.unlink(missing_ok=True)

    def _hear(self, words: list[str]) -> None:
        match words:
            case ["arm", seconds] if seconds.replace(".", "", 1).isdigit() and float(seconds) > 0:
                self.seconds = float(seconds)
                log.info("lab.watchdog.armed", socket=str(self.path), seconds=self.seconds)
            case ["disarm"]:
                self.seconds = 0.0
            case ["feed"]:
                pass
            case _:
                log.warning("lab.watchdog.not_understood", socket=str(self.path), words=words)

    async def _bite(self) -> None:
        log.warning("lab.watchdog.reset", socket=str(self.path), why=f"not fed for {self.seconds:g} s")
        self.seconds = 0.0
        await self.reset()
