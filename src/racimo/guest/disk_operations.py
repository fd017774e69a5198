"""Templates, clones and disks as operations. The kinds are the task types of the Proxmox VE API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from racimo.errors import BadParameter
from racimo.guest import disks
from racimo.guest.cloning import CloneWish, clone, make_template
from racimo.guest.config_options import HOST_NAME
from racimo.guest.disks import SIZE, GiveWish, MoveWish
from racimo.guest.operations import GuestOperation
from racimo.model.guest import MAX_VMID, MIN_VMID

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.guest.lifecycle import Lifecycle
    from racimo.task.operation import Report


@dataclass(frozen=True, kw_only=True)
class MakeTemplate(GuestOperation):
    """Turn a stopped guest into a template, for good."""

    kind: ClassVar[str] = "qmtemplate"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await make_template(services, self.vmid, report, undo)


@dataclass(frozen=True, kw_only=True)
class CloneGuest(GuestOperation):
    """Make another guest from this one."""

    kind: ClassVar[str] = "qmclone"
    wish: CloneWish

    @property
    def locks(self) -> tuple[str, ...]:
        return (f"guests/{self.vmid}", f"guests/{self.wish.newid}")

    def validate(self) -> None:
        if not MIN_VMID <= self.wish.newid <= MAX_VMID:
            raise BadParameter({"newid": f"{self.wish.newid} is not from {MIN_VMID} to {MAX_VMID}"})
        if self.wish.name:
            try:
                HOST_NAME.parse(self.wish.name)
            except ValueError as error:
                raise BadParameter({"name": str(error)}) from error

    async def precheck(self, services: Lifecycle) -> None:
        await super().precheck(services)
        await services.records.refuse_taken(self.wish.newid)

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await clone(services, self.vmid, self.wish, report, undo)


@dataclass(frozen=True, kw_only=True)
class ResizeDisk(GuestOperation):
    """Grow a disk, by ``+size`` or to ``size``."""

    kind: ClassVar[str] = "resize"
    key: str
    size: str
    digest: str = ""

    def validate(self) -> None:
        if not SIZE.fullmatch(self.size):
            raise BadParameter({"size": f"'{self.size}' is not a size, such as 20G or +5G"})

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await disks.resize(services, self.vmid, self.key, self.size, self.digest, report)


@dataclass(frozen=True, kw_only=True)
class MoveDisk(GuestOperation):
    """Move a disk to another storage or format."""

    kind: ClassVar[str] = "qmmove"
    wish: MoveWish

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await disks.move(services, self.vmid, self.wish, report, undo)


@dataclass(frozen=True, kw_only=True)
class GiveDisk(GuestOperation):
    """Give a disk to another guest of this node."""

    kind: ClassVar[str] = "qmreassign"
    wish: GiveWish

    @property
    def locks(self) -> tuple[str, ...]:
        return (f"guests/{self.vmid}", f"guests/{self.wish.target}")

    def validate(self) -> None:
        if self.wish.target == self.vmid:
            raise BadParameter({"target-vmid": "is the guest itself"}, todo="Name another guest")

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await disks.give(services, self.vmid, self.wish, report, undo)


@dataclass(frozen=True, kw_only=True)
class UnlinkDisks(GuestOperation):
    """Unplug disks; ``force``: remove them for good."""

    kind: ClassVar[str] = "qmunlink"
    keys: tuple[str, ...]
    force: bool = False

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        await disks.unlink(services, self.vmid, self.keys, report, undo, force=self.force)
