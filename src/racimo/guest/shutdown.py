"""Having a guest shut itself down: by its agent where one answers, else by its power button, until it does."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from racimo.errors import Conflict, NotFound, OperationFailed
from racimo.guest.agent import agent_shutdown
from racimo.guest.qemu.monitor import MonitorLost

if TYPE_CHECKING:
    from racimo.guest.host import GuestHost

log = structlog.get_logger()

ASK_AGAIN = 5.0
"""Seconds. A guest that still boots sees no button pressed before; one that shuts down already takes no notice."""
AGENT_TIMEOUT = 2.0


async def shut_down(host: GuestHost, vmid: int, timeout: float, *, again: float = ASK_AGAIN) -> bool:
    """Ask the guest every ``again`` seconds, for ``timeout`` seconds, to shut itself down. Returns whether it ended.

    Raises ``NotFound`` when it has no process here, ``MonitorSilent`` when its QEMU does not answer.
    """
    host.started_with(vmid)
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    while True:
        next_ask = loop.time() + again
        await _ask(host, vmid, min(AGENT_TIMEOUT, max(0.0, deadline - loop.time())))
        if await host.wait_gone(vmid, max(0.0, min(next_ask, deadline) - loop.time())):
            return True
        if loop.time() >= deadline:
            return False


async def _ask(host: GuestHost, vmid: int, agent_timeout: float) -> None:
    try:
        await agent_shutdown(host.paths, vmid, agent_timeout)
    except (Conflict, OperationFailed) as error:
        log.debug("a guest is shut down by its power button", vmid=vmid, why=str(error))
    else:
        return
    try:
        await host.press_power_button(vmid)
    except (MonitorLost, NotFound) as error:
        log.debug("a guest is about to end", vmid=vmid, why=str(error))
