"""What can be asked for about a guest, as typed data. The kinds are the task types of the Proxmox VE API."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar

from racimo.errors import BadParameter, Conflict, NotFound, Refused
from racimo.guest.config import parse_config
from racimo.guest.config_change import ConfigChange
from racimo.guest.lifecycle import SHUTDOWN_TIMEOUT, Lifecycle
from racimo.guest.migration import LiveMigration, move_stopped
from racimo.guest.migration_follow import MigrationLimits
from racimo.model.guest import MAX_VMID, MIN_VMID, RunState
from racimo.task.operation import Operation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from racimo.task.operation import Report

KIB = 1 << 10
CHECK_TIMEOUT = 10.0
"""Seconds for a node to say whether it could run a stopped guest."""


@dataclass(frozen=True, kw_only=True)
class GuestOperation(Operation[Lifecycle]):
    """One thing about one guest of this node. ``epoch``, where given, must be the guest's: else it is out of date."""

    vmid: int
    epoch: int | None = None

    @property
    def subject(self) -> str:
        return str(self.vmid)

    @property
    def locks(self) -> tuple[str, ...]:
        return (f"guests/{self.vmid}",)

    async def precheck(self, services: Lifecycle) -> None:
        await services.records.owned(self.vmid, self.epoch)


@dataclass(frozen=True, kw_only=True)
class CreateGuest(GuestOperation):
    """Make a guest on this node. ``config`` as in qm.conf; ``scsi0: store:8`` makes a disk of 8 GiB."""

    kind: ClassVar[str] = "qmcreate"
    config: Mapping[str, str] = field(default_factory=dict)
    start: bool = False

    def validate(self) -> None:
        if not MIN_VMID <= self.vmid <= MAX_VMID:
            raise BadParameter(
                {"vmid": f"{self.vmid} is not from {MIN_VMID} to {MAX_VMID}"}, todo="Choose another number"
            )
        parse_config(self.config)

    async def precheck(self, services: Lifecycle) -> None:
        await services.records.refuse_taken(self.vmid)

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.create(self.vmid, self.config, report, undo)
        if self.start:
            await services.start(self.vmid, report)


@dataclass(frozen=True, kw_only=True)
class ConfigureGuest(GuestOperation):
    """Change the configuration; ``digest``, where given, must be that of the one read before."""

    kind: ClassVar[str] = "qmconfig"
    values: Mapping[str, str] = field(default_factory=dict)
    delete: tuple[str, ...] = ()
    revert: tuple[str, ...] = ()
    digest: str = ""

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        change = ConfigChange(values=self.values, delete=self.delete, revert=self.revert, digest=self.digest)
        await services.set_config(self.vmid, change, report, undo)


@dataclass(frozen=True, kw_only=True)
class StartGuest(GuestOperation):
    """Start it."""

    kind: ClassVar[str] = "qmstart"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.start(self.vmid, report, epoch=self.epoch)


@dataclass(frozen=True, kw_only=True)
class StopGuest(GuestOperation):
    """End it at once."""

    kind: ClassVar[str] = "qmstop"
    reason: str = "Stopped"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.stop(self.vmid, report, reason=self.reason, epoch=self.epoch)


@dataclass(frozen=True, kw_only=True)
class ShutdownGuest(GuestOperation):
    """Have it shut itself down within ``timeout`` seconds; else stop it (``force_stop``) or fail."""

    kind: ClassVar[str] = "qmshutdown"
    timeout: float = SHUTDOWN_TIMEOUT
    force_stop: bool = False

    def validate(self) -> None:
        _check_timeout(self.timeout)

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.shutdown(self.vmid, report, timeout=self.timeout, force_stop=self.force_stop, epoch=self.epoch)


@dataclass(frozen=True, kw_only=True)
class RebootGuest(GuestOperation):
    """Have it shut itself down, then start it with its present configuration."""

    kind: ClassVar[str] = "qmreboot"
    timeout: float = SHUTDOWN_TIMEOUT

    def validate(self) -> None:
        _check_timeout(self.timeout)

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.reboot(self.vmid, report, timeout=self.timeout)


@dataclass(frozen=True, kw_only=True)
class ResetGuest(GuestOperation):
    """Press its reset button."""

    kind: ClassVar[str] = "qmreset"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.reset(self.vmid, report)


