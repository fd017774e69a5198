"""Templates and clones: a new guest from a guest, a template or a snapshot."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, Conflict, Refused
from racimo.guest.config import parse_config, running_config
from racimo.guest.config_new import fill_in, new_uuid
from racimo.guest.copies import Copies, Wanted
from racimo.guest.devices import Smbios
from racimo.guest.migration import move_stopped
from racimo.guest.snapshots import demand_snapshot
from racimo.guest.unbroken import committed
from racimo.model.guest import Guest

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.guest.config import GuestConfig
    from racimo.guest.drives import Drive
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.records import GuestView
    from racimo.storage.base import VolumeId
    from racimo.task.operation import Report

LEFT_BEHIND = ("lock", "template", "description")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneWish:
    """What the clone is to be. ``full`` None: a copy, but of a template a linked clone. ``storage`` and
    ``image_format``: where and how copies are kept; left out, as the originals."""

    newid: int
    name: str = ""
    description: str = ""
    full: bool | None = None
    storage: str = ""
    image_format: str | None = None
    snapshot: str = ""
    target: str = ""
    pool: str = ""


async def make_template(life: Lifecycle, vmid: int, report: Report, undo: AsyncExitStack) -> None:
    """Turn a stopped guest into a template: its disks get the names of base images, and it never runs again."""
    async with life.busy.hold(vmid):
        view = await life.stopped(vmid)
        config = parse_config(view.guest.config)
        if config.template:
            raise Conflict(f"Guest {vmid} is a template already")
        if view.guest.snapshots:
            raise Refused(
                f"Guest {vmid} cannot become a template", why="it has snapshots",
                todo=f"Delete them: racimo guest snapshot list {vmid}",
            )  # fmt: skip
        drives, old = dict(config.drives), []
        for key, drive in config.disks.items():
            volume = drive.volume
            if volume is None or (await life.assembly.volumes.volume(volume)).vmid != vmid:
                continue
            base = await life.assembly.volumes.driver(volume.storage).link(volume.name, vmid, base=True)
            undo.push_async_callback(life.assembly.volumes.delete, base)
            drives[key] = replace(drive, file=str(base))
            old.append(volume)
        mapping = {**replace(config, drives=drives).to_mapping(), "template": "1"}
        await committed(undo, life.records.configure(view, mapping))
        for volume in old:
            await life.assembly.volumes.delete(volume)
        report.log(f"guest {vmid} is a template")


async def clone(life: Lifecycle, vmid: int, wish: CloneWish, report: Report, undo: AsyncExitStack) -> None:
    """Make guest ``wish.newid`` from guest ``vmid``; what was made of it goes again if it fails or is cancelled."""
    async with life.busy.hold(vmid):
        view = await life.records.owned(vmid)
        await life.records.refuse_taken(wish.newid)
        source = parse_config(_source(life, view, wish))
        full = not source.template if wish.full is None else wish.full
        await _refuse_pool(life, wish.pool)
        volumes = await _disks(life, vmid, view, source, wish, report, undo, full=full)
        config = _new_config(source, volumes, wish, vmid)
        await _refuse_target(life, config, wish)
        await committed(undo, life.records.create(Guest(vmid=wish.newid, node=life.node, config=config)))
    if wish.pool:
        await life.layout.pools.update(wish.pool, lambda pool: replace(pool, guests=(*pool.guests, wish.newid)))
    how = "with disks of its own" if full else "as a linked clone"
    report.log(f"guest {wish.newid} was made from guest {vmid}, {how}")
    if wish.target not in ("", life.node):
        await move_stopped(life, await life.records.owned(wish.newid), wish.target, report)


def _source(life: Lifecycle, view: GuestView, wish: CloneWish) -> dict[str, str]:
    """The configuration that is copied: of the snapshot, of the running guest, or as it stands."""
    if wish.snapshot:
        return demand_snapshot(view, wish.snapshot).config
    vmid = view.guest.vmid
    if vmid in life.host.vmids:
        return running_config(life.host.started_with(vmid).config, view.guest.config)
    return view.guest.config


async def _disks(
    life: Lifecycle, vmid: int, view: GuestView, source: GuestConfig, wish: CloneWish, report: Report,
    undo: AsyncExitStack, *, full: bool,
) -> dict[str, VolumeId]:  # fmt: skip
    """The clone's volumes by drive."""
    disks = {key: drive.volume for key, drive in source.disks.items() if drive.volume is not None}
    if not full:
        if not source.template:
            raise Refused(
                f"Guest {vmid} has no linked clones", why="it is no template",
                todo=f"Clone it in full, or make it a template: racimo guest template {vmid}",
            )  # fmt: skip
        if wish.storage or wish.image_format:
            raise BadParameter({"full": "a linked clone stays on the storage and in the format of its template"})
        return {key: await _linked(life, volume, wish.newid, report, undo) for key, volume in disks.items()}
    wanted = [
        Wanted(key=key, volume=volume, storage=wish.storage or volume.storage,
               image_format=wish.image_format or (volume.name.rpartition(".")[2] if not wish.storage else None))
        for key, volume in disks.items()
    ]  # fmt: skip
    copies = Copies(life, vmid, wish.newid, report, undo)
    if vmid in life.host.vmids and not wish.snapshot:
        return await copies.running(wanted, freeze=source.agent.enabled)
    return await copies.stopped(wanted, wish.snapshot or None)


