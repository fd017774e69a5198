"""From a port of the host's loopback to a node's API: the one way in, and only from this machine.

The connection is made inside the node's own network namespace, so it also reaches a node that is cut off from the rest.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger()

API_PORT = 8006
CHUNK = 1 << 16
CLONE_NEWNET = 0x40000000
CONNECT_TIMEOUT_S = 5.0


@dataclass(frozen=True, slots=True)
class Doorway:
    """Makes sockets inside other network namespaces, in one thread that does nothing else."""

    thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1, "netns"))

    async def opened(self, namespace: Path) -> socket.socket:
        """A TCP socket that belongs to ``namespace``. Raises ``OSError`` when there is no such namespace."""
        return await asyncio.get_running_loop().run_in_executor(self.thread, self._make, namespace)

    @staticmethod
    def _make(namespace: Path) -> socket.socket:
        descriptor = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if ctypes.CDLL(None, use_errno=True).setns(descriptor, CLONE_NEWNET) != 0:
                raise OSError(ctypes.get_errno(), "setns", str(namespace))
            return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """End the thread."""
        self.thread.shutdown(wait=True)


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Forwards 127.0.0.1:``port`` to port 8006 of the node with that namespace."""

    doorway: Doorway
    namespace: Path
    port: int
    api_port: int = API_PORT

    async def serve(self, listening: asyncio.Event) -> None:
        """Forward until cancelled. Sets ``listening`` when the port is open; raises ``OSError`` when it cannot be."""
        async with await asyncio.start_server(self._forward, "127.0.0.1", self.port) as server:
            listening.set()
            await server.serve_forever()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far: asyncio.StreamWriter | None = None
        try:
            inside = await self.doorway.opened(self.namespace)
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(inside, ("127.0.0.1", self.api_port))
            far_reader, far = await asyncio.open_connection(sock=inside)
            async with asyncio.TaskGroup() as ways:
                ways.create_task(_copy(reader, far))
                ways.create_task(_copy(far_reader, writer))
        except* (OSError, TimeoutError) as errors:
            log.info("lab.forward.ended", port=self.port, why=str(errors.exceptions[0]))
        finally:
            for stream in (far, writer):
                if stream is not None:
                    stream.close()
                    with contextlib.suppress(OSError):
                        await stream.wait_closed()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while chunk := await reader.read(CHUNK):
        writer.write(chunk)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()
