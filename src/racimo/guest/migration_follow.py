"""Following a running live migration until it is complete: progress, convergence, giving up with a reason."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed
from racimo.guest.migration_status import COMPLETED, POLL, MigrationStatus, migration_status, next_look

if TYPE_CHECKING:
    from racimo.guest.qemu.monitor import Monitor
    from racimo.task.operation import Report

MIB = 1 << 20
PATIENT_ROUNDS = 5
"""Rounds over the memory before the downtime allowed to QEMU is raised."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationLimits:
    """``bandwidth`` in bytes a second (0: none); the others in seconds. A guest that writes faster than the network
    carries is slowed down (``slow_down``) and its ``downtime`` raised up to ``max_downtime``; after ``patience``
    without progress it is given up."""

    bandwidth: int = 0
    downtime: float = 0.1
    max_downtime: float = 2.0
    patience: float = 60.0
    slow_down: bool = True


UNLIMITED = 1 << 40
"""Bytes a second; QEMU has no word for no limit."""


async def set_limits(monitor: Monitor, limits: MigrationLimits) -> None:
    """Give them to QEMU."""
    parameters = {"max-bandwidth": limits.bandwidth or UNLIMITED, "downtime-limit": int(limits.downtime * 1000)}
    await monitor.execute("migrate-set-parameters", parameters)


async def allow_slow_down(monitor: Monitor, allowed: bool) -> None:
    """Whether QEMU may take CPU time from a guest that is too busy to be moved."""
    capability = {"capability": "auto-converge", "state": allowed}
    await monitor.execute("migrate-set-capabilities", {"capabilities": [capability]})


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What one look at a migration leads to: lines for the log, a higher ``downtime`` to allow, the end of patience."""

    lines: tuple[str, ...] = ()
    downtime: float | None = None
    give_up: str = ""


class Course:
    """How a migration goes, look by look. Pure: times are handed in, seconds on any steady clock."""

    def __init__(self, limits: MigrationLimits, now: float) -> None:
        self._limits, self._downtime = limits, limits.downtime
        self._rounds, self._throttle, self._best, self._since = 0, 0, 0, now

    def see(self, status: MigrationStatus, now: float) -> Turn:
        """What to do after this look."""
        lines, downtime = [], None
        if status.throttle > self._throttle:
            lines.append(f"the guest writes faster than the network carries: slowed down by {status.throttle} %")
        if status.rounds > max(self._rounds, PATIENT_ROUNDS) and self._downtime < self._limits.max_downtime:
            self._downtime = downtime = min(self._downtime * 2, self._limits.max_downtime)
            lines.append(f"round {status.rounds}: up to {downtime:g} s of downtime allowed now")
        self._rounds, self._throttle = max(self._rounds, status.rounds), max(self._throttle, status.throttle)
        give_up = ""
        if status.rounds < 2 or status.remaining < self._best:
            self._best, self._since = status.remaining, now
        elif now - self._since > self._limits.patience:
            give_up = (
                f"the guest writes {status.dirty_rate / MIB:.0f} MiB/s and the network carries "
                f"{status.rate / MIB:.0f} MiB/s, although it was slowed down by {status.throttle} %"
            )
        return Turn(lines=tuple(lines), downtime=downtime, give_up=give_up)


async def follow(monitor: Monitor, limits: MigrationLimits, report: Report) -> MigrationStatus:
    """Return when QEMU has sent everything and halted. Raises ``OperationFailed`` when it failed or never ends."""
    clock = asyncio.get_running_loop().time
    course = Course(limits, clock())
    with monitor.events("MIGRATION") as events:
        while True:
            status = await migration_status(monitor)
            if status.status == COMPLETED:
                return status
            if not status.active:
                raise OperationFailed(
                    f"The migration of {monitor.label} failed",
                    why=status.error or f"QEMU ended it as '{status.status}'",
                    todo="The guest goes on where it was; see its qemu.log on both nodes",
                )
            _tell(status, report)
            turn = course.see(status, clock())
            for line in turn.lines:
                report.log(line)
            if turn.downtime is not None:
                await set_limits(monitor, replace(limits, downtime=turn.downtime))
            if turn.give_up:
                raise OperationFailed(
                    f"The migration of {monitor.label} does not come to an end",
                    why=turn.give_up,
                    todo="Migrate it when it is less busy, over a faster network, with a higher bwlimit, or offline",
                )
            await next_look(events, POLL)


def _tell(status: MigrationStatus, report: Report) -> None:
    if status.total:
        done = 1 - status.remaining / status.total
        rate = f"{status.rate / MIB:.1f} MiB/s"
        report.progress(0.1 + 0.8 * done, f"{status.transferred // MIB} MiB sent, {rate}")
