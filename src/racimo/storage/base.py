"""What a storage is to the rest of Racimo: volume names, capabilities as a record, and a driver of few methods."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from racimo.storage.arrival import Arrival

    Progress = Callable[[float], None]
    """Called with how far it is, from 0 to 1."""

STORAGE_ID = re.compile(r"[A-Za-z][A-Za-z0-9._-]*[A-Za-z0-9]")
VOLUME_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@-]*(/[A-Za-z0-9][A-Za-z0-9._+@-]*)?")


class Content(StrEnum):
    """What a storage may hold."""

    IMAGES = "images"
    ISO = "iso"
    IMPORT = "import"
    VZTMPL = "vztmpl"
    SNIPPETS = "snippets"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True, order=True)
class VolumeId:
    """A volume: the storage's id and the volume's name on it, such as ``local:100/vm-100-disk-0.qcow2``."""

    storage: str
    name: str

    @classmethod
    def parse(cls, text: str) -> VolumeId:
        """Read ``storage:name``. Raises ``ValueError`` for anything else, path traversal included."""
        storage, sign, name = text.partition(":")
        if not sign or not STORAGE_ID.fullmatch(storage):
            raise ValueError(f"'{text}' is not a volume: write storage:name, such as local:100/vm-100-disk-0.qcow2")
        if not VOLUME_NAME.fullmatch(name) or ".." in name:
            raise ValueError(f"'{name}' is not a volume name: letters, digits and . _ + @ -, at most one /, no ..")
        return cls(storage, name)

    def __str__(self) -> str:
        return f"{self.storage}:{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a storage can do. Planner, API and console read this; nobody asks for a driver's type."""

    shared: bool = False
    """All its nodes see the same content."""
    snapshots: bool = False
    snapshot_formats: tuple[str, ...] = ()
    """The image formats that snapshots can be taken of: by the storage while stopped, by QEMU while running."""
    clones: bool = False
    """Linked clones: a new volume that shares its origin's data."""
    thin: bool = False
    """Space is taken when written, not when allocated."""
    replicates: bool = False
    """Can send the difference between two snapshots to another node."""
    content: frozenset[Content] = frozenset()
    formats: tuple[str, ...] = ()
    """Image formats, the default first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Space of a storage, in bytes. ``free`` is what may still be written."""

    total: int
    used: int
    free: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Volume:
    """A volume as found on a storage. ``size`` is what a guest sees, ``used`` what it takes; both in bytes."""

    id: VolumeId
    content: Content
    format: str
    size: int
    used: int
    vmid: int | None = None
    ctime: float = 0.0
    """Seconds since the epoch; for people only, but of a backup when it was begun."""
    notes: str = ""
    protected: bool = False
    """A backup that is not removed until somebody takes that mark away."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockSource:
    """What QEMU is to open: a format over a protocol node, as in ``-blockdev``."""

    format: str
    """``raw`` or ``qcow2``."""
    protocol: Mapping[str, str | int | bool] = field(default_factory=dict)
    """The protocol node's options but for cache, discard and read-only, such as ``driver`` and ``filename``."""
    direct: bool = False
    """It can be opened with O_DIRECT."""
    locking: bool = False
    """It takes open-file-description locks (the option ``locking`` of QEMU's ``file`` driver)."""
    shared: bool = False
    """Another node can open it under the same id, so it need not be copied for a migration."""


class Driver(Protocol):
    """One storage on this node. Names are those of ``VolumeId.name``.

    Every method raises ``Refused`` when the storage is not usable now (not mounted, no answer), ``NotFound`` for a
    volume that is not there, and ``OperationFailed`` with what the tool said. A method that is cancelled or fails
    leaves no trace.
    """

    @property
    def capabilities(self) -> Capabilities:
        """What it can do."""

    async def check(self) -> None:
        """Whether it is usable on this node now."""

    async def usage(self) -> Usage:
        """Its space."""

    async def volumes(self, content: Content | None = None, vmid: int | None = None) -> list[Volume]:
        """What is on it, sorted by id."""

    async def volume(self, name: str) -> Volume:
        """One volume."""

    async def allocate(
        self, vmid: int, size: int, *, image_format: str | None = None, name: str | None = None
    ) -> VolumeId:
        """Make an empty disk image of ``size`` bytes with the next free name of ``vmid``, or with ``name``."""

    async def import_image(
        self,
        vmid: int,
        source: Path,
        *,
        image_format: str | None = None,
        name: str | None = None,
        progress: Progress | None = None,
        own_format: str | None = None,
        snapshot: str | None = None,
    ) -> VolumeId:
        """Make a disk image from the image file ``source`` (its format is found out), converted if need be.

        ``own_format`` is that of a volume of ours, which may lie over another; ``snapshot`` one inside it to copy.
        """

    async def resize(self, name: str, size: int) -> None:
        """Grow a disk image to ``size`` bytes; shrinking is refused. The guest must not run."""

    async def clone(self, name: str, vmid: int) -> VolumeId:
        """Make a disk image of ``vmid`` that shares the data of the base image ``name``, with its next free name."""

    async def dependants(self, name: str) -> tuple[str, ...]:
        """The volumes that share the data of this one and need it."""

    async def link(self, name: str, vmid: int, *, base: bool = False) -> VolumeId:
        """Give a disk image a second name, the next free one of ``vmid``, or that of a base image. No QEMU may have it
        open. With the deletion of the first name it is renamed."""

    async def give(self, name: str, vmid: int) -> VolumeId:
        """Rename a disk image to the next free name of another guest. No QEMU may have it open."""

    async def snapshots(self, name: str) -> tuple[str, ...]:
        """The snapshots of a disk image, in use or not."""

    async def snapshot(self, name: str, label: str) -> None:
        """Take a snapshot of a disk image. No QEMU may have it open: else QEMU must take it."""

    async def rollback(self, name: str, label: str) -> None:
        """Take a disk image back to a snapshot, which stays. No QEMU may have it open."""

    async def drop_snapshot(self, name: str, label: str) -> None:
        """Delete a snapshot of a disk image. No QEMU may have it open: else QEMU must delete it."""

    async def delete(self, name: str) -> None:
        """Remove a volume for good."""

    async def arrive(self, content: Content, file: str, size: int = 0) -> Arrival:
        """Begin to take in a file of ``size`` bytes (0: not known) as ``content``. Raises ``BadParameter`` for a name
        that such content cannot have."""

    async def block(self, name: str) -> BlockSource:
        """What QEMU is to open."""

    async def path(self, name: str) -> Path:
        """The file or device of a volume on this node."""

    async def dump(self) -> Path:
        """The directory for backup archives, made if need be. Names with a leading dot are free for who writes one."""

    async def annotate(self, name: str, notes: str | None, *, protected: bool | None) -> None:
        """Change a backup's notes, or whether it is protected; None leaves it as it is."""
