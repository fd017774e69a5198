"""The one process that runs as long as the lab: it forwards to the nodes' APIs, is their watchdog and fences them.

``python -m racimo.lab.supervisor``, started by ``up`` and ended by ``down``; it takes its place from the environment.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from functools import partial

import structlog

from racimo.errors import RacimoError
from racimo.lab.fence_device import LabFence
from racimo.lab.forward import Doorway, Forwarder
from racimo.lab.node import LabNode
from racimo.lab.place import LabPlace
from racimo.lab.state import read_state
from racimo.lab.watchdog import LabWatchdog

log = structlog.get_logger()


async def supervise(place: LabPlace) -> None:
    """Serve all nodes of the lab until cancelled. Raises ``NotFound`` when there is no lab at this place."""
    nodes = [LabNode(place, spec) for spec in read_state(place).nodes]
    doorway = Doorway()
    try:
        async with asyncio.TaskGroup() as services:
            open_doors = []
            for node in nodes:
                watchdog = LabWatchdog(node.watchdog, partial(reset, node))
                forwarder = Forwarder(doorway, node.network.namespace_path(node.name), node.spec.port)
                fence = LabFence(node.fence, {each.name: each for each in nodes})
                for service in (watchdog, forwarder, fence):
                    open_doors.append(asyncio.Event())
                    services.create_task(service.serve(open_doors[-1]))
            for door in open_doors:
                await door.wait()
            notify_ready()
    finally:
        doorway.close()


async def reset(node: LabNode) -> None:
    """What a hardware watchdog does: cut the power, and start again."""
    try:
        if await node.power_cut():
            await node.boot(ready=False)
    except RacimoError as error:
        log.exception("lab.watchdog.reset_failed", node=node.name, why=str(error))


def notify_ready() -> None:
    """Tell who started us that all doors are open (sd_notify(3))."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as voice, suppress(OSError):
            voice.sendto(b"READY=1", path)


async def _run() -> None:
    task = asyncio.create_task(supervise(LabPlace.from_environment()))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


def main() -> int:
    """Run until SIGTERM."""
    failed: list[BaseException] = []
    try:
        asyncio.run(_run())
    except* (RacimoError, OSError) as errors:
        failed.extend(errors.exceptions)
    for error in failed:
        sys.stderr.write(f"{error}\n")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
