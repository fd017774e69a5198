"""A backup of one guest: all its disks as they are at one instant, then one archive of them.

The disks go to temporary images beside the archive: of a running guest by QEMU's backup jobs, of a stopped one by
``qemu-img``. The archive gets its name when it is complete. Whatever ends a backup leaves no job, image or archive.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING

from racimo.errors import Conflict, Refused
from racimo.guest.agent_commands import Agent
from racimo.guest.backup_space import demand_space, while_there_is_space
from racimo.guest.config import parse_config, running_config
from racimo.guest.qemu.block_graph import TRANSACTION_TIMEOUT, demand_drive, drive_nodes
from racimo.guest.qemu.jobs import CONCLUDED, add_target, end_jobs, follow_jobs, remove_target
from racimo.guest.unbroken import unbroken
from racimo.model.guest import RunState
from racimo.storage.archive import Member, write_archive
from racimo.storage.archive_names import FORMATS, ArchiveName, notes_file, protected_file
from racimo.storage.base import BlockSource, VolumeId
from racimo.storage.filesystem import takes_locks
from racimo.storage.images import convert_image, create_image

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from racimo.guest.config import GuestConfig
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.qemu.monitor import Monitor
    from racimo.guest.records import GuestView
    from racimo.task.operation import Report

SCHEMA = 1
"""Of ``guest.json`` in an archive."""
STOP_TIMEOUT = 600.0
"""Seconds that a guest may take to shut down for a backup in the mode ``stop``."""
ROUNDS = 60
"""Names that are tried where another backup has one: each a second later."""


class Mode(StrEnum):
    """What happens to a running guest."""

    SNAPSHOT = "snapshot"
    """It runs on."""
    SUSPEND = "suspend"
    """Its CPUs halt while the copy begins."""
    STOP = "stop"
    """It is shut down, copied, and started again before the copies are packed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupWish:
    """How to back up. ``limit`` in bytes a second, 0: none."""

    storage: str
    mode: Mode = Mode.SNAPSHOT
    compress: bool = True
    notes: str = ""
    protected: bool = False
    limit: int = 0


@dataclass(slots=True)
class _Taken:
    """What goes into the archive: the guest's description, and one image for each of its disks."""

    description: bytes = b""
    images: dict[str, Path] = field(default_factory=dict)

    @property
    def members(self) -> list[Member]:
        images = [Member(f"disk-{key}.qcow2", path) for key, path in self.images.items()]
        return [Member("guest.json", self.description), *images]


async def back_up(life: Lifecycle, vmid: int, wish: BackupWish, report: Report) -> VolumeId:
    """Back a guest of this node up to ``wish.storage``. Its lock must be held by the calling task."""
    folder, token = await life.assembly.volumes.dump(wish.storage), secrets.token_hex(8)
    begun, taken = time.time(), _Taken()
    archive = folder / f".{token}.tmp"
    backup = Backup(life, vmid, wish, report, folder, token)
    try:
        await backup.take(taken)
        report.log("packing the copies")
        ending = ".zst" if wish.compress else ""
        writing = write_archive(
            archive, taken.members, compress=wish.compress, limit=wish.limit,
            told=lambda done: report.progress(0.5 + done / 2, "packing"),
        )  # fmt: skip
        await writing
        name = ArchiveName(vmid=vmid, ctime=int(begun), format=f"tar{ending}")
        path = await unbroken(asyncio.to_thread(_publish, archive, name, wish))
    finally:
        for image in (*taken.images.values(), archive):
            image.unlink(missing_ok=True)
    size = (await asyncio.to_thread(path.stat)).st_size
    report.log(f"archive {path.name}: {size} bytes after {time.time() - begun:.0f} s")
    return VolumeId(wish.storage, f"backup/{path.name}")


