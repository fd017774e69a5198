"""All volumes as this node sees them: finds the storage of a volume id, and refuses what this node cannot use."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, NotFound, Refused
from racimo.storage.base import STORAGE_ID, Content, VolumeId
from racimo.storage.directory import Directory
from racimo.storage.images import FORMATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from racimo.model.storage import Storage
    from racimo.storage.base import BlockSource, Driver, Progress, Volume

DRIVERS: Mapping[str, Callable[[Storage], Driver]] = {"dir": Directory}
"""Drivers by the storage's type."""

OPTIONS: Mapping[str, Mapping[str, str]] = {
    "dir": {
        "is_mountpoint": "1, or a path on which something must be mounted",
        "mkdir": "0: do not make the directory when it is missing",
        "format": f"format of new images: {' or '.join(FORMATS)}",
        "preallocation": "off, metadata, falloc or full",
    }
}
"""Options by the storage's type, with what each may be."""


def check_definition(definition: Storage) -> None:
    """Whether a storage can be defined so. Raises ``BadParameter`` that names each field that is wrong."""
    wrong: dict[str, str] = {}
    if not STORAGE_ID.fullmatch(definition.id):
        wrong["storage"] = f"'{definition.id}' must begin with a letter; letters, digits and . _ - follow"
    if definition.type not in DRIVERS:
        wrong["type"] = f"'{definition.type}' is not one of {', '.join(DRIVERS)}"
    path = definition.path
    if not path.startswith("/") or ".." in path.split("/") or path.rstrip("/") == "":
        wrong["path"] = f"'{path}' is not an absolute path below / without '..'"
    kinds = [kind.value for kind in Content]
    if unknown := [kind for kind in definition.content if kind not in kinds]:
        wrong["content"] = f"{', '.join(unknown)}: allowed are {', '.join(kinds)}"
    allowed = OPTIONS.get(definition.type, {})
    for name, value in definition.options:
        if name not in allowed:
            wrong[name] = f"is not an option of the type {definition.type}; options are {', '.join(allowed)}"
        elif name == "format" and value not in FORMATS:
            wrong[name] = f"'{value}' is not {allowed[name]}"
        elif name == "preallocation" and value not in {"off", "metadata", "falloc", "full"}:
            wrong[name] = f"'{value}' is not one of {allowed[name]}"
    if wrong:
        raise BadParameter(wrong)


class Volumes:
    """The storages that one node may use. ``definitions`` gives the present definitions by id."""

    def __init__(self, definitions: Callable[[], Mapping[str, Storage]], node: str) -> None:
        self.definitions, self.node = definitions, node
        self._drivers: dict[str, tuple[Storage, Driver]] = {}

    def definition(self, storage: str) -> Storage:
        """A storage that this node may use. Raises ``NotFound`` or ``Refused`` with the reason."""
        known = self.definitions()
        found = known.get(storage)
        if found is None:
            raise NotFound(
                f"The storage {storage} does not exist",
                why=f"the datacenter has {', '.join(sorted(known)) or 'no storages'}",
                todo="Choose one of these, or define it",
            )
        if found.disabled:
            raise Refused(f"The storage {storage} cannot be used", why="it is disabled", todo="Enable it")
        if found.nodes and self.node not in found.nodes:
            raise Refused(
                f"The storage {storage} cannot be used on {self.node}",
                why=f"it is only on {', '.join(found.nodes)}",
                todo=f"Use another storage, or add {self.node} to its nodes",
            )
        return found

    def driver(self, storage: str) -> Driver:
        """The driver of a storage that this node may use."""
        definition = self.definition(storage)
        kept = self._drivers.get(storage)
        if kept is None or kept[0] != definition:
            if definition.type not in DRIVERS:
                raise Refused(
                    f"The storage {storage} cannot be used on {self.node}",
                    why=f"this version does not know the type {definition.type}",
                    todo="Upgrade this node",
                )
            kept = self._drivers[storage] = (definition, DRIVERS[definition.type](definition))
        return kept[1]

    def usable(self) -> list[Storage]:
        """The definitions that are for this node and not disabled, by id. Whether they answer is ``Driver.check``."""
        known = sorted(self.definitions().values(), key=lambda each: each.id)
        return [each for each in known if not each.disabled and (not each.nodes or self.node in each.nodes)]

    def is_shared(self, volume: VolumeId | str) -> bool:
        """Whether other nodes of the storage see the same volume."""
        return self.driver(_parsed(volume).storage).capabilities.shared

    async def volume(self, volume: VolumeId | str) -> Volume:
        """What a volume is."""
        found = _parsed(volume)
        return await self.driver(found.storage).volume(found.name)

    async def volumes(self, storage: str, content: Content | None = None, vmid: int | None = None) -> list[Volume]:
        """What is on a storage."""
        return await self.driver(storage).volumes(content, vmid)

    async def block(self, volume: VolumeId | str) -> BlockSource:
        """What QEMU is to open for a volume."""
        found = _parsed(volume)
        return await self.driver(found.storage).block(found.name)

    async def path(self, volume: VolumeId | str) -> Path:
        """The file or device of a volume on this node."""
        found = _parsed(volume)
        return await self.driver(found.storage).path(found.name)

    async def allocate(
        self, storage: str, vmid: int, size: int, *, image_format: str | None = None, name: str | None = None
    ) -> VolumeId:
        """An empty disk of ``size`` bytes with the next free name of the guest, or with ``name``."""
        return await self.driver(storage).allocate(vmid, size, image_format=image_format, name=name)

    async def import_image(
        self,
        storage: str,
        vmid: int,
        source: str,
        *,
        image_format: str | None = None,
        name: str | None = None,
        progress: Progress | None = None,
    ) -> VolumeId:
        """A disk made from ``source``: an absolute path on this node, or the id of a volume not in use."""
        path = Path(source) if source.startswith("/") else await self.path(source)
        return await self.driver(storage).import_image(
            vmid, path, image_format=image_format, name=name, progress=progress
        )

    async def copy(
        self,
        volume: VolumeId,
        storage: str,
        vmid: int,
        *,
        image_format: str | None = None,
        snapshot: str | None = None,
        progress: Progress | None = None,
    ) -> VolumeId:
        """A disk with the content of a volume that nobody writes, or of a snapshot inside it."""
        found = await self.volume(volume)
        return await self.driver(storage).import_image(
            vmid, await self.path(volume), image_format=image_format, progress=progress, own_format=found.format,
            snapshot=snapshot,
        )  # fmt: skip

    async def dump(self, storage: str) -> Path:
        """The directory for backup archives of a storage."""
        return await self.driver(storage).dump()

    async def resize(self, volume: VolumeId | str, size: int) -> None:
        """Grow a disk to ``size`` bytes."""
        found = _parsed(volume)
        await self.driver(found.storage).resize(found.name, size)

    async def give(self, volume: VolumeId | str, vmid: int) -> VolumeId:
        """Rename a disk to the next free name of another guest."""
        found = _parsed(volume)
        return await self.driver(found.storage).give(found.name, vmid)

    async def delete(self, volume: VolumeId | str) -> None:
        """Remove a volume for good."""
        found = _parsed(volume)
        await self.driver(found.storage).delete(found.name)


def _parsed(volume: VolumeId | str) -> VolumeId:
    if isinstance(volume, VolumeId):
        return volume
    try:
        return VolumeId.parse(volume)
    except ValueError as error:
        raise BadParameter({"volume": str(error)}) from error
