"""Snapshots of a guest: inside its qcow2 images, with the memory in a file beside them, and a section in its record.

Each step leaves the guest whole. The section is written first, as ``prepare``, and marked ``delete`` before anything
of it goes, so whatever is cut off is known, and the next attempt or a deletion cleans up. A rollback that was cut off
keeps the guest from starting until it was repeated.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound, OperationFailed, RacimoError, Refused
from racimo.guest.agent_commands import Agent
from racimo.guest.config import kept_unused, parse_config, running_config
from racimo.guest.lifecycle import ROLLBACK
from racimo.guest.memory_file import SavedMemory, save_memory
from racimo.guest.qemu.block_graph import drive_nodes, drop_drive_snapshot, snapshot_drives
from racimo.guest.reconcile import HANDED_OVER
from racimo.guest.unbroken import unbroken
from racimo.model.guest import RunState, Snapshot, SnapshotState
from racimo.storage.base import VolumeId

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.guest.config import GuestConfig
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.records import GuestView
    from racimo.storage.volumes import Volumes
    from racimo.task.operation import Report

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{1,39}")
CURRENT = "current"
STATE_SIZE = 1 << 20
"""Bytes of the file for the memory before it is written; it grows."""


def check_name(name: str) -> None:
    """Raises ``BadParameter`` for what cannot be a snapshot's name."""
    if not NAME.fullmatch(name) or name == CURRENT:
        raise BadParameter(
            {"snapname": f"'{name}' is no name: 2 to 40 letters, digits, - and _, a letter first, and not 'current'"}
        )


def demand_snapshot(view: GuestView, name: str) -> Snapshot:
    """The section of that name. Raises ``NotFound``."""
    found = view.guest.snapshots.get(name)
    if found is None:
        known = ", ".join(sorted(view.guest.snapshots)) or "no snapshots"
        raise NotFound(
            f"snapshot '{name}' does not exist", why=f"guest {view.guest.vmid} has {known}",
            todo=f"racimo guest snapshot list {view.guest.vmid}",
        )  # fmt: skip
    return found


