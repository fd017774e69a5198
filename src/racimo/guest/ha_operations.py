"""What the HA agent asks of its node about a guest. Each does nothing where the guest is as wanted already."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from racimo.errors import OperationFailed
from racimo.guest.lifecycle import SHUTDOWN_TIMEOUT, Lifecycle
from racimo.guest.migration import move_stopped
from racimo.guest.operations import GuestOperation, MigrateGuest
from racimo.model.guest import RunState

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.task.operation import Report


AT_ODDS = (RunState.STOPPED, RunState.STARTING, RunState.STOPPING)
"""States of the record beside which a process cannot stay when nobody works on the guest."""
LEFTOVER_S = 30.0


@dataclass(frozen=True, kw_only=True)
class HaStart(GuestOperation):
    """Have it run, for its present epoch."""

    kind: ClassVar[str] = "hastart"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        now = await services.now(self.vmid)
        if now.process is not None and now.runtime and now.runtime.state is RunState.RUNNING:
            report.log("it runs already")
            return
        if now.process is not None and (now.runtime is None or now.runtime.state in AT_ODDS):
            await self._await_end(services, report)
        await services.start(self.vmid, report, epoch=self.epoch)

    async def _await_end(self, services: Lifecycle, report: Report) -> None:
        """A process that is not to be, such as what was prepared for a migration that was cut off with its source: the
        reconciler ends it."""
        await services.records.owned(self.vmid, self.epoch)
        report.log("a process of it that is left here from before is ended first")
        services.busy.doubt(self.vmid)
        if not await services.host.wait_gone(self.vmid, LEFTOVER_S):
            raise OperationFailed(
                f"Guest {self.vmid} cannot start",
                why=f"a process of it that is left here from before did not end within {LEFTOVER_S:g} s",
                todo="See racimo-node's log on this node",
            )


@dataclass(frozen=True, kw_only=True)
class HaStop(GuestOperation):
    """Have it stopped: asked first, then by force."""

    kind: ClassVar[str] = "hastop"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await halt(services, self.vmid, report, self.epoch)


@dataclass(frozen=True, kw_only=True)
class HaRelocate(MigrateGuest):
    """Stop it here and hand its record to ``target``, which starts it."""

    kind: ClassVar[str] = "harelocate"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await halt(services, self.vmid, report, self.epoch)
        async with services.busy.hold(self.vmid):
            view = await services.settled(await services.records.owned(self.vmid, self.epoch))
            await move_stopped(services, view, self.target, report)

    async def precheck(self, services: Lifecycle) -> None:
        await services.records.owned(self.vmid, self.epoch)


async def halt(services: Lifecycle, vmid: int, report: Report, epoch: int | None) -> None:
    """Shut the guest down, by force in the end; a paused one is stopped at once, a stopped one left."""
    now = await services.now(vmid)
    running = now.process is not None and now.runtime is not None and now.runtime.state is RunState.RUNNING
    if running:
        await services.shutdown(
            vmid, report, timeout=SHUTDOWN_TIMEOUT, force_stop=True, epoch=epoch, reason="Stopped by HA"
        )
    else:
        await services.stop(vmid, report, reason="Stopped by HA", epoch=epoch)
