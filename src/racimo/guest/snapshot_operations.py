"""Snapshots as operations. The kinds are the task types of the Proxmox VE API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from racimo.guest.operations import GuestOperation
from racimo.guest.snapshots import Snapshots, check_name

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.guest.lifecycle import Lifecycle
    from racimo.task.operation import Report


@dataclass(frozen=True, kw_only=True)
class TakeSnapshot(GuestOperation):
    """Take a snapshot of all disks at one instant; with ``memory`` of a running guest's memory too."""

    kind: ClassVar[str] = "qmsnapshot"
    name: str
    description: str = ""
    memory: bool = False

    def validate(self) -> None:
        check_name(self.name)

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await Snapshots(services).create(self.vmid, self.name, self.description, report, undo, memory=self.memory)


@dataclass(frozen=True, kw_only=True)
class DeleteSnapshot(GuestOperation):
    """Delete one; ``force``: forget it also where part of it cannot be deleted."""

    kind: ClassVar[str] = "qmdelsnapshot"
    name: str
    force: bool = False

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await Snapshots(services).delete(self.vmid, self.name, report, force=self.force)


@dataclass(frozen=True, kw_only=True)
class RollBack(GuestOperation):
    """Take the guest back to a snapshot; what ran is stopped first. ``start`` it then, also without saved memory."""

    kind: ClassVar[str] = "qmrollback"
    name: str
    start: bool = False

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await Snapshots(services).rollback(self.vmid, self.name, report, start=self.start)


@dataclass(frozen=True, kw_only=True)
class DescribeSnapshot(GuestOperation):
    """Change a snapshot's description."""

    kind: ClassVar[str] = "qmsnapdescribe"
    name: str
    description: str

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await Snapshots(services).describe(self.vmid, self.name, self.description)
