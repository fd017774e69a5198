"""Disks of this machine, through lsblk(8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel

if TYPE_CHECKING:
    from racimo.machine.programs import Programs

_COLUMNS = "NAME,PATH,TYPE,SIZE,MODEL,SERIAL,VENDOR,WWN,ROTA,FSTYPE,MOUNTPOINT,PTTYPE,TRAN"


class _Device(BaseModel):
    name: str
    path: str
    type: str
    size: int = 0
    model: str | None = None
    serial: str | None = None
    vendor: str | None = None
    wwn: str | None = None
    rota: bool = False
    fstype: str | None = None
    mountpoint: str | None = None
    pttype: str | None = None
    tran: str | None = None
    children: Sequence[_Device] = ()


class _Listed(BaseModel):
    blockdevices: Sequence[_Device] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """One disk. ``size`` in bytes; ``kind``: ``nvme``, ``ssd``, ``hdd``, ``usb``. ``used`` is empty for a free one."""

    path: str
    size: int
    kind: str
    model: str
    serial: str
    vendor: str
    wwn: str
    used: str
    mounted: bool
    gpt: bool


async def read_disks(programs: Programs) -> list[Disk]:
    """Whole disks, by path; loop devices, RAM disks and drives without a medium are left out."""
    listed = _Listed.model_validate_json(await programs.run("lsblk", "-J", "-b", "-o", _COLUMNS) or "{}")
    found = [_disk(device) for device in listed.blockdevices if device.type == "disk" and _is_disk(device)]
    return sorted(found, key=lambda disk: disk.path)


def _is_disk(device: _Device) -> bool:
    return device.size > 0 and not device.name.startswith(("ram", "zram", "nbd"))


def _disk(device: _Device) -> Disk:
    every = list(_with_children(device))
    mounts = [each.mountpoint for each in every if each.mountpoint]
    file_systems = [each.fstype for each in every if each.fstype]
    used = "mounted" if mounts else (file_systems[0] if file_systems else "partitions" if device.children else "")
    kind = "nvme" if device.tran == "nvme" or device.name.startswith("nvme") else "hdd" if device.rota else "ssd"
    return Disk(
        path=device.path, size=device.size, kind="usb" if device.tran == "usb" else kind,
        model=(device.model or "unknown").strip(), serial=device.serial or "unknown",
        vendor=(device.vendor or "unknown").strip(), wwn=device.wwn or "unknown", used=used, mounted=bool(mounts),
        gpt=device.pttype == "gpt",
    )  # fmt: skip


def _with_children(device: _Device) -> Iterator[_Device]:
    yield device
    for child in device.children:
        yield from _with_children(child)
