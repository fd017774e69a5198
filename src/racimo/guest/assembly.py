"""The seam between a guest's life and what it is made of: disks, command line, seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from racimo.guest.config import GuestConfig
    from racimo.guest.host import GuestLaunch
    from racimo.model.guest import Guest
    from racimo.storage.base import BlockSource, VolumeId
    from racimo.storage.volumes import Volumes
    from racimo.task.operation import Report


class Assembly(Protocol):
    """Turns configurations into disks and QEMU command lines on this node."""

    @property
    def volumes(self) -> Volumes:
        """The storages of this node."""

    async def allocate(
        self, vmid: int, config: Mapping[str, str], report: Report, undo: AsyncExitStack
    ) -> dict[str, str]:
        """Check a new configuration, make the disks it asks for (their removal goes on ``undo``), and complete it.

        The result names real volumes, a pinned machine type and MAC addresses. Raises ``BadParameter``, ``Refused``.
        """

    async def purge(self, guest: Guest, report: Report) -> None:
        """Remove the guest's own volumes, those of its snapshots too; those that are gone already are no error."""

    async def remove(self, vmid: int, volume: VolumeId, report: Report) -> None:
        """Remove a volume if it is the guest's own; one that is gone already is no error."""

    async def plan(self, guest: Guest, *, incoming: bool = False, cpu: str = "") -> GuestLaunch:
        """What to launch for ``guest`` here. For the target of a migration ``cpu`` is what the source runs with.

        Raises ``Refused`` with the reason why this node cannot run it: no such bridge, storage, machine type, CPU.
        """

    async def block(self, vmid: int, config: GuestConfig, key: str) -> BlockSource | None:
        """What the running guest's QEMU is to open for one drive; None for an empty one. A seed is made anew."""

    async def local_volumes(self, config: Mapping[str, str]) -> tuple[str, ...]:
        """The volumes of a configuration that no other node can open."""
