"""Drives as QEMU arguments: the block nodes, their controllers and the devices of the guest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from racimo.errors import Refused
from racimo.guest.drives import slot
from racimo.guest.qemu.addresses import place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.guest.config import GuestConfig
    from racimo.guest.drives import Drive
    from racimo.storage.base import BlockSource

Argument: TypeAlias = "dict[str, str | int | bool | dict[str, str | int | bool]]"
"""The object of a ``-device``, ``-blockdev`` or ``-object`` in JSON form."""

CONTROLLERS = {
    "lsi": ("lsi53c895a", 7),
    "lsi53c810": ("lsi53c810", 7),
    "virtio-scsi-pci": ("virtio-scsi-pci", 31),
    "megasas": ("megasas", 31),
    "pvscsi": ("pvscsi", 31),
}
"""SCSI controllers: QEMU's device and how many drives each takes."""


@dataclass(frozen=True, slots=True)
class DriveArguments:
    """What one drive adds to the command line, in the order in which QEMU needs it."""

    objects: tuple[Argument, ...]
    controllers: tuple[Argument, ...]
    nodes: tuple[Argument, ...]
    device: Argument


def node_name(key: str) -> str:
    """The block node of a drive's image, as in QMP's ``query-named-block-nodes``."""
    return f"drive-{key}"


def block_nodes(key: str, drive: Drive, source: BlockSource) -> tuple[Argument, ...]:
    """The protocol node ``file-<key>`` and the format node ``drive-<key>`` over it."""
    read_only = drive.is_cdrom or bool(drive.ro)
    cache = drive.cache or "none"
    caching: dict[str, str | int | bool] = {
        "direct": source.direct and cache in {"none", "directsync"},
        "no-flush": cache == "unsafe",
    }
    discard = "unmap" if drive.discard == "on" and not read_only else "ignore"
    file: Argument = {
        **source.protocol,
        "node-name": f"file-{key}",
        "cache": caching,
        "discard": discard,
        "read-only": read_only,
        "auto-read-only": False,
    }
    if source.protocol.get("driver") in {"file", "host_device"}:
        aio = drive.aio or "threads"
        file["aio"] = "threads" if aio == "native" and not caching["direct"] else aio
    if source.locking:
        file["locking"] = "on"
    image: Argument = {
        "driver": source.format,
        "node-name": node_name(key),
        "file": f"file-{key}",
        "cache": dict(caching),
        "discard": discard,
        "read-only": read_only,
    }
    if not read_only and drive.detect_zeroes is not False:
        image["detect-zeroes"] = "unmap" if discard == "unmap" else "on"
    return file, image


def drive_arguments(
    config: GuestConfig, key: str, source: BlockSource | None, boot_index: int | None, *, q35: bool
) -> DriveArguments:
    """All that the drive ``key`` adds. ``source`` is None for an empty CD drive."""
    drive, (bus, index) = config.drives[key], slot(key)
    if source is None and not drive.is_empty:
        raise Refused(
            f"The drive {key} cannot be used", why=f"{drive.file} was not resolved to a volume", todo="Attach a volume"
        )
    device: Argument = {"driver": _driver(bus, drive), "id": key}
    objects: list[Argument] = []
    controllers: list[Argument] = []
    if bus == "virtio":
        device |= dict(zip(("bus", "addr"), place(key), strict=True))
        if drive.iothread:
            objects.append({"qom-type": "iothread", "id": f"iothread-{key}"})
            device["iothread"] = f"iothread-{key}"
        if drive.queues:
            device["num-queues"] = drive.queues
    elif bus == "scsi":
        objects, controllers, where = _scsi(config, drive, index)
        device |= where
    elif bus == "sata":
        pci, address = place("ahci0")
        controllers.append({"driver": "ahci", "id": "ahci0", "bus": pci, "addr": address})
        device["bus"] = f"ahci0.{index}"
    else:
        device |= {"bus": f"ide.{index}", "unit": 0} if q35 else {"bus": f"ide.{index // 2}", "unit": index % 2}
    if boot_index is not None:
        device["bootindex"] = boot_index
    nodes: tuple[Argument, ...] = ()
    if source is not None:
        nodes = block_nodes(key, drive, source)
        device["drive"] = node_name(key)
    device |= _properties(bus, key, drive)
    return DriveArguments(tuple(objects), tuple(controllers), nodes, device)


def _driver(bus: str, drive: Drive) -> str:
    if bus == "virtio":
        return "virtio-blk-pci"
    kind = "cd" if drive.is_cdrom else "hd"
    return f"{'scsi' if bus == 'scsi' else 'ide'}-{kind}"


def _scsi(config: GuestConfig, drive: Drive, index: int) -> tuple[list[Argument], list[Argument], Argument]:
    """Objects, controller and place of a SCSI drive."""
    objects: list[Argument] = []
    if config.scsihw == "virtio-scsi-single":
        name = f"virtioscsi{index}"
        pci, address = place(name)
        controller: Argument = {"driver": "virtio-scsi-pci", "id": name, "bus": pci, "addr": address}
        if drive.iothread:
            objects.append({"qom-type": "iothread", "id": f"iothread-{name}"})
            controller["iothread"] = f"iothread-{name}"
        if drive.queues:
            controller["num_queues"] = drive.queues
        return objects, [controller], {"bus": f"{name}.0", "channel": 0, "scsi-id": 0, "lun": index}
    model, capacity = CONTROLLERS[config.scsihw]
    number, unit = divmod(index, capacity)
    name = f"scsihw{number}"
    pci, address = place(name)
    where: Argument = {"bus": f"{name}.0", "scsi-id": unit}
    if not config.scsihw.startswith("lsi"):
        where |= {"channel": 0, "lun": 0}
    return objects, [{"driver": model, "id": name, "bus": pci, "addr": address}], where


def _properties(bus: str, key: str, drive: Drive) -> Iterator[tuple[str, str | int | bool]]:
    """Settings of the device itself."""
    if drive.is_cdrom and bus != "virtio":
        return
    if drive.cache in {"writethrough", "directsync"}:
        yield "write-cache", "off"
    if bus == "scsi":
        yield "device_id", node_name(key)
    if drive.ssd:
        yield "rotation_rate", 1
    if drive.serial:
        yield "serial", drive.serial
    if drive.wwn and bus != "virtio":
        yield "wwn", int(drive.wwn, 16)
    if drive.rerror:
        yield "rerror", drive.rerror
    if drive.werror:
        yield "werror", drive.werror