@dataclass(frozen=True, slots=True)
class Snapshots:
    """The snapshots of this node's guests. Every method expects the guest's lock to be held by the calling task."""

    life: Lifecycle

    @property
    def _volumes(self) -> Volumes:
        return self.life.assembly.volumes

    async def create(
        self, vmid: int, name: str, description: str, report: Report, undo: AsyncExitStack, *, memory: bool
    ) -> None:
        """Take one, of all disks at one instant; with ``memory`` of the running guest's too."""
        life = self.life
        async with life.busy.hold(vmid):
            view = await life.records.owned(vmid)
            self._refuse_taken(view, name)
            running = vmid in life.host.vmids
            started = life.host.started_with(vmid) if running else None
            config = running_config(started.config, view.guest.config) if started else dict(view.guest.config)
            drives = await self._drives(parse_config(config), vmid)
            if name in view.guest.snapshots:
                report.log(f"an earlier attempt at '{name}' was cut off: it is cleaned up first")
                view = await self._erase(view, name, report, force=False)
            if memory and not running:
                report.log("the guest does not run: there is no memory to save")
            elif memory and view.state is RunState.PAUSED:
                raise Conflict(
                    f"The memory of guest {vmid} cannot be saved", why="the guest is paused",
                    todo=f"Resume it first: racimo guest resume {vmid}",
                )  # fmt: skip
            section = Snapshot(
                config=config, parent=view.guest.parent, description=description, snaptime=int(time.time()),
                cpu=started.cpu if started and memory else "",
                vmstate=str(self._state_volume(vmid, name, drives)) if running and memory else "",
                state=SnapshotState.PREPARE,
            )  # fmt: skip
            undo.push_async_callback(self._undo, vmid, name, report)
            view = await life.records.rewrite(
                view, replace(view.guest, snapshots={**view.guest.snapshots, name: section})
            )
            if section.vmstate:
                await self._take_with_memory(view, name, section, drives, report)
            elif running:
                await self._take_running(vmid, name, config, drives, report)
            else:
                for volume in drives.values():
                    await self._volumes.driver(volume.storage).snapshot(volume.name, name)
            done = {**view.guest.snapshots, name: replace(section, state=SnapshotState.DONE)}
            await unbroken(life.records.rewrite(view, replace(view.guest, snapshots=done, parent=name)))
            undo.pop_all()
            report.log(f"snapshot '{name}' of guest {vmid} was taken, of {', '.join(drives) or 'no disk'}")

    async def delete(self, vmid: int, name: str, report: Report, *, force: bool) -> None:
        """Remove one; also while the guest runs. ``force``: what cannot be removed is told of and forgotten."""
        async with self.life.busy.hold(vmid):
            view = await self.life.records.owned(vmid)
            demand_snapshot(view, name)
            await self._erase(view, name, report, force=force)
            report.log(f"snapshot '{name}' of guest {vmid} was deleted")

    async def rollback(self, vmid: int, name: str, report: Report, *, start: bool) -> None:
        """Take the guest back: its disks and configuration, and with saved memory to where it was. Else it stays
        stopped, unless ``start``."""
        life = self.life
        section = demand_snapshot(await life.records.owned(vmid), name)
        if section.state is not SnapshotState.DONE:
            raise Conflict(
                f"Guest {vmid} cannot go back to '{name}'", why=f"the snapshot is in '{section.state}': it was cut off",
                todo=f"Delete it: racimo guest snapshot delete {vmid} {name}",
            )  # fmt: skip
        volumes = await self._all_there(vmid, name, section)
        if vmid in life.host.vmids:
            await life.stop(vmid, report, reason="Rolled back")
        async with life.busy.hold(vmid):
            view = await life.settled(await life.records.owned(vmid))
            locked = {**view.guest.config, "lock": ROLLBACK}
            view = await life.records.rewrite(view, replace(view.guest, config=locked))
            await unbroken(self._go_back(name, volumes))
            config = kept_unused(view.guest.config, section.config)
            config.pop("lock", None)
            await unbroken(life.records.rewrite(view, replace(view.guest, config=config, parent=name)))
            report.log(f"the disks and the configuration of guest {vmid} are those of '{name}'")
        if section.vmstate:
            path = await self._volumes.path(section.vmstate)
            await life.start(vmid, report, memory=SavedMemory(path=path, cpu=section.cpu))
        elif start:
            await life.start(vmid, report)

    async def describe(self, vmid: int, name: str, description: str) -> None:
        """Change its description."""
        view = await self.life.records.owned(vmid)
        changed = replace(demand_snapshot(view, name), description=description)
        await self.life.records.rewrite(view, replace(view.guest, snapshots={**view.guest.snapshots, name: changed}))

    # -- inside --------------------------------------------------------------------------------------------------

    def _refuse_taken(self, view: GuestView, name: str) -> None:
        vmid, found = view.guest.vmid, view.guest.snapshots.get(name)
        if found is not None and found.state is not SnapshotState.PREPARE:
            raise AlreadyExists(
                f"snapshot name '{name}' already exists", why=f"guest {vmid} has it", todo="Choose another name"
            )
        config = view.guest.config
        if config.get("template") == "1":
            raise Refused(f"Guest {vmid} is a template", why="templates do not change", todo="Clone it")
        if config.get("lock") == ROLLBACK:
            raise Conflict(
                f"Guest {vmid} is locked", why="a rollback was cut off", todo=f"Repeat it: racimo guest rollback {vmid}"
            )

    async def _drives(self, config: GuestConfig, vmid: int) -> dict[str, VolumeId]:
        """The volumes to take, by drive. Raises ``Refused`` that names each that cannot."""
        drives, why = {}, []
        for key, drive in config.disks.items():
            if drive.volume is None or drive.ro:
                continue
            able = self._volumes.driver(drive.volume.storage).capabilities
            found = await self._volumes.volume(drive.volume)
            if found.format not in able.snapshot_formats:
                ways = f"takes snapshots of {', '.join(able.snapshot_formats)} only" if able.snapshots else "takes none"
                why.append(f"{key} is {found.format}, and the storage {drive.volume.storage} {ways}")
            drives[key] = drive.volume
        if why:
            raise Refused(
                f"No snapshot of guest {vmid} is possible", why="; ".join(why),
                todo=f"Copy them to qcow2 disks: racimo guest set {vmid} DISK=STORAGE:GIB,format=qcow2",
            )  # fmt: skip
        return drives

    def _state_volume(self, vmid: int, name: str, drives: dict[str, VolumeId]) -> VolumeId:
        if not drives:
            raise Refused(f"The memory of guest {vmid} is not saved", why="it has no disk, so no storage to keep it on")
        return VolumeId(next(iter(drives.values())).storage, f"{vmid}/vm-{vmid}-state-{name}.raw")

    async def _take_running(
        self, vmid: int, name: str, config: dict[str, str], drives: dict[str, VolumeId], report: Report
    ) -> None:
        monitor = await self.life.host.monitor(vmid)
        if not parse_config(config).agent.enabled or not (await monitor.status()).running:
            await unbroken(snapshot_drives(monitor, drives, name))
            return
        async with Agent(self.life.host.paths, vmid).frozen(report):
            await unbroken(snapshot_drives(monitor, drives, name))

    async def _take_with_memory(
        self, view: GuestView, name: str, section: Snapshot, drives: dict[str, VolumeId], report: Report
    ) -> None:
        vmid, volume = view.guest.vmid, VolumeId.parse(section.vmstate)
        await self._volumes.allocate(volume.storage, vmid, STATE_SIZE, image_format="raw", name=volume.name)
        monitor = await self.life.host.monitor(vmid)
        runs = (await monitor.status()).running
        try:
            await save_memory(
                monitor, await self._volumes.path(volume), report, lambda: snapshot_drives(monitor, drives, name)
            )
        finally:
            if runs:
                await unbroken(self._go_on(view))

    async def _go_on(self, view: GuestView) -> None:
        """Let the guest run that was halted for its snapshot. What keeps it from that is the reconciler's matter."""
        vmid, life = view.guest.vmid, self.life
        life.busy.doubt(vmid)
        if vmid in life.host.vmids and not (await (await life.host.monitor(vmid)).status()).running:
            life.require_lease(view)
            await life.host.cont(vmid)

    async def _undo(self, vmid: int, name: str, report: Report) -> None:
        async with self.life.busy.hold(vmid):
            view = await self.life.records.owned(vmid)
            if name in view.guest.snapshots:
                await self._erase(view, name, report, force=False)

    async def _erase(self, view: GuestView, name: str, report: Report, *, force: bool) -> GuestView:
        """Remove what there is of a snapshot, its section last. Repeating it does no harm."""
        records, vmid = self.life.records, view.guest.vmid
        section = view.guest.snapshots[name]
        if section.state is SnapshotState.DONE:
            marked = {**view.guest.snapshots, name: replace(section, state=SnapshotState.DELETE)}
            view = await records.rewrite(view, replace(view.guest, snapshots=marked))
        plugged = await self._plugged(vmid)
        for drive in parse_config(section.config).disks.values():
            if drive.volume is None:
                continue
            try:
                await self._drop(vmid, drive.volume, name, plugged)
            except NotFound as error:
                report.log(f"there is nothing of '{name}' to delete: {error}")
            except RacimoError as error:
                if not force:
                    raise
                report.warn(f"'{name}' stays in {drive.volume}: {error}")
        if section.vmstate:
            try:
                await self._volumes.delete(section.vmstate)
            except NotFound:
                report.log(f"the volume {section.vmstate} is gone already")
        left = {
            other: replace(kept, parent=section.parent) if kept.parent == name else kept
            for other, kept in view.guest.snapshots.items()
            if other != name
        }
        parent = section.parent if view.guest.parent == name else view.guest.parent
        return await records.rewrite(view, replace(view.guest, snapshots=left, parent=parent))

    async def _plugged(self, vmid: int) -> dict[str, str]:
        """The drives of the running guest by their file."""
        if vmid not in self.life.host.vmids:
            return {}
        nodes = await drive_nodes(await self.life.host.monitor(vmid))
        return {node.file: key for key, node in nodes.items()}

    async def _drop(self, vmid: int, volume: VolumeId, name: str, plugged: dict[str, str]) -> None:
        key = plugged.get(str(await self._volumes.path(volume)))
        if key is not None:
            monitor = await self.life.host.monitor(vmid)
            state = (await monitor.status()).name
            if state in HANDED_OVER:  # QEMU has let go of its disks, and would end at a write
                raise Conflict(
                    f"Snapshot '{name}' cannot be deleted now", why=f"the guest is in '{state}'",
                    todo="Try again when it runs",
                )  # fmt: skip
            await drop_drive_snapshot(monitor, key, name)
            return
        driver = self._volumes.driver(volume.storage)
        if name in await driver.snapshots(volume.name):
            await driver.drop_snapshot(volume.name, name)

    async def _all_there(self, vmid: int, name: str, section: Snapshot) -> list[VolumeId]:
        """The volumes to take back. Raises ``OperationFailed`` before anything is changed when one lacks it."""
        volumes = [
            drive.volume for drive in parse_config(section.config).disks.values() if drive.volume and not drive.ro
        ]
        for volume in volumes:
            if name not in await self._volumes.driver(volume.storage).snapshots(volume.name):
                raise OperationFailed(
                    f"Guest {vmid} cannot go back to '{name}'", why=f"{volume} has no snapshot of that name",
                    todo=f"Delete it: racimo guest snapshot delete {vmid} {name}",
                )  # fmt: skip
        if section.vmstate:
            await self._volumes.path(section.vmstate)
        return volumes

    async def _go_back(self, name: str, volumes: list[VolumeId]) -> None:
        for volume in volumes:
            await self._volumes.driver(volume.storage).rollback(volume.name, name)
