"""Drives of a guest: the value grammar of ``scsi0``, ``virtio0``, ``sata0``, ``ide0`` and the like."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from racimo.guest.kinds import BOOLEAN, SIZE, UNITS, Kind, choice, integer, pattern, properties, text
from racimo.storage.base import VolumeId

BUSES = {"ide": 4, "sata": 6, "scsi": 31, "virtio": 16}
"""Drive buses and how many drives each takes."""

CLOUD_INIT_NAME = re.compile(r"(.*/)?(cloudinit|vm-[0-9]+-cloudinit(\.(raw|qcow2|iso))?)")

BLOCK = 4096
"""Bytes; the largest that disks are written in."""

DRIVE_FORMATS = ("raw", "qcow2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Drive:
    """One drive as configured. What was left out is None; the ``effective`` settings are properties."""

    file: str
    media: str | None = None
    size: int | None = None
    """Bytes; informational, the image itself decides."""
    format: str | None = None
    import_from: str | None = None
    cache: str | None = None
    aio: str | None = None
    discard: str | None = None
    detect_zeroes: bool | None = None
    ssd: bool | None = None
    iothread: bool | None = None
    queues: int | None = None
    ro: bool | None = None
    backup: bool | None = None
    replicate: bool | None = None
    shared: bool | None = None
    serial: str | None = None
    wwn: str | None = None
    rerror: str | None = None
    werror: str | None = None

    @property
    def is_cdrom(self) -> bool:
        """A CD drive, the cloud-init seed included."""
        return self.media == "cdrom" or self.is_cloud_init

    @property
    def is_empty(self) -> bool:
        """A CD drive without a disc."""
        return self.file == "none"

    @property
    def is_cloud_init(self) -> bool:
        """The cloud-init seed: ``store:cloudinit``, or Proxmox VE's ``store:100/vm-100-cloudinit.qcow2``."""
        name = self.file.partition(":")[2]
        return bool(name) and CLOUD_INIT_NAME.fullmatch(name) is not None

    @property
    def new_size(self) -> int | None:
        """Bytes of the disk to be made, for the creation form ``store:8``; None where a volume is named.

        Whole blocks: QEMU cannot hand over a raw image that ends within one.
        """
        name = self.file.partition(":")[2]
        if not re.fullmatch(r"[0-9]+(\.[0-9]+)?", name):
            return None
        size = int(float(name) * UNITS["G"])
        return size + -size % BLOCK

    @property
    def storage(self) -> str | None:
        """The id of its storage; None for an empty CD drive."""
        return None if self.is_empty else self.file.partition(":")[0]

    @property
    def volume(self) -> VolumeId | None:
        """The volume it uses; None for an empty drive, a seed or the creation form."""
        if self.is_empty or self.is_cloud_init or self.new_size is not None:
            return None
        return VolumeId.parse(self.file)


def _parse_file(value: str) -> str:
    if value == "none":
        return value
    if value == "cdrom":
        raise ValueError("the node's own CD drive is not supported; use an ISO image or 'none'")
    if value.startswith("/"):
        raise ValueError("a path is not allowed here: use storage:name, or storage:0 with import-from=/path")
    storage, sign, name = value.partition(":")
    if sign and re.fullmatch(r"[0-9]{1,7}(\.[0-9]{1,6})?", name):
        VolumeId.parse(f"{storage}:x")
        return value
    VolumeId.parse(value)
    return value


def _parse_source(value: str) -> str:
    if value.startswith("/"):
        if ".." in value.split("/") or not re.fullmatch(r"/[^\x00-\x1f,]+", value):
            raise ValueError(f"'{value}' is not an absolute path without '..'")
        return value
    VolumeId.parse(value)
    return value


FILE: Kind[str] = Kind("<storage:volume | storage:GiB | storage:cloudinit | none>", _parse_file, str)
SOURCE: Kind[str] = Kind("<storage:volume | /path>", _parse_source, str)
LIMITS = tuple(
    f"{unit}{suffix}{maximum}"
    for unit in ("bps", "mbps", "iops")
    for suffix in ("", "_rd", "_wr")
    for maximum in ("", "_max", "_max_length")
)


def _make(**values: Any) -> Drive:
    drive = Drive(**values)
    if drive.is_empty and drive.media != "cdrom":
        raise ValueError("'none' needs media=cdrom")
    if drive.import_from is not None and drive.new_size is None:
        raise ValueError("import-from needs storage:0 as the volume, so that a new one is made")
    if drive.new_size == 0 and drive.import_from is None:
        raise ValueError("the size must be above 0 GiB, or import-from must be given")
    if drive.is_cdrom and drive.new_size is not None:
        raise ValueError("a CD drive takes an ISO image, not a size")
    return drive


DRIVE: Kind[Drive] = properties(
    _make,
    {
        "file": FILE,
        "media": choice("cdrom", "disk"),
        "import-from": SOURCE,
        "format": choice(*DRIVE_FORMATS),
        "aio": choice("native", "threads", "io_uring"),
        "backup": BOOLEAN,
        "cache": choice("none", "writethrough", "writeback", "unsafe", "directsync"),
        "detect_zeroes": BOOLEAN,
        "discard": choice("ignore", "on"),
        "iothread": BOOLEAN,
        "queues": integer(2, 64),
        "replicate": BOOLEAN,
        "rerror": choice("ignore", "report", "stop"),
        "ro": BOOLEAN,
        "serial": text(60),
        "shared": BOOLEAN,
        "size": SIZE,
        "ssd": BOOLEAN,
        "werror": choice("enospc", "ignore", "report", "stop"),
        "wwn": pattern("0x and 16 hex digits", r"0x[0-9a-fA-F]{16}", "a world wide name: 0x and 16 hex digits"),
    },
    default="file",
    required=("file",),
    unsupported=(*LIMITS, "snapshot", "scsiblock", "cyls", "heads", "secs", "trans", "product", "vendor"),
)


def slot(key: str) -> tuple[str, int]:
    """Bus and index of a drive's key, such as ``("scsi", 0)``. Raises ``ValueError`` if it is none."""
    match = re.fullmatch(r"(ide|sata|scsi|virtio)([0-9]{1,2})", key)
    if not match or int(match[2]) >= BUSES[match[1]]:
        raise ValueError(f"'{key}' is not a drive")
    return match[1], int(match[2])
