"""One QEMU that runs: its process, the connection to its monitor, and how it ended."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from typing import TYPE_CHECKING

import structlog

from racimo.errors import NotFound, RacimoError
from racimo.guest.host_records import GuestExited
from racimo.guest.process import Process
from racimo.guest.qemu.monitor import Monitor

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.guest.host_records import StartedWith
    from racimo.guest.qemu.monitor import MonitorEvent
    from racimo.guest.units import Units

log = structlog.get_logger()

CONNECT_AGAIN_TIMEOUT = 5.0
EVENT_TIMEOUT = 1.0
"""Seconds for the monitor and the process of a QEMU that dies to be gone, one after the other."""

SHUTDOWN_REASONS = {
    "guest-shutdown": ("The guest shut itself down", True),
    "guest-reset": ("The guest rebooted and is set to stop then", True),
    "guest-panic": ("The guest's kernel panicked", False),
    "host-qmp-quit": ("It was stopped", True),
    "host-signal": ("The host ended QEMU with a signal, as at its own shutdown", True),
    "host-ui": ("It was stopped from its display", True),
    "subsystem-reset": ("The guest rebooted and is set to stop then", True),
}
"""QEMU's ``ShutdownCause`` to a sentence, and whether the end was orderly."""


class RunningGuest:
    """The QEMU with this ``pid``, started with ``started``; its monitor is at ``socket``.

    Raises ``ProcessLookupError`` when there is no such process.
    """

    def __init__(self, vmid: int, pid: int, started: StartedWith, socket: Path) -> None:
        self.vmid, self.started = vmid, started
        self.process = Process(vmid, pid)
        self.gone = asyncio.Event()
        """Set by the host, when the end was told."""
        self._socket = socket
        self._monitor: Monitor | None = None
        self._connecting = asyncio.Lock()
        self._subscription = ExitStack()
        self._shutdowns: asyncio.Queue[MonitorEvent] = asyncio.Queue()

    async def monitor(self) -> Monitor:
        """The connection, made anew if it broke. Raises ``NotFound`` when the process ends before it answers."""
        async with self._connecting:
            if self._monitor is None or not self._monitor.connected:
                try:
                    return await self.connect(CONNECT_AGAIN_TIMEOUT)
                except ProcessLookupError:
                    what = f"Guest {self.vmid} is not running on this node"
                    raise NotFound(what, why="its QEMU has just ended", todo="See its status for the reason") from None
            return self._monitor

    async def connect(self, timeout: float) -> Monitor:
        """Connect within ``timeout`` seconds. Raises ``ProcessLookupError`` when the process ends before it answers."""
        connecting = asyncio.ensure_future(self._connect(timeout))
        dying = asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait({connecting, dying}, return_when=asyncio.FIRST_COMPLETED)
            if connecting.done() and connecting.exception() is not None:
                await asyncio.wait({dying}, timeout=EVENT_TIMEOUT)  # a dying QEMU closes its monitor first
            if not self.process.alive:
                raise ProcessLookupError(self.process.pid)
            return await connecting
        finally:
            connecting.cancel()
            dying.cancel()
            await asyncio.gather(connecting, dying, return_exceptions=True)

    async def wait_gone(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until its end was told. Returns whether it was."""
        try:
            async with asyncio.timeout(timeout):
                await self.gone.wait()
        except TimeoutError:
            return False
        return True

    async def ending(self, units: Units) -> GuestExited:
        """After the process died: how it ended, by QEMU's last event or its unit. Clears what is left of both."""
        async with self._connecting:
            reason, orderly = await self._reason(units)
            await self.release()
        return GuestExited(self.vmid, self.started.epoch, reason, orderly)

    async def release(self) -> None:
        """Let go of it. If it lives, it goes on."""
        self._subscription.close()
        if self._monitor is not None:
            await self._monitor.close()
        self.process.close()

    async def _connect(self, timeout: float) -> Monitor:
        if self._monitor is not None:
            self._subscription.close()
            await self._monitor.close()
            self._monitor = None
        monitor = self._monitor = await Monitor.connect(self._socket, f"guest {self.vmid}", timeout=timeout)
        self._shutdowns = self._subscription.enter_context(monitor.events("SHUTDOWN", "GUEST_PANICKED"))
        return monitor

    async def _reason(self, units: Units) -> tuple[str, bool]:
        if self._monitor is not None:
            try:
                async with asyncio.timeout(EVENT_TIMEOUT):
                    await self._monitor.ended()
            except TimeoutError:
                log.warning("a dead guest's monitor is still open", vmid=self.vmid)
        try:
            end = await units.end(self.vmid)
        except RacimoError as error:
            log.warning("how a guest's unit ended is not known", vmid=self.vmid, why=str(error))
            return "QEMU ended", False
        while not self._shutdowns.empty():
            event = self._shutdowns.get_nowait()
            if event.name == "GUEST_PANICKED":
                return SHUTDOWN_REASONS["guest-panic"]
            reason = str(event.fields.get("reason"))
            if end.clean and reason in SHUTDOWN_REASONS:
                return SHUTDOWN_REASONS[reason]
        return end.how, False
