"""Following a running live migration until it is complete: progress, convergence, giving up with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed
from racimo.guest.migration_status import COMPLETED, POLL, MigrationStatus, migration_status

if TYPE_CHECKING:
    from racimo.guest.qemu.monitor import Monitor
    from racimo.task.operation import Report

MIB = 1 << 20
PATIENT_ROUNDS = 5
"""Rounds over the memory before the downtime allowed to QEMU is raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationLimits:
    """``bandwidth`` in bytes a second (0: none); the others in seconds. ``downtime`` is raised up to ``max_downtime``
    for a guest that writes faster than the network carries; after ``patience`` without progress it is given up."""

    bandwidth: int = 0
    downtime: float = 0.1
    max_downtime: float = 2.0
    patience: float = 60.0


UNLIMITED = 1 << 40
"""Bytes a second; QEMU has no word for no limit."""


async def set_limits(monitor: Monitor, limits: MigrationLimits) -> None:
    """Give them to QEMU."""
    parameters = {"max-bandwidth": limits.bandwidth or UNLIMITED, "downtime-limit": int(limits.downtime * 1000)}
    await monitor.execute("migrate-set-parameters", parameters)


class Follower:
    """One migration's course."""

    def __init__(self, monitor: Monitor, limits: MigrationLimits, report: Report) -> None:
        self._monitor, self._limits, self._report = monitor, limits, report
        self._downtime, self._round, self._best = limits.downtime, 0, 0
        self._since = asyncio.get_running_loop().time()
        self._throttle = 0

    async def completed(self) -> MigrationStatus:
        """Return when QEMU has sent everything and halted. Raises ``OperationFailed`` when it failed or never ends."""
        with self._monitor.events("MIGRATION") as events:
            while True:
                status = await migration_status(self._monitor)
                if status.status == COMPLETED:
                    return status
                if not status.active:
                    raise OperationFailed(
                        f"The migration of {self._monitor.label} failed",
                        why=status.error or f"QEMU ended it as '{status.status}'",
                        todo="The guest goes on where it was; see its qemu.log on both nodes",
                    )
                await self._judge(status)
                try:
                    async with asyncio.timeout(POLL):
                        await events.get()
                except TimeoutError:
                    continue

    async def _judge(self, status: MigrationStatus) -> None:
        """Tell the progress; help a guest that is too busy to be moved; give it up at last."""
        now = asyncio.get_running_loop().time()
        if status.total:
            done = 1 - status.remaining / status.total
            rate = f"{status.rate / MIB:.1f} MiB/s"
            self._report.progress(0.1 + 0.8 * done, f"{status.transferred // MIB} MiB sent, {rate}")
        if status.throttle > self._throttle:
            self._throttle = status.throttle
            self._report.log(f"the guest writes faster than the network carries: slowed down by {status.throttle} %")
        if status.rounds > self._round:
            self._round = status.rounds
            if self._round > PATIENT_ROUNDS and self._downtime < self._limits.max_downtime:
                self._downtime = min(self._downtime * 2, self._limits.max_downtime)
                await set_limits(self._monitor, replace(self._limits, downtime=self._downtime))
                self._report.log(f"round {self._round}: up to {self._downtime:g} s of downtime allowed now")
        if not self._best or status.remaining < self._best or status.rounds < 2:
            self._best, self._since = status.remaining or self._best, now
        elif now - self._since > self._limits.patience:
            raise OperationFailed(
                f"The migration of {self._monitor.label} does not come to an end",
                why=f"the guest writes {status.dirty_rate / MIB:.0f} MiB/s and the network carries "
                f"{status.rate / MIB:.0f} MiB/s, although it was slowed down by {status.throttle} %",
                todo="Migrate it when it is less busy, over a faster network, with a higher bwlimit, or offline",
            )
