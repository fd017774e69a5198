"""A running guest's memory in a file: written while it goes on, read back into a QEMU that waits for it.

It is QEMU's migration into a file. The guest halts for the last of it; in that moment ``at_halt`` may take the disks'
snapshots, so that memory and disks are of one instant. If nobody follows any more, the reconciler cancels it as it
does a migration, and the guest goes on.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed
from racimo.guest.migration_follow import UNLIMITED
from racimo.guest.migration_status import COMPLETED, POLL, cancel_migration, migration_status, next_look
from racimo.guest.reconcile import LOADING
from racimo.guest.unbroken import unbroken

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from racimo.guest.qemu.monitor import Monitor, MonitorEvent
    from racimo.task.operation import Report

FILE = "memory"
"""The name by which QEMU is told of the open file."""
READY = "pre-switchover"
"""QEMU's word: the guest is halted, its disks are still its own, the last of its memory is not written yet."""
SAVED = "postmigrate"
"""QEMU's run state when all is written. It has let go of the disks then, until the guest goes on."""
DOWNTIME_MS = 300
ROUNDS = 3
"""Rounds over the memory after which the guest is halted, however fast it writes: the file must not grow for ever."""
HALT_NOW_MS = 1_000_000
SHORT = 0.02
"""Seconds between looks while the guest is halted."""
LAST_TIMEOUT = 600.0
LOAD_TIMEOUT = 1800.0
"""Seconds for the memory to be read back; a slow disk and a large guest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedMemory:
    """The memory of a guest that was saved with QEMU's ``-cpu`` ``cpu``."""

    path: Path
    cpu: str


async def save_memory(monitor: Monitor, path: Path, report: Report, at_halt: Callable[[], Awaitable[None]]) -> None:
    """Write the guest's memory over ``path``; on return it is halted. On failure the caller lets it go on."""
    await _settings(monitor, DOWNTIME_MS)
    await _capabilities(monitor, halting=True)
    try:
        await _give(monitor, path, os.O_WRONLY)
        with monitor.events("MIGRATION") as events:
            await monitor.execute("migrate", {"uri": f"fd:{FILE}"})
            await _until_halted(monitor, events, report)
            await at_halt()
            await monitor.execute("migrate-continue", {"state": READY})
            async with asyncio.timeout(LAST_TIMEOUT):
                while (status := await migration_status(monitor)).active:
                    await next_look(events, SHORT)
                while status.status == COMPLETED and (await monitor.status()).name != SAVED:
                    await next_look(events, SHORT)  # it tells of the end before it would let the guest go on
        if status.status != COMPLETED:
            raise OperationFailed(f"The memory of {monitor.label} was not saved", why=status.error or status.status)
    except TimeoutError:
        raise OperationFailed(
            f"The memory of {monitor.label} was not saved", why=f"its last part took more than {LAST_TIMEOUT:g} s"
        ) from None
    except BaseException:
        await unbroken(cancel_migration(monitor))
        raise
    finally:
        await unbroken(_capabilities(monitor, halting=False))


async def load_memory(monitor: Monitor, path: Path) -> None:
    """Fill a QEMU that waits (``-incoming defer``) from ``path``; on return the guest is as it was, halted."""
    await _give(monitor, path, os.O_RDONLY)
    await monitor.execute("migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]})
    try:
        async with asyncio.timeout(LOAD_TIMEOUT):
            with monitor.events("MIGRATION") as events:
                await monitor.execute("migrate-incoming", {"uri": f"fd:{FILE}"})
                while (await monitor.status()).name in LOADING:
                    await next_look(events, POLL)
    except TimeoutError:
        raise OperationFailed(
            f"The memory of {monitor.label} was not read back", why=f"it took more than {LOAD_TIMEOUT:g} s"
        ) from None


async def _until_halted(monitor: Monitor, events: asyncio.Queue[MonitorEvent], report: Report) -> None:
    hurried = False
    while (status := await migration_status(monitor)).status != READY:
        if not status.active:
            raise OperationFailed(
                f"The memory of {monitor.label} was not saved", why=status.error or f"QEMU ended it: {status.status}"
            )
        if status.rounds >= ROUNDS and not hurried:
            hurried = True
            report.log("the guest writes faster than the storage: it is halted for the rest")
            await _settings(monitor, HALT_NOW_MS)
        if status.total:
            report.progress(0.9 * (1 - status.remaining / status.total), f"{status.transferred >> 20} MiB saved")
        await next_look(events, POLL)


async def _settings(monitor: Monitor, downtime: int) -> None:
    settings = {"tls-creds": "", "max-bandwidth": UNLIMITED, "downtime-limit": downtime}
    await monitor.execute("migrate-set-parameters", settings)


async def _capabilities(monitor: Monitor, *, halting: bool) -> None:
    states = {"events": True, "pause-before-switchover": halting, "auto-converge": halting}
    capabilities = [{"capability": name, "state": state} for name, state in states.items()]
    await monitor.execute("migrate-set-capabilities", {"capabilities": capabilities})


async def _give(monitor: Monitor, path: Path, mode: int) -> None:
    file = await asyncio.to_thread(os.open, path, mode)
    try:
        await monitor.give_file(FILE, file)
    finally:
        os.close(file)