async def _linked(life: Lifecycle, base: VolumeId, newid: int, report: Report, undo: AsyncExitStack) -> VolumeId:
    driver = life.assembly.volumes.driver(base.storage)
    if not driver.capabilities.clones:
        raise Refused(
            f"{base} has no linked clones", why=f"the storage {base.storage} has none", todo="Clone it in full"
        )
    volume = await driver.clone(base.name, newid)
    undo.push_async_callback(life.assembly.volumes.delete, volume)
    report.log(f"made {volume} over {base}")
    return volume


def _new_config(source: GuestConfig, volumes: dict[str, VolumeId], wish: CloneWish, vmid: int) -> dict[str, str]:
    """The clone's configuration: other disks, MAC addresses and identity."""
    drives = {key: _drive(drive, volumes.get(key)) for key, drive in source.drives.items()}
    networks = {index: replace(card, macaddr=None) for index, card in source.networks.items()}
    given = frozenset(key for key in source.given if not key.startswith("unused") and key not in LEFT_BEHIND)
    identity = replace(source.smbios1 or Smbios(), uuid=new_uuid(secrets.randbits))
    given |= {"smbios1"}
    mapping = replace(source, given=given, drives=drives, networks=networks, unused={}, smbios1=identity).to_mapping()
    if source.vmgenid:
        mapping["vmgenid"] = "1"
    mapping["name"] = wish.name or f"Copy-of-VM-{source.name or vmid}"
    if wish.description or source.description:
        mapping["description"] = wish.description or source.description or ""
    return parse_config(fill_in(mapping, secrets.randbits)).to_mapping()


def _drive(drive: Drive, volume: VolumeId | None) -> Drive:
    return replace(drive, file=str(volume)) if volume is not None else drive


async def _refuse_pool(life: Lifecycle, pool: str) -> None:
    if pool and await life.layout.pools.find(pool) is None:
        raise BadParameter({"pool": f"pool '{pool}' does not exist"}, todo="See the pools: racimo pool list")


async def _refuse_target(life: Lifecycle, config: dict[str, str], wish: CloneWish) -> None:
    if wish.target in ("", life.node):
        return
    local = await life.assembly.local_volumes(config)
    if local:
        raise Refused(
            f"Guest {wish.newid} cannot be made for node {wish.target}",
            why=f"{', '.join(local)} would exist on node {life.node} only", todo="Choose a storage that both share",
        )  # fmt: skip
