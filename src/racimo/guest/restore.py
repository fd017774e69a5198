"""A guest from a backup: under a new number, or in place of a stopped guest.

All disks are made under new names before the record names them, so a restore that fails or is cancelled changes
nothing: not even the guest that was to be replaced.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar

from racimo.errors import AlreadyExists, BadParameter, OperationFailed, RacimoError, Refused, Unauthorised
from racimo.guest.backup import SCHEMA
from racimo.guest.config import kept_unused, parse_config
from racimo.guest.config_new import fill_in, new_uuid
from racimo.guest.devices import Smbios
from racimo.guest.held import guest_volumes
from racimo.guest.operations import GuestOperation
from racimo.guest.unbroken import committed
from racimo.model.guest import MAX_VMID, MIN_VMID, Guest
from racimo.storage.archive import read_archive, read_first
from racimo.storage.base import Content, VolumeId

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack
    from pathlib import Path

    from racimo.guest.config import GuestConfig
    from racimo.guest.drives import Drive
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.records import GuestView
    from racimo.storage.volumes import Volumes
    from racimo.task.operation import Report

LEFT_OUT = ("lock", "template")
ROOT_ONLY = ("args",)
"""Keys that only root may bring back: they hold words of QEMU's own command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backed:
    """What an archive says of its guest. ``storages`` by the key of the disk, ``formats`` likewise."""

    vmid: int
    config: Mapping[str, str]
    storages: Mapping[str, str]
    formats: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class RestoreGuest(GuestOperation):
    """Make the guest ``vmid`` of this node from ``archive``.

    ``values`` replace keys of the configuration. ``storage``: for all disks; left out, each goes where it was.
    ``unique``: with new MAC addresses and another identity. ``force``: in place of the guest with that number, which
    must be stopped.
    """

    kind: ClassVar[str] = "qmrestore"
    archive: VolumeId
    storage: str = ""
    unique: bool = False
    force: bool = False
    start: bool = False
    by_root: bool = True
    values: Mapping[str, str] = field(default_factory=dict)

    def validate(self) -> None:
        if not MIN_VMID <= self.vmid <= MAX_VMID:
            raise BadParameter({"vmid": f"{self.vmid} is not from {MIN_VMID} to {MAX_VMID}"})
        drives = parse_config(self.values).drives
        if drives:
            raise BadParameter({next(iter(drives)): "the disks are those of the backup"})

    async def precheck(self, services: Lifecycle) -> None:
        if self.force:
            found = await services.records.find(self.vmid)
            if found is not None:
                await _refuse_replacing(services, self.vmid)
            return
        try:
            await services.records.refuse_taken(self.vmid)
        except AlreadyExists as error:
            raise AlreadyExists(
                error.what, why=error.why, todo="Choose another number, or replace it: force"
            ) from error

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        async with services.busy.hold(self.vmid):
            await _Restoring(services, self, report, undo).run()
        if self.start:
            await services.start(self.vmid, report)


async def describe(volumes: Volumes, archive: VolumeId) -> Backed:
    """What an archive says of its guest. Raises ``OperationFailed`` for one that cannot be read."""
    found = await volumes.volume(archive)
    if found.content is not Content.BACKUP:
        raise BadParameter({"archive": f"{archive} is no backup"}, todo="See: racimo backup list STORAGE")
    return _read(await read_first(await volumes.path(archive)), archive)


