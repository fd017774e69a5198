"""Copies of a guest's disks: of a stopped one by ``qemu-img``, of a running one by QEMU, all at the same instant."""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from racimo.guest.agent_commands import Agent
from racimo.guest.qemu.block_graph import demand_drive, drive_nodes
from racimo.guest.qemu.jobs import CONCLUDED, add_target, end_jobs, follow_jobs, remove_target
from racimo.guest.unbroken import unbroken

if TYPE_CHECKING:
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.qemu.monitor import Monitor
    from racimo.storage.base import VolumeId
    from racimo.storage.volumes import Volumes
    from racimo.task.operation import Report

TRANSACTION_TIMEOUT = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A disk to be copied: the drive ``key`` with its volume, to ``storage`` in ``image_format``."""

    key: str
    volume: VolumeId
    storage: str
    image_format: str | None


@dataclass(frozen=True, slots=True)
class Copies:
    """Makes copies of disks of the guest ``vmid`` for the guest ``target``. They go again by ``undo``."""

    life: Lifecycle
    vmid: int
    target: int
    report: Report
    undo: AsyncExitStack

    @property
    def _volumes(self) -> Volumes:
        return self.life.assembly.volumes

    async def stopped(self, wanted: list[Wanted], snapshot: str | None = None) -> dict[str, VolumeId]:
        """Of disks that nobody writes, or as they were in a snapshot."""
        made = {}
        for number, each in enumerate(wanted):
            self.report.log(f"{each.key}: copying {each.volume} to {each.storage}")
            volume = await self._volumes.copy(
                each.volume, each.storage, self.target, image_format=each.image_format, snapshot=snapshot,
                progress=partial(self._tell, number, len(wanted), each.key),
            )  # fmt: skip
            self.undo.push_async_callback(self._volumes.delete, volume)
            made[each.key] = volume
        return made

    async def running(self, wanted: list[Wanted], *, freeze: bool) -> dict[str, VolumeId]:
        """Of disks that the running guest writes: as they all are at the instant when the copying begins."""
        monitor = await self.life.host.monitor(self.vmid)
        nodes, made = await drive_nodes(monitor), {}
        for each in wanted:
            volume = await self._volumes.allocate(
                each.storage, self.target, demand_drive(nodes, each.key, monitor.label).size,
                image_format=each.image_format,
            )  # fmt: skip
            self.undo.push_async_callback(self._volumes.delete, volume)
            made[each.key] = volume
        async with AsyncExitStack() as open_targets:
            actions: list[dict[str, object]] = []
            for each in wanted:
                name = f"copy-{each.key}"
                open_targets.push_async_callback(_let_go, monitor, name)
                await add_target(monitor, name, await self._volumes.block(made[each.key]))
                data = {"device": nodes[each.key].node, "target": name, "sync": "full", "job-id": name,
                        "auto-dismiss": False}  # fmt: skip
                actions.append({"type": "blockdev-backup", "data": data})
            if actions:
                await self._begin(monitor, actions, freeze=freeze)
                names = [f"copy-{each.key}" for each in wanted]
                await follow_jobs(monitor, names, CONCLUDED, lambda done: self.report.progress(done, "copying disks"))
        return made

    async def _begin(self, monitor: Monitor, actions: list[dict[str, object]], *, freeze: bool) -> None:
        self.report.log(f"copying {len(actions)} disks of the running guest as they are now")
        if freeze:
            async with Agent(self.life.host.paths, self.vmid).frozen(self.report):
                await monitor.execute("transaction", {"actions": actions}, timeout=TRANSACTION_TIMEOUT)
            return
        await monitor.execute("transaction", {"actions": actions}, timeout=TRANSACTION_TIMEOUT)

    def _tell(self, number: int, count: int, key: str, done: float) -> None:
        self.report.progress((number + done) / count, f"{key}: copying")


async def _let_go(monitor: Monitor, name: str) -> None:
    async def work() -> None:
        await end_jobs(monitor, [name])
        await remove_target(monitor, name)

    await unbroken(work())
