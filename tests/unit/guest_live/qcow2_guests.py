"""Guests on qcow2 images for the tests, and their images seen from outside."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from guest_parts import HALT

from racimo.guest.console import serial_console
from racimo.guest.operations import CreateGuest
from racimo.storage.images import image_info

if TYPE_CHECKING:
    from pathlib import Path

    from guest_nodes import Datacenter, GuestNode

SUM = bytes.fromhex("fa 30db bafd03 ec a801 74fb baf803 ec 00c3 88d8 ee ebed")
"""Adds up the bytes that come on the serial port and answers each with the sum so far: its memory is one register."""
CONFIG = {"memory": "32", "vga": "none", "balloon": "0", "serial0": "socket"}


async def a_guest(place: Datacenter, code: bytes = HALT, **config: str) -> GuestNode:
    """Guest 100 on a new node, with two qcow2 disks."""
    node = await place.add("n1")
    boot = place.boot_disk(code).replace("format=raw", "format=qcow2")
    drives = {"virtio0": boot, "virtio1": "shared:0.01,format=qcow2"}
    await node.run(CreateGuest(vmid=100, config={**CONFIG, **drives, **config}))
    return node


def image(place: Datacenter, number: int, vmid: int = 100) -> Path:
    """One of its images."""
    return place.root / "shared" / "images" / str(vmid) / f"vm-{vmid}-disk-{number}.qcow2"


async def inside(place: Datacenter) -> list[tuple[str, ...]]:
    """The snapshots inside each image of guest 100."""
    return [(await image_info(image(place, number))).snapshots for number in (0, 1)]


async def written(path: Path, pattern: int) -> None:
    """Fill the beginning of an image that nobody has open."""
    await qemu_io(path, f"write -P {pattern} 0 64k")


async def holds(path: Path, pattern: int) -> bool:
    """Whether the beginning of an image is filled so."""
    return "verification failed" not in await qemu_io(path, f"read -P {pattern} 0 64k")


async def qemu_io(path: Path, command: str) -> str:
    """What ``qemu-io`` says."""
    process = await asyncio.create_subprocess_exec(
        "qemu-io", "-f", path.suffix[1:], "-c", command, str(path), stdout=asyncio.subprocess.PIPE
    )
    said = (await process.communicate())[0].decode()
    assert process.returncode == 0 or "verification failed" in said, said
    return said


async def add(node: GuestNode, number: int, vmid: int = 100) -> int:
    """The guest's sum after ``number`` was added."""
    async with asyncio.timeout(30), serial_console(node.paths, vmid) as (reader, writer):
        writer.write(bytes([number]))
        return (await reader.readexactly(1))[0]
