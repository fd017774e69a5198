"""What guests are made of on this node: configurations become volumes, and volumes a QEMU command line."""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import structlog

from racimo.errors import BadParameter, NotFound, Refused
from racimo.guest.cloudinit import cloud_init_seed, seed_image
from racimo.guest.config import parse_config
from racimo.guest.config_new import complete_new, fill_in
from racimo.guest.held import guest_volumes
from racimo.guest.host import GuestLaunch
from racimo.guest.network import Tap, demand_bridge
from racimo.guest.qemu.command_line import Launch, command_line, tap_name
from racimo.guest.qemu.machine import pin_machine
from racimo.storage.base import BlockSource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack
    from pathlib import Path

    from racimo.guest.config import GuestConfig
    from racimo.guest.drives import Drive
    from racimo.guest.qemu.machine import Hypervisor
    from racimo.model.guest import Guest
    from racimo.model.paths import NodePaths
    from racimo.storage.base import VolumeId
    from racimo.storage.volumes import Volumes
    from racimo.task.operation import Report

log = structlog.get_logger()

SEED = "cloudinit.iso"
"""File of the cloud-init seed in the guest's run directory; made anew at each start."""


class NodeAssembly:
    """``Assembly`` over this node's storages and its QEMU."""

    def __init__(self, volumes: Volumes, hypervisor: Hypervisor, paths: NodePaths, node: str, memory: int) -> None:
        self.volumes, self.hypervisor, self._paths, self._node = volumes, hypervisor, paths, node
        self._memory = memory
        """Bytes of the node's memory."""

    async def allocate(
        self, vmid: int, config: Mapping[str, str], report: Report, undo: AsyncExitStack
    ) -> dict[str, str]:
        """See ``Assembly.allocate``."""
        filled = fill_in(config, secrets.randbits)
        if "meta" not in filled:
            machine = pin_machine(parse_config(filled).machine, self.hypervisor)
            filled = complete_new(
                filled, machine=machine, qemu=self.hypervisor.version, created=int(time.time()),
                randbits=secrets.randbits,
            )  # fmt: skip
        checked = parse_config(filled)
        drives = {key: await self._provide(vmid, key, drive, report, undo) for key, drive in checked.drives.items()}
        return replace(checked, drives=drives).to_mapping()

    async def purge(self, guest: Guest, report: Report) -> None:
        """See ``Assembly.purge``. Only volumes that carry the guest's number are removed."""
        volumes = sorted(guest_volumes(guest))
        for volume in volumes:
            await self._refuse_needed(volume)
        for volume in volumes:
            await self.remove(guest.vmid, volume, report)

    async def remove(self, vmid: int, volume: VolumeId, report: Report) -> None:
        """See ``Assembly.remove``."""
        try:
            if (await self.volumes.volume(volume)).vmid != vmid:
                return
            await self.volumes.delete(volume)
        except NotFound:
            report.log(f"the volume {volume} is gone already")
        else:
            report.log(f"removed the volume {volume}")

    async def plan(self, guest: Guest, *, incoming: bool = False, cpu: str = "") -> GuestLaunch:
        """See ``Assembly.plan``."""
        config = parse_config(guest.config)
        self._check_memory(guest, config)
        taps = await self._taps(guest.vmid, config)
        files: dict[str, bytes] = {}
        blocks: dict[str, BlockSource] = {}
        run = self._paths.guest_run(guest.vmid)
        for key, drive in config.drives.items():
            if drive.is_cloud_init:
                files[SEED] = seed_image(cloud_init_seed(config, guest.vmid))
                blocks[key] = BlockSource(format="raw", protocol={"driver": "file", "filename": str(run / SEED)})
            elif drive.volume is not None:
                blocks[key] = await self.volumes.block(drive.volume)
        launch = Launch(
            vmid=guest.vmid,
            node=self._node,
            epoch=guest.epoch,
            machine=pin_machine(config.machine, self.hypervisor),
            run=run,
            log=self._paths.guest_log(guest.vmid),
            blocks=blocks,
            incoming=incoming,
            cpu=cpu or None,
        )
        return GuestLaunch(
            vmid=guest.vmid,
            epoch=guest.epoch,
            argv=tuple(command_line(config, self.hypervisor, launch)),
            taps=taps,
            files=files,
            incoming=incoming,
        )

    async def block(self, vmid: int, config: GuestConfig, key: str) -> BlockSource | None:
        """See ``Assembly.block``. The seed is a new file: QEMU has the old one open until it changes the disc."""
        drive = config.drives[key]
        if drive.is_cloud_init:
            path = self._paths.guest_run(vmid) / SEED
            await asyncio.to_thread(_write_seed, path, seed_image(cloud_init_seed(config, vmid)))
            return BlockSource(format="raw", protocol={"driver": "file", "filename": str(path)})
        return await self.volumes.block(drive.volume) if drive.volume is not None else None

    async def local_volumes(self, config: Mapping[str, str]) -> tuple[str, ...]:
        """See ``Assembly.local_volumes``."""
        volumes = [drive.volume for drive in parse_config(config).drives.values()]
        return tuple(str(volume) for volume in volumes if volume and not self.volumes.is_shared(volume))

    async def renumber(self, guest: Guest, vmid: int) -> Guest:
        """A stopped guest's record under another number, its own volumes renamed to fit."""
        config = parse_config(guest.config)
        drives = {}
        for key, drive in config.drives.items():
            volume = drive.volume
            own = volume is not None and (await self.volumes.volume(volume)).vmid == guest.vmid
            drives[key] = replace(drive, file=str(await self.volumes.give(volume, vmid))) if own and volume else drive
        return replace(guest, vmid=vmid, config=replace(config, drives=drives).to_mapping())

    async def _provide(self, vmid: int, key: str, drive: Drive, report: Report, undo: AsyncExitStack) -> Drive:
        """The drive with a real volume: made here if it asks for a new one, else looked up."""
        if drive.is_empty or drive.is_cloud_init:
            return drive
        size, storage = drive.new_size, drive.storage
        if size is None or storage is None:
            return await self._existing(vmid, key, drive)
        if drive.import_from:
            report.log(f"{key}: importing {drive.import_from} to {storage}")
            volume = await self.volumes.import_image(
                storage, vmid, drive.import_from, image_format=drive.format,
                progress=lambda done: report.progress(done, f"{key}: importing"),
            )  # fmt: skip
        else:
            volume = await self.volumes.allocate(storage, vmid, size, image_format=drive.format)
        undo.push_async_callback(partial(self.volumes.delete, volume))
        made = await self.volumes.volume(volume)
        report.log(f"{key}: made {volume}, {made.size >> 20} MiB")
        return replace(drive, file=str(volume), size=made.size, import_from=None, format=None)

    async def _existing(self, vmid: int, key: str, drive: Drive) -> Drive:
        if drive.volume is None:
            return drive
        found = await self.volumes.volume(drive.volume)
        if found.vmid is not None and found.vmid != vmid:
            raise BadParameter({key: f"{drive.volume} belongs to guest {found.vmid}"}, todo="Choose another volume")
        return drive if drive.is_cdrom else replace(drive, size=found.size)

    async def _refuse_needed(self, volume: VolumeId) -> None:
        try:
            over = await self.volumes.driver(volume.storage).dependants(volume.name)
        except NotFound:
            return
        if over:
            raise Refused(
                f"The volume {volume} is not removed", why=f"linked clones need it: {', '.join(over)}",
                todo="Destroy these clones first, or move their disks: a moved disk needs no other",
            )  # fmt: skip

    def _check_memory(self, guest: Guest, config: GuestConfig) -> None:
        if config.memory_bytes > self._memory:
            raise Refused(
                f"Guest {guest.vmid} cannot run on node {self._node}",
                why=f"it needs {config.memory} MiB of memory, and the node has {self._memory >> 20} MiB in all",
                todo="Give the guest less memory, or run it on a larger node",
            )

    async def _taps(self, vmid: int, config: GuestConfig) -> tuple[Tap, ...]:
        """The guest's taps; a bridge that is missing is refused before anything is started."""
        taps = tuple(
            Tap(tap_name(vmid, index), network.bridge, network.tag or 0)
            for index, network in config.networks.items()
            if network.bridge is not None
        )
        for tap in taps:
            await demand_bridge(tap, self._node)
        return taps


def _write_seed(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.touch(mode=0o600)
    new.write_bytes(content)
    new.replace(path)
