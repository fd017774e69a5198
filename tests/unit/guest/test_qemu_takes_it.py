"""A real QEMU takes the generated command lines: it starts, answers on its monitor, and boots from each bus."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest
from started_qemu import started

from racimo.guest.cloudinit import cloud_init_seed, seed_image
from racimo.guest.config import parse_config
from racimo.storage.base import BlockSource
from racimo.storage.images import create_image

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.guest.qemu.machine import Hypervisor

BOOT_SECTOR = bytes.fromhex("ba0105b02aeef4ebfd").ljust(510, b"\0") + b"\x55\xaa"
"""mov dx, 0x501; mov al, 0x2a; out dx, al; hlt for ever: QEMU ends with 0x55."""

BOOTED = 0x55
DEBUG_EXIT = "-device isa-debug-exit,iobase=0x501,iosize=1"


def a_block(path: Path, image_format: str = "raw") -> BlockSource:
    protocol: dict[str, str | int | bool] = {"driver": "file", "filename": str(path)}
    return BlockSource(format=image_format, protocol=protocol, locking=True)


RICH = {
    "name": "rich", "memory": "128", "sockets": "2", "cores": "2", "numa": "1", "cpu": "x86-64-v2-AES",
    "ostype": "l26", "scsihw": "virtio-scsi-single", "balloon": "64", "agent": "1", "serial0": "socket",
    "serial1": "socket", "rng0": "source=/dev/urandom", "tablet": "1",
    "scsi0": "st:100/a.qcow2,discard=on,ssd=1,iothread=1,queues=2,serial=abc,wwn=0x5000c50015ea71ac",
    "scsi30": "st:100/b.raw,cache=writethrough,werror=stop,rerror=report",
    "virtio15": "st:100/c.raw,cache=unsafe,iothread=1,ro=1",
    "sata5": "st:100/d.raw,detect_zeroes=0", "ide2": "st:cloudinit,media=cdrom", "ide3": "none,media=cdrom",
    "net0": "virtio=02:00:00:00:00:01,mtu=1400", "net7": "e1000=02:00:00:00:00:02", "net31": "rtl8139",
    "boot": "order=scsi0;net0", "vmgenid": "c0ffee00-0000-4000-8000-000000000002",
    "smbios1": "uuid=c0ffee00-0000-4000-8000-000000000001,product=UmFjaW1vLCBJbmMu,base64=1",
}  # fmt: skip
"""One of nearly everything."""


async def blocks_of_rich(folder: Path) -> dict[str, BlockSource]:
    """Its disks and its seed."""
    blocks: dict[str, BlockSource] = {}
    for key, image_format in (("scsi0", "qcow2"), ("scsi30", "raw"), ("virtio15", "raw"), ("sata5", "raw")):
        path = folder / f"{key}.{image_format}"
        await create_image(path, image_format, 64 << 20)
        blocks[key] = a_block(path, image_format)
    seed = folder / "seed.iso"
    seed.write_bytes(seed_image(cloud_init_seed(parse_config(RICH), 100)))
    return {**blocks, "ide2": a_block(seed)}


async def test_a_rich_configuration_starts_and_answers(hypervisor: Hypervisor, sockets: Path, tmp_path: Path) -> None:
    blocks = await blocks_of_rich(tmp_path)
    async with started(RICH, blocks, hypervisor, sockets) as qemu:
        assert qemu.greeting["QMP"]["version"]["qemu"]["major"] >= 7
        assert (await qemu.ask("query-status"))["status"] == "prelaunch"
        nodes = {node["node-name"]: node for node in await qemu.ask("query-named-block-nodes")}
        assert {f"drive-{key}" for key in blocks} <= nodes.keys()
        assert nodes["drive-scsi0"]["drv"] == "qcow2" and nodes["drive-scsi0"]["detect_zeroes"] == "unmap"
        assert nodes["drive-virtio15"]["ro"] and nodes["drive-ide2"]["ro"]
        assert (await qemu.ask("query-uuid"))["UUID"] == "c0ffee00-0000-4000-8000-000000000001"
        assert len(await qemu.ask("query-cpus-fast")) == 4
        for name in ("qmp", "agent", "serial", "serial1", "vnc"):
            assert stat.S_ISSOCK((sockets / f"{name}.sock").stat().st_mode)
        await qemu.ask("quit")
        assert await qemu.ended() == 0


@pytest.mark.parametrize("machine", ["pc", "q35"])
async def test_a_target_takes_the_whole_state_of_its_source(
    machine: str, hypervisor: Hypervisor, sockets: Path, tmp_path: Path
) -> None:
    """Every device of the rich guest has its counterpart at the same place, on another node and in another epoch."""
    blocks, values, there = await blocks_of_rich(tmp_path), {**RICH, "machine": machine}, sockets / "there"
    there.mkdir()
    channel = {"uri": f"unix:{there}/migration.sock"}
    async with (
        started(values, blocks, hypervisor, sockets) as source,
        started(values, blocks, hypervisor, there, node="another-node", epoch=2, incoming=True) as target,
    ):
        for qemu in (source, target):
            await qemu.ask("migrate-set-capabilities", capabilities=[{"capability": "events", "state": True}])
        await target.ask("migrate-incoming", **channel)
        await source.ask("cont")
        await source.ask("migrate", **channel)
        assert (await source.migrated(), await target.migrated()) == ("completed", "completed")
        await target.ask("cont")
        assert (await target.ask("query-status"))["status"] == "running"


@pytest.mark.parametrize("machine", ["pc", "q35"])
@pytest.mark.parametrize(
    ("key", "scsihw"),
    [
        ("virtio0", "lsi"), ("virtio15", "lsi"), ("ide0", "lsi"), ("sata1", "lsi"), ("scsi0", "lsi"),
        ("scsi0", "megasas"), ("scsi1", "pvscsi"), ("scsi2", "virtio-scsi-pci"), ("scsi3", "virtio-scsi-single"),
    ],
)  # fmt: skip
async def test_the_firmware_boots_from_a_drive_on_every_bus(
    machine: str, key: str, scsihw: str, hypervisor: Hypervisor, sockets: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk.raw"
    disk.write_bytes(BOOT_SECTOR.ljust(1 << 20, b"\0"))
    values = {
        "memory": "64",
        "machine": machine,
        "vga": "none",
        "scsihw": scsihw,
        key: "st:100/x.raw",
        "args": DEBUG_EXIT,
    }
    async with started(values, {key: a_block(disk)}, hypervisor, sockets) as qemu:
        await qemu.ask("cont")
        assert await qemu.ended() == BOOTED


async def test_two_qemus_never_hold_one_image(hypervisor: Hypervisor, sockets: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    await create_image(disk, "raw", 1 << 20)
    values = {"memory": "64", "vga": "none", "virtio0": "st:100/x.raw"}
    second = sockets / "second"
    second.mkdir()
    async with started(values, {"virtio0": a_block(disk)}, hypervisor, sockets):
        with pytest.raises(AssertionError, match='Failed to get "write" lock'):
            async with started(values, {"virtio0": a_block(disk)}, hypervisor, second):
                pass
