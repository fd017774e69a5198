"""How a migration stands, as QEMU tells it (``query-migrate``)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed
from racimo.guest.qemu.monitor import MonitorLost, MonitorSilent

if TYPE_CHECKING:
    from racimo.guest.host import GuestHost
    from racimo.guest.qemu.monitor import Monitor, MonitorEvent

CANCEL_TIMEOUT = 10.0
POLL = 0.5

ACTIVE = frozenset({"setup", "active", "pre-switchover", "device", "postcopy-active", "wait-unplug", "cancelling"})
COMPLETED = "completed"


@dataclass(frozen=True, slots=True)
class MigrationStatus:
    """One look at a migration. Sizes in bytes, times in seconds, ``rate`` in bytes a second."""

    status: str
    error: str = ""
    transferred: int = 0
    remaining: int = 0
    total: int = 0
    rounds: int = 0
    """How often the whole memory was gone through."""
    dirty_rate: float = 0.0
    """Bytes a second that the guest writes anew."""
    rate: float = 0.0
    throttle: int = 0
    """Percent of its CPU time that auto-converge takes from the guest."""
    total_time: float = 0.0
    downtime: float = 0.0

    @property
    def active(self) -> bool:
        """Whether QEMU is still at it."""
        return self.status in ACTIVE


async def migration_status(monitor: Monitor) -> MigrationStatus:
    """Ask QEMU. ``status`` is ``none`` when there was no migration."""
    answer = await monitor.query("query-migrate")
    memory = answer.get("ram", {})
    page = int(memory.get("page-size", 4096))
    return MigrationStatus(
        status=str(answer.get("status", "none")),
        error=str(answer.get("error-desc", "")),
        transferred=int(memory.get("transferred", 0)),
        remaining=int(memory.get("remaining", 0)),
        total=int(memory.get("total", 0)),
        rounds=int(memory.get("dirty-sync-count", 0)),
        dirty_rate=float(memory.get("dirty-pages-rate", 0)) * page,
        rate=float(memory.get("mbps", 0)) * 1e6 / 8,
        throttle=int(answer.get("cpu-throttle-percentage", 0)),
        total_time=float(answer.get("total-time", 0)) / 1000,
        downtime=float(answer.get("downtime", 0)) / 1000,
    )


async def is_migrating(host: GuestHost, vmid: int) -> bool:
    """Whether the guest's process is sending its guest away just now. A QEMU that does not answer is taken as not."""
    if host.started_with(vmid).incoming:
        return False
    try:
        return (await migration_status(await host.monitor(vmid))).active
    except (MonitorLost, MonitorSilent):
        return False


async def next_look(events: asyncio.Queue[MonitorEvent], seconds: float) -> None:
    """Return at the next event, or after ``seconds``: QEMU does not tell of every step."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await events.get()


async def cancel_migration(monitor: Monitor) -> None:
    """Cancel the outgoing migration, if there is one, and wait until QEMU has let go of it."""
    try:
        async with asyncio.timeout(CANCEL_TIMEOUT):
            with monitor.events("MIGRATION") as events:
                await monitor.execute("migrate_cancel")
                while (await migration_status(monitor)).active:
                    await next_look(events, POLL)
    except TimeoutError:
        raise OperationFailed(
            f"The migration of {monitor.label} is not cancelled yet",
            why=f"QEMU did not let go of it within {CANCEL_TIMEOUT:g} s",
            todo="Nothing: it is tried again until the guest goes on",
        ) from None
