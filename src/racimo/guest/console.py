"""A guest's serial console: a two-way stream to port 0, and the end of what it printed."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from racimo.errors import Conflict, NotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from racimo.model.paths import NodePaths

CONNECT_TIMEOUT = 5.0
MAX_TAIL = 1 << 20
"""Bytes of a log that are read at most."""


@asynccontextmanager
async def serial_console(
    paths: NodePaths, vmid: int, port: int = 0
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The guest's serial port, both ways, while the context lasts. QEMU serves one reader at a time.

    Raises ``NotFound`` when the guest has no such port or does not run here, ``Conflict`` when QEMU does not answer.
    """
    path = paths.guest_run(vmid) / f"serial{port or ''}.sock"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            reader, writer = await asyncio.open_unix_connection(path)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NotFound(
            f"Guest {vmid} has no serial port {port} here",
            why="it does not run on this node, or the port is not configured",
            todo=f"Start it, or set serial{port}: socket",
        ) from None
    except TimeoutError:
        raise Conflict(
            f"The serial port {port} of guest {vmid} does not answer",
            why=f"QEMU took no connection within {CONNECT_TIMEOUT:g} s: too many wait for it, or it hangs",
            todo="Close other consoles of this guest, then try again",
        ) from None
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):  # the guest ended first
            await writer.wait_closed()


def serial_tail(paths: NodePaths, vmid: int, size: int = 16384, port: int = 0) -> str:
    """The last ``size`` bytes (at most 1 MiB) that the port printed, over all runs here. Raises ``NotFound``."""
    return _tail(paths.guest_log(vmid) / f"serial{port or ''}.log", vmid, size)


def qemu_tail(paths: NodePaths, vmid: int, size: int = 16384) -> str:
    """The last bytes that the guest's QEMU said on this node. Raises ``NotFound``."""
    return _tail(paths.guest_log(vmid) / "qemu.log", vmid, size)


def _tail(path: Path, vmid: int, size: int) -> str:
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            file.seek(max(0, end - min(size, MAX_TAIL)))
            return file.read(MAX_TAIL).decode(errors="replace")
    except FileNotFoundError:
        raise NotFound(
            f"There is no {path.name} of guest {vmid} on this node",
            why="it never ran here with such a port",
            todo="Ask the node where it runs, or add the port and start it",
        ) from None