@dataclass(frozen=True, slots=True)
class Backup:
    """The copies of one guest's disks, into hidden files of ``folder`` that begin with ``token``."""

    life: Lifecycle
    vmid: int
    wish: BackupWish
    report: Report
    folder: Path
    token: str

    async def take(self, taken: _Taken) -> None:
        """Fill ``taken``; the guest is let go of when this returns."""
        life, vmid = self.life, self.vmid
        view = await life.records.owned(vmid)
        if vmid not in life.host.vmids or self.wish.mode is not Mode.STOP:
            await self._take(taken)
            return
        if view.state is RunState.PAUSED:
            raise Conflict(f"Guest {vmid} is paused", why="it cannot shut down", todo="Take the mode snapshot")
        try:
            await life.shutdown(vmid, self.report, timeout=STOP_TIMEOUT, reason="Stopped for its backup")
            await self._take(taken)
        finally:
            await unbroken(self._started_again())

    async def _started_again(self) -> None:
        if self.vmid not in self.life.host.vmids:
            await self.life.start(self.vmid, self.report)

    async def _take(self, taken: _Taken) -> None:
        life, vmid = self.life, self.vmid
        async with life.busy.hold(vmid):
            view = await life.records.owned(vmid)
            running = vmid in life.host.vmids
            started = life.host.started_with(vmid).config if running else None
            mapping = running_config(started, view.guest.config) if started else dict(view.guest.config)
            mapping.pop("lock", None)
            config = parse_config(mapping)
            disks = self._disks(config)
            needed = [await life.assembly.volumes.volume(volume) for volume in disks.values()]
            await demand_space(self.folder, sum(each.used for each in needed))
            taken.images |= {key: self.folder / f".{self.token}-{key}.tmp" for key in disks}
            if running:
                await self._running(view, config, taken.images)
            else:
                await self._stopped(disks, taken.images)
        facts = {
            key: {"size": found.size, "storage": found.id.storage, "format": found.format}
            for key, found in zip(disks, needed, strict=True)
        }
        taken.description = json.dumps(
            {"schema": SCHEMA, "vmid": vmid, "node": life.node, "time": int(time.time()), "config": mapping,
             "disks": facts}, indent=1,
        ).encode()  # fmt: skip

    def _disks(self, config: GuestConfig) -> dict[str, VolumeId]:
        disks = {}
        for key, drive in config.disks.items():
            if drive.backup is False:
                self.report.log(f"{key} is left out, as its option 'backup' says")
            elif drive.volume is not None:
                disks[key] = drive.volume
            else:
                raise Refused(
                    f"Guest {self.vmid} was not backed up", why=f"{key} is {drive.file}, which is on no storage",
                    todo=f"Leave it out: racimo guest set {self.vmid} {key}=…,backup=0",
                )  # fmt: skip
        return disks

    async def _stopped(self, disks: Mapping[str, VolumeId], images: Mapping[str, Path]) -> None:
        volumes = self.life.assembly.volumes
        for number, (key, volume) in enumerate(disks.items()):
            self.report.log(f"{key}: copying {volume}")
            source, found = await volumes.path(volume), await volumes.volume(volume)
            told = partial(self._tell, number, len(disks))
            await convert_image(source, images[key], found.format, "qcow2", told)
            images[key].chmod(0o600)

    async def _running(self, view: GuestView, config: GuestConfig, images: Mapping[str, Path]) -> None:
        """By one backup job for each disk, all begun in one transaction."""
        monitor = await self.life.host.monitor(self.vmid)
        names = [f"backup-{key}" for key in images]
        await _let_go(monitor, names)  # what a daemon that died left
        nodes = await drive_nodes(monitor)
        async with AsyncExitStack() as open_targets:
            open_targets.push_async_callback(_let_go, monitor, names)
            actions: list[dict[str, object]] = []
            for key, path in images.items():
                node = demand_drive(nodes, key, monitor.label)
                await create_image(path, "qcow2", node.size)
                path.chmod(0o600)
                locking = await asyncio.to_thread(takes_locks, path)
                protocol = {"driver": "file", "filename": str(path)}
                await add_target(
                    monitor, f"backup-{key}", BlockSource(format="qcow2", protocol=protocol, locking=locking)
                )
                data = {"device": node.node, "target": f"backup-{key}", "sync": "full", "job-id": f"backup-{key}",
                        "auto-dismiss": False, "speed": self.wish.limit // len(images)}  # fmt: skip
                actions.append({"type": "blockdev-backup", "data": data})
            if actions:
                await self._begin(view, config, monitor, actions)
                copying = follow_jobs(monitor, names, CONCLUDED, lambda done: self._tell(0, 1, done))
                await while_there_is_space(self.folder, copying)

    async def _begin(
        self, view: GuestView, config: GuestConfig, monitor: Monitor, actions: list[dict[str, object]]
    ) -> None:
        self.report.log(f"copying {len(actions)} disks of the running guest as they are now")
        begin = partial(monitor.execute, "transaction", {"actions": actions}, timeout=TRANSACTION_TIMEOUT)
        runs = (await monitor.status()).running
        if self.wish.mode is Mode.SUSPEND and runs:
            async with self._halted(view):
                await begin()
        elif config.agent.enabled and runs:
            async with Agent(self.life.host.paths, self.vmid).frozen(self.report):
                await begin()
        else:
            await begin()

    @asynccontextmanager
    async def _halted(self, view: GuestView) -> AsyncIterator[None]:
        """The guest's CPUs stand still meanwhile. A guest without its lease is left so: the reconciler looks at it."""
        life = self.life
        life.busy.doubt(self.vmid)
        try:
            await life.host.pause(self.vmid)
            yield
        finally:
            life.require_lease(view)
            await unbroken(life.host.cont(self.vmid))

    def _tell(self, number: int, count: int, done: float) -> None:
        self.report.progress((number + done) / count / 2, "copying disks")


async def _let_go(monitor: Monitor, names: list[str]) -> None:
    async def work() -> None:
        await end_jobs(monitor, names)
        for name in names:
            await remove_target(monitor, name)

    await unbroken(work())


def _publish(archive: Path, name: ArchiveName, wish: BackupWish) -> Path:
    """Give a complete archive the first free name, by a hard link: that replaces nothing."""
    for _ in range(ROUNDS):
        path = archive.with_name(str(name))
        try:
            if any(archive.with_name(str(replace(name, format=ending))).exists() for ending in FORMATS):
                raise FileExistsError  # so that no two of a guest have the same time
            os.link(archive, path)
        except FileExistsError:
            name = replace(name, ctime=name.ctime + 1)
            continue
        if wish.protected:
            protected_file(path).touch()
        if wish.notes:
            notes_file(path).write_text(f"{wish.notes}\n")
        descriptor = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return path
    raise Conflict(f"No name was free for {archive.parent / str(name)}", why="there are others of the same minute")