@dataclass(frozen=True, kw_only=True)
class SuspendGuest(GuestOperation):
    """Halt its CPUs."""

    kind: ClassVar[str] = "qmsuspend"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.suspend(self.vmid, report)


@dataclass(frozen=True, kw_only=True)
class ResumeGuest(GuestOperation):
    """Let it run on."""

    kind: ClassVar[str] = "qmresume"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.resume(self.vmid, report)


@dataclass(frozen=True, kw_only=True)
class DestroyGuest(GuestOperation):
    """Remove it with its disks; with ``purge`` out of HA too."""

    kind: ClassVar[str] = "qmdestroy"
    purge: bool = False

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await services.destroy(self.vmid, purge=self.purge, report=report)


@dataclass(frozen=True, kw_only=True)
class MigrateGuest(GuestOperation):
    """Move it to ``target``: live when it runs (``online``), else by its record. ``bwlimit`` in KiB a second; None: the
    datacenter's, 0: none."""

    kind: ClassVar[str] = "qmigrate"
    target: str
    online: bool = True
    bwlimit: int | None = None
    limits: MigrationLimits = field(default_factory=MigrationLimits)

    def validate(self) -> None:
        if self.bwlimit is not None and self.bwlimit < 0:
            raise BadParameter({"bwlimit": "must be 0 or more KiB/s"}, todo="Give 0 for no limit")

    async def precheck(self, services: Lifecycle) -> None:
        view = await services.records.owned(self.vmid, self.epoch)
        if self.target == services.node:
            raise BadParameter(
                {"target": f"the guest is on node {self.target} already"}, todo="Choose another node: racimo node list"
            )
        node = await services.layout.nodes.find(self.target)
        if node is None:
            known = ", ".join(sorted(other.name for other in await services.layout.nodes.records()))
            raise NotFound(
                f"Node {self.target} does not exist",
                why=f"the datacenter has {known}",
                todo="Choose one of these; see: racimo node list",
            )
        if node.record.witness:
            raise Refused(f"Node {self.target} cannot run guests", why="it is a witness", todo="Choose another node")
        if node.record.leaving:
            raise Refused(f"Node {self.target} takes no guests", why="it is leaving", todo="Choose another node")
        if self.vmid in services.host.vmids and not self.online:
            raise Conflict(
                f"Guest {self.vmid} is running",
                why="an offline migration moves stopped guests only",
                todo="Migrate it online, or shut it down first",
            )
        if view.state not in (RunState.STOPPED, RunState.RUNNING, RunState.PAUSED):
            raise Conflict(
                f"Guest {self.vmid} is {view.state}", why="a start or stop is under way", todo="Try again shortly"
            )

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        async with services.busy.hold(self.vmid):
            view = await services.records.owned(self.vmid, self.epoch)
            if self.vmid not in services.host.vmids:
                await self._refuse_local(services, view.guest.config)
                path = f"/nodes/{self.target}/qemu/{self.vmid}/racimo/check"
                await services.peers.call(self.target, "POST", path, timeout=CHECK_TIMEOUT)
                await move_stopped(services, await services.settled(view), self.target, report)
                return
            await self._refuse_local(services, services.host.started_with(self.vmid).config)
            limits = await self._limits(services)
            await LiveMigration(services, view, self.target, limits, report).run()

    async def _refuse_local(self, services: Lifecycle, config: Mapping[str, str]) -> None:
        local = await services.assembly.local_volumes(config)
        if local:
            raise Refused(
                f"Guest {self.vmid} cannot migrate to node {self.target}",
                why=f"{', '.join(local)} exist on node {services.node} only",
                todo="Move these disks to a storage that both nodes share",
            )

    async def _limits(self, services: Lifecycle) -> MigrationLimits:
        if self.bwlimit is not None:
            return replace(self.limits, bandwidth=self.bwlimit * KIB)
        settings = await services.layout.datacenter.find("settings")
        return replace(self.limits, bandwidth=settings.record.migration_bandwidth) if settings else self.limits


def _check_timeout(timeout: float) -> None:
    if not 0 <= timeout <= 86400:
        raise BadParameter({"timeout": "must be from 0 to 86400 seconds"}, todo="Give another time")
