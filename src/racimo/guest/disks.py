"""What is done to one disk of a guest: grown, moved to another storage or format, given to another guest, removed.

While a disk is moved the guest writes to both images, and the record names the new one before QEMU lets go of the old
one: whichever of the two a later start opens, it holds everything that was confirmed to the guest.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from racimo.errors import BadParameter, Conflict
from racimo.guest.config import parse_config, sort_key
from racimo.guest.config_change import ConfigChange
from racimo.guest.config_options import FAMILIES
from racimo.guest.copies import Copies, Wanted
from racimo.guest.drives import BLOCK, slot
from racimo.guest.held import drive_of, refuse_held, refuse_plugged
from racimo.guest.kinds import parse_size
from racimo.guest.qemu.block_graph import close_image, demand_drive, drive_nodes, node_files
from racimo.guest.qemu.jobs import (
    CONCLUDED,
    READY,
    add_target,
    end_jobs,
    follow_jobs,
    is_ready,
    job_names,
    remove_target,
)
from racimo.guest.unbroken import committed, unbroken

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.guest.drives import Drive
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.qemu.monitor import Monitor
    from racimo.guest.records import GuestView
    from racimo.storage.base import VolumeId
    from racimo.task.operation import Report

log = structlog.get_logger()

SIZE = re.compile(r"\+?[0-9]+(\.[0-9]+)?[KMGT]?")
PIVOT_TIMEOUT = 60.0


def refuse_changed(view: GuestView, digest: str) -> None:
    """Raises ``Conflict`` unless the configuration is still the one with that digest."""
    if digest and digest != parse_config(view.guest.config).digest:
        raise Conflict(
            "detected modified configuration - file changed by other user? Try again",
            why="the digest is another than the one given", todo="Read the configuration again",
        )  # fmt: skip


async def resize(life: Lifecycle, vmid: int, key: str, wish: str, digest: str, report: Report) -> None:
    """Grow a disk to ``wish`` (``20G``), or by it (``+5G``)."""
    async with life.busy.hold(vmid):
        view = await life.records.owned(vmid)
        refuse_changed(view, digest)
        drive, volume = drive_of(view, key)
        now = (await life.assembly.volumes.volume(volume)).size
        size = parse_size(wish.lstrip("+")) + (now if wish.startswith("+") else 0)
        size += -size % BLOCK
        if size < now:
            raise BadParameter(
                {"size": f"{wish} is less than the disk's {now >> 20} MiB: shrinking loses data"},
                todo="Give a larger size",
            )
        if vmid in life.host.vmids and key in life.host.started_with(vmid).config:
            monitor = await life.host.monitor(vmid)
            node = demand_drive(await drive_nodes(monitor), key, monitor.label)
            await unbroken(_resize_running(monitor, node.node, size))
        else:
            await life.assembly.volumes.resize(volume, size)
        await _reconfigure(life, view, key, replace(drive, size=size))
        report.log(f"{key} of guest {vmid} has {size} bytes now, {size - now} more")


async def _resize_running(monitor: Monitor, node: str, size: int) -> None:
    await monitor.execute("block_resize", {"node-name": node, "size": size}, timeout=PIVOT_TIMEOUT)


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveWish:
    """Where a disk is to go. ``delete``: the original goes then; else it is kept as ``unused<n>``."""

    key: str
    storage: str
    image_format: str | None = None
    delete: bool = False
    digest: str = ""


async def move(life: Lifecycle, vmid: int, wish: MoveWish, report: Report, undo: AsyncExitStack) -> None:
    """Move a disk to another storage or format, also while the guest runs and writes to it."""
    async with life.busy.hold(vmid):
        view = await life.records.owned(vmid)
        refuse_changed(view, wish.digest)
        drive, volume = drive_of(view, wish.key)
        now = await life.assembly.volumes.volume(volume)
        if wish.delete:
            refuse_held(view, volume, "deleted")
        if volume.storage == wish.storage and wish.image_format in (None, now.format):
            raise BadParameter(
                {"storage": f"{wish.key} is on {wish.storage} already"}, todo="Choose another storage or format"
            )
        wanted = Wanted(key=wish.key, volume=volume, storage=wish.storage, image_format=wish.image_format)
        if vmid in life.host.vmids and wish.key in life.host.started_with(vmid).config:
            new = await _mirror(life, view, drive, wanted, report, undo)
        else:
            new = (await Copies(life, vmid, vmid, report, undo).stopped([wanted]))[wish.key]
            size = (await life.assembly.volumes.volume(new)).size
            moved = replace(drive, file=str(new), size=size, format=None)
            await committed(undo, _reconfigure(life, view, wish.key, moved))
        report.log(f"{wish.key} of guest {vmid} is {new} now")
        await _leave(life, vmid, volume, report, delete=wish.delete)


async def _mirror(
    life: Lifecycle, view: GuestView, drive: Drive, wanted: Wanted, report: Report, undo: AsyncExitStack
) -> VolumeId:
    """Copy while the guest writes, until both images are the same at every moment; then change over."""
    vmid, volumes, name = view.guest.vmid, life.assembly.volumes, f"move-{wanted.key}"
    monitor = await life.host.monitor(vmid)
    await settle_moves(life, view)
    node = demand_drive(await drive_nodes(monitor), wanted.key, monitor.label)
    target = f"moved-{wanted.key}-{_turn(node.node) + 1}"
    new = await volumes.allocate(wanted.storage, vmid, node.size, image_format=wanted.image_format)
    undo.push_async_callback(volumes.delete, new)
    undo.push_async_callback(remove_target, monitor, target)
    undo.push_async_callback(end_jobs, monitor, [name])
    await add_target(monitor, target, await volumes.block(new))
    settings = {"job-id": name, "device": node.node, "target": target, "sync": "full", "copy-mode": "write-blocking",
                "auto-dismiss": False}  # fmt: skip
    await monitor.execute("blockdev-mirror", settings)
    await follow_jobs(monitor, [name], READY, lambda done: report.progress(done, f"{wanted.key}: copying"))
    moved = replace(drive, file=str(new), size=node.size, format=None)
    life.busy.doubt(vmid)  # should this daemon not come to it, the next one changes over by the record
    await committed(undo, _reconfigure(life, view, wanted.key, moved))
    await unbroken(_pivot(monitor, name, node.node, report))
    return new


def _turn(node: str) -> int:
    match = re.fullmatch(r"moved-[a-z]+[0-9]+-([0-9]+)", node)
    return int(match[1]) if match else 0


async def _pivot(monitor: Monitor, job: str, old: str, report: Report | None) -> None:
    """The record names the new image already: QEMU goes over to it and closes the old one."""
    await monitor.execute("job-complete", {"id": job}, timeout=PIVOT_TIMEOUT)
    async with asyncio.timeout(PIVOT_TIMEOUT):
        await follow_jobs(monitor, [job], CONCLUDED, lambda _: None)
    await end_jobs(monitor, [job])
    await close_image(monitor, old)
    if report is not None:
        report.log("the guest writes to the new image only")


async def _leave(life: Lifecycle, vmid: int, volume: VolumeId, report: Report, *, delete: bool) -> None:
    """The volume that the guest does not use any more: gone, or kept as unused."""
    if delete:
        await life.assembly.volumes.delete(volume)
        report.log(f"removed the volume {volume}")
        return
    view = await life.records.owned(vmid)
    taken = view.guest.config
    free = next(f"unused{n}" for n in range(FAMILIES["unused"].count or 0) if f"unused{n}" not in taken)
    await life.records.configure(view, {**taken, free: str(volume)})
    report.log(f"{volume} is kept as {free}")


async def _reconfigure(life: Lifecycle, view: GuestView, key: str, drive: Drive) -> None:
    """Write one drive into the record, and into what the running guest is known to run with."""
    config = parse_config(view.guest.config)
    if key.startswith("unused"):
        changed = replace(config, unused={**config.unused, int(key[6:]): drive})
    else:
        changed = replace(config, drives={**config.drives, key: drive})
    mapping = changed.to_mapping()
    await life.records.configure(view, mapping)
    if view.guest.vmid in life.host.vmids and key in life.host.started_with(view.guest.vmid).config:
        started = dict(life.host.started_with(view.guest.vmid).config)
        life.host.reconfigure(view.guest.vmid, {**started, key: mapping[key]})


async def settle_moves(life: Lifecycle, view: GuestView) -> None:
    """Carry on by the record with what a daemon that died left of moves: change over, or give the copy up."""
    vmid = view.guest.vmid
    monitor = await life.host.monitor(vmid)
    left = [name for name in await job_names(monitor) if name.startswith("move-")]
    if not left:
        return
    config, nodes = parse_config(view.guest.config), await drive_nodes(monitor)
    targets = await node_files(monitor)
    for name in left:
        key = name.removeprefix("move-")
        drive, node = config.disks.get(key), nodes.get(key)
        volume = drive.volume if drive is not None else None
        target = f"moved-{key}-{_turn(node.node) + 1}" if node is not None else ""
        moved = volume is not None and targets.get(target) == str(await life.assembly.volumes.path(volume))
        if moved and node is not None and await is_ready(monitor, name):
            await _pivot(monitor, name, node.node, None)
            started = life.host.started_with(vmid).config
            life.host.reconfigure(vmid, {**started, key: view.guest.config[key]})
        else:
            await end_jobs(monitor, [name])
            await remove_target(monitor, target)
        log.warning("a move of a disk that was cut off is settled", vmid=vmid, drive=key, moved=moved)


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveWish:
    """A disk for another guest of this node: as its drive ``target_key``; left out, the same or the first unused."""

    key: str
    target: int
    target_key: str = ""
    digest: str = ""
    target_digest: str = ""


async def give(life: Lifecycle, vmid: int, wish: GiveWish, report: Report, undo: AsyncExitStack) -> None:
    """Take a disk from one guest and give it to another. Both names exist until both records are written."""
    first, second = sorted((vmid, wish.target))
    async with life.busy.hold(first), life.busy.hold(second):
        view, other = await life.records.owned(vmid), await life.records.owned(wish.target)
        refuse_changed(view, wish.digest)
        refuse_changed(other, wish.target_digest)
        drive, volume = drive_of(view, wish.key)
        refuse_held(view, volume, "given away")
        if vmid in life.host.vmids and wish.key.startswith("unused"):
            refuse_plugged(volume, life.host.started_with(vmid).config)
        key = wish.target_key or wish.key
        if key in other.guest.config:
            raise BadParameter({"target-disk": f"guest {wish.target} has a {key} already"}, todo="Choose another key")
        running = [str(each) for each in (vmid, wish.target) if each in life.host.vmids]
        plugged = not wish.key.startswith("unused") or not key.startswith("unused")
        if running and plugged:
            raise Conflict(
                f"{wish.key} is not given to guest {wish.target}", why=f"guest {' and '.join(running)} runs",
                todo="Shut it down, or unplug the disk first",
            )  # fmt: skip
        if not key.startswith("unused"):
            slot(key)
        driver = life.assembly.volumes.driver(volume.storage)
        given = await driver.link(volume.name, wish.target)
        undo.push_async_callback(driver.delete, given.name)
        mine = {name: value for name, value in view.guest.config.items() if name != wish.key}
        if "boot" in mine:
            order = [name for name in parse_config(view.guest.config).boot or () if name != wish.key]
            mine["boot"] = f"order={';'.join(order)}"
        rendered = FAMILIES["unused"].kind.render(replace(drive, file=str(given)))
        theirs = {**other.guest.config, key: rendered}
        parse_config(theirs)
        ordered = {name: theirs[name] for name in sorted(theirs, key=sort_key)}
        await committed(undo, life.records.configure_both((view, mine), (other, ordered)))
        await life.assembly.volumes.delete(volume)
        report.log(f"{wish.key} of guest {vmid} is {key} of guest {wish.target} now, as {given}")


async def unlink(
    life: Lifecycle, vmid: int, keys: tuple[str, ...], report: Report, undo: AsyncExitStack, *, force: bool
) -> None:
    """Unplug disks; they are kept as ``unused<n>``, or with ``force`` removed. Unused ones are always removed."""
    view = await life.records.owned(vmid)
    volumes = [drive_of(view, key)[1] for key in keys]
    if force:
        for volume in volumes:
            refuse_held(view, volume, "removed")
    await life.set_config(vmid, ConfigChange(delete=keys), report, undo)
    if not force:
        return
    view = await life.records.owned(vmid)
    left = {str(volume) for volume in volumes}
    unused = tuple(key for key, value in view.guest.config.items() if key.startswith("unused") and value in left)
    if unused:
        await life.set_config(vmid, ConfigChange(delete=unused), report, undo)