@dataclass(frozen=True, slots=True)
class _Restoring:
    life: Lifecycle
    wish: RestoreGuest
    report: Report
    undo: AsyncExitStack

    async def run(self) -> None:
        life, wish, volumes = self.life, self.wish, self.life.assembly.volumes
        old = await life.records.find(wish.vmid)
        backed = await describe(volumes, wish.archive)
        source, folder, token = await volumes.path(wish.archive), await volumes.dump(wish.archive.storage), _token()
        unpacked: list[Path] = []

        def place(name: str) -> Path:
            unpacked.append(folder / f".{token}-{name}.tmp")
            return unpacked[-1]

        try:
            self.report.log(f"unpacking {wish.archive}")
            members = await read_archive(source, place, lambda done: self.report.progress(done / 2, "unpacking"))
            made = await self._disks(backed, members)
        finally:
            for path in unpacked:
                path.unlink(missing_ok=True)
        config = self._config(parse_config({**backed.config, **wish.values}), made)
        if old is None:
            guest = Guest(vmid=wish.vmid, node=life.node, config=config.to_mapping())
            await committed(self.undo, life.records.create(guest))
        else:
            await self._replace(await _refuse_replacing(life, wish.vmid), config)
        self.report.log(f"guest {wish.vmid} was restored from {wish.archive}")
        await self._warn_of_twins(backed)

    async def _disks(self, backed: Backed, members: Mapping[str, Path]) -> dict[str, VolumeId]:
        volumes, made = self.life.assembly.volumes, {}
        disks = [key for key in parse_config(backed.config).disks if f"disk-{key}.qcow2" in members]
        for number, key in enumerate(disks):
            storage = self.wish.storage or backed.storages.get(key, "")
            image_format = None if self.wish.storage else backed.formats.get(key)
            volume = await volumes.import_image(
                storage, self.wish.vmid, str(members[f"disk-{key}.qcow2"]), image_format=image_format,
                progress=lambda done, before=number: self.report.progress(  # type: ignore[misc]
                    0.5 + (before + done) / len(disks) / 2, "making disks"
                ),
            )  # fmt: skip
            self.undo.push_async_callback(volumes.delete, volume)
            made[key] = volume
            self.report.log(f"{key}: made {volume}")
        return made

    def _config(self, source: GuestConfig, made: Mapping[str, VolumeId]) -> GuestConfig:
        """The configuration with the new disks. What was not backed up is left out."""
        if not self.wish.by_root and any(key in source.given for key in ROOT_ONLY):
            raise Unauthorised(f"only root can set '{ROOT_ONLY[0]}' config", why="the backup has it")
        drives: dict[str, Drive] = {}
        for key, drive in source.drives.items():
            if key in made:
                drives[key] = replace(drive, file=str(made[key]))
            elif drive.is_cdrom and (self.wish.by_root or not drive.file.startswith("/")):
                drives[key] = drive
            else:
                self.report.warn(f"{key} is not restored: it is not in the backup, or a file that only root may use")
        gone = {key for key in source.drives if key not in drives}
        given = frozenset(
            key for key in source.given if key not in LEFT_OUT and key not in gone and not key.startswith("unused")
        )
        config = replace(source, given=given, drives=drives, unused={}, template=False, lock=None)
        mapping = config.to_mapping()
        if "vmgenid" in mapping:
            mapping["vmgenid"] = "1"  # a new one: it tells the guest that its time jumped
        if self.wish.unique:
            identity = replace(config.smbios1 or Smbios(), uuid=new_uuid(secrets.randbits))
            cards = {index: replace(card, macaddr=None) for index, card in config.networks.items()}
            new = replace(config, given=given | {"smbios1"}, smbios1=identity, networks=cards).to_mapping()
            mapping = {**new, **{key: value for key, value in mapping.items() if key == "vmgenid"}}
        return parse_config(fill_in(mapping, secrets.randbits))

    async def _replace(self, view: GuestView, config: GuestConfig) -> None:
        """The record in one step; then what it named before goes, but for disks that are never backed up."""
        life, before = self.life, parse_config(view.guest.config)
        kept = {key: drive for key, drive in before.disks.items() if drive.backup is False}
        excluded = replace(before, given=frozenset(kept), drives=kept, unused={}).to_mapping()
        mapping = kept_unused(excluded, config.to_mapping())
        new = replace(view.guest, config=mapping, snapshots={}, parent="")
        await committed(self.undo, life.records.rewrite(view, new))
        for volume in sorted(guest_volumes(view.guest) - guest_volumes(new)):
            try:
                await life.assembly.remove(view.guest.vmid, volume, self.report)
            except RacimoError as error:
                self.report.warn(f"the old disk {volume} was not removed: {error}")

    async def _warn_of_twins(self, backed: Backed) -> None:
        twin = backed.vmid != self.wish.vmid and await self.life.records.find(backed.vmid) is not None
        if twin and not self.wish.unique:
            self.report.warn(
                f"guest {backed.vmid} is there still, and has the same MAC addresses: run only one of them, or restore "
                "it with new ones (unique)"
            )


async def _refuse_replacing(life: Lifecycle, vmid: int) -> GuestView:
    """The guest that is to be replaced. Raises ``Conflict``, ``Refused`` where it cannot be."""
    view = await life.stopped(vmid)
    if parse_config(view.guest.config).protection:
        raise Refused(
            f"Guest {vmid} is protected", why="its option protection is 1",
            todo=f"First: racimo guest set {vmid} protection=0",
        )  # fmt: skip
    if parse_config(view.guest.config).template:
        raise Refused(f"Guest {vmid} is a template", why="linked clones may need it", todo="Choose another number")
    return view


def _token() -> str:
    return secrets.token_hex(8)


def _read(content: bytes, archive: VolumeId) -> Backed:
    try:
        found: dict[str, Any] = json.loads(content)
        if found["schema"] > SCHEMA:
            raise OperationFailed(f"{archive} cannot be read", why="a newer version made it", todo="Upgrade this node")
        disks = found["disks"]
        return Backed(
            vmid=int(found["vmid"]),
            config={str(key): str(value) for key, value in found["config"].items()},
            storages={str(key): str(disk["storage"]) for key, disk in disks.items()},
            formats={str(key): str(disk["format"]) for key, disk in disks.items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise OperationFailed(f"{archive} cannot be read", why=f"its guest.json is malformed: {error}") from error
