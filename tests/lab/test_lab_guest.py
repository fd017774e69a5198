"""The lab guest under a plain QEMU: what it acknowledges is on the disk, also when its power is cut."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from racimo.errors import Refused
from racimo.lab.image import guest_image
from racimo.lab.journal import judge, read_acknowledgements, read_disk, read_records
from racimo.lab.place import LabPlace
from racimo.lab.requirements import demand, missing_packages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = [pytest.mark.lab]

TIMEOUT_S = 90.0
WRITES = 15


@pytest.fixture
def disks(tmp_path: Path) -> Path:
    """A directory with the guest's two disks."""
    shutil.copyfile(guest_image(LabPlace.from_environment().cache), tmp_path / "boot.raw")
    with (tmp_path / "data.raw").open("wb") as data:
        data.truncate(64 << 20)
    return tmp_path


@asynccontextmanager
async def guest(disks: Path, node: str, epoch: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """A QEMU with the guest, whose console goes to ``<node>.log``; killed at the end: a power cut."""
    argv = ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "128", "-nodefaults", "-display", "none"]
    argv += ["-serial", f"file:{disks / node}.log", "-qmp", f"unix:{disks / node}.qmp,server=on,wait=off"]
    for name in ("boot", "data"):
        argv += ["-drive", f"file={disks / name}.raw,format=raw,if=virtio"]
    argv += ["-device", "virtio-serial", "-chardev", f"socket,path={disks / node}.ga,server=on,wait=off,id=ga"]
    argv += ["-device", "virtserialport,chardev=ga,name=org.qemu.guest_agent.0"]
    for name, value in (("node", node), ("epoch", str(epoch))):
        argv += ["-fw_cfg", f"name=opt/io.racimo/{name},string={value:<64}"]
    qemu = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield qemu
    finally:
        if qemu.returncode is None:
            qemu.kill()
        await qemu.wait()


async def acknowledged(disks: Path, node: str, count: int) -> int:
    """Wait for so many acknowledgements on a node's console; returns the newest number."""
    log = disks / f"{node}.log"
    async with asyncio.timeout(TIMEOUT_S):
        while not log.exists() or len(acks := read_acknowledgements(log.read_bytes())) < count:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    return acks[-1].seq


async def test_what_it_acknowledged_outlives_a_power_cut_and_it_goes_on_from_there(disks: Path) -> None:
    async with guest(disks, "n1", 1):
        last = await acknowledged(disks, "n1", WRITES)
        assert last >= WRITES
    async with guest(disks, "n2", 2):
        assert await acknowledged(disks, "n2", WRITES) > last
    acks = [ack for node in ("n1", "n2") for ack in read_acknowledgements((disks / f"{node}.log").read_bytes())]
    report = judge(read_records(await read_disk(disks / "data.raw")), acks)
    assert report.sound
    assert [(span.writer.node, span.writer.epoch) for span in report.writers] == [("n1", "1"), ("n2", "2")]
    assert len({span.writer.boot for span in report.writers}) == 2


async def test_two_at_once_on_one_disk_are_found_out(disks: Path) -> None:
    """The oracle's own proof: the very thing that must never happen, made on purpose with QEMU's locks off."""
    shutil.copyfile(disks / "boot.raw", disks / "other.raw")
    async with guest(disks, "n1", 1):
        await acknowledged(disks, "n1", WRITES)
        (disks / "apart").mkdir()
        (disks / "other.raw").rename(disks / "apart/boot.raw")
        (disks / "apart/data.raw").symlink_to(disks / "data.raw")
        async with unlocked_guest(disks / "apart", "n2", 2):
            await acknowledged(disks / "apart", "n2", WRITES)
    logs = (disks / "n1.log", disks / "apart/n2.log")
    acks = [ack for log in logs for ack in read_acknowledgements(log.read_bytes())]
    report = judge(read_records(await read_disk(disks / "data.raw")), acks)
    assert report.writers_at_once == 2
    assert report.lost


@asynccontextmanager
async def unlocked_guest(disks: Path, node: str, epoch: int) -> AsyncIterator[None]:
    argv = ["qemu-system-x86_64", "-machine", "pc,accel=tcg", "-m", "128", "-nodefaults", "-display", "none"]
    argv += ["-serial", f"file:{disks / node}.log"]
    for name in ("boot", "data"):
        argv += ["-drive", f"file={disks / name}.raw,format=raw,if=virtio,file.locking=off"]
    for name, value in (("node", node), ("epoch", str(epoch))):
        argv += ["-fw_cfg", f"name=opt/io.racimo/{name},string={value:<64}"]
    qemu = await asyncio.create_subprocess_exec(*argv, stdin=asyncio.subprocess.DEVNULL)
    try:
        yield
    finally:
        qemu.kill()
        await qemu.wait()


async def test_it_answers_the_guest_agent_and_the_power_button(disks: Path) -> None:
    async with guest(disks, "n1", 1) as qemu:
        await acknowledged(disks, "n1", WRITES)
        async with asyncio.timeout(TIMEOUT_S):
            assert await said(disks / "n1.ga", {"execute": "guest-sync-delimited", "arguments": {"id": 42}}) == 42
            assert await said(disks / "n1.ga", {"execute": "guest-ping"}) == {}
            cards: Any = await said(disks / "n1.ga", {"execute": "guest-network-get-interfaces"})
            assert "127.0.0.1" in {each["ip-address"] for card in cards for each in card["ip-addresses"]}
            await said(disks / "n1.qmp", {"execute": "qmp_capabilities"}, {"execute": "system_powerdown"}, greeted=True)
            await qemu.wait()
    assert b"shutdown" in (disks / "n1.log").read_bytes()


async def said(socket: Path, *commands: dict[str, object], greeted: bool = False) -> object:
    """What the other side of a socket returns to the last of these commands."""
    reader, writer = await asyncio.open_unix_connection(socket)
    try:
        if greeted:
            await reader.readline()
        answer: dict[str, object] = {}
        for command in commands:
            writer.write(json.dumps(command).encode() + b"\n")
            answer = {}
            while "return" not in answer:
                answer = json.loads((await reader.readline()).lstrip(b"\xff"))
        return answer["return"]
    finally:
        writer.close()
        await writer.wait_closed()


def test_the_image_is_made_once_and_found_again() -> None:
    cache = LabPlace.from_environment().cache
    first = guest_image(cache)
    made = first.stat().st_mtime_ns
    assert guest_image(cache) == first
    assert first.stat().st_mtime_ns == made


def test_a_host_that_lacks_a_tool_is_told_what_to_install() -> None:
    assert missing_packages({"sh": "dash", "no-such-tool": "some-package", "/no/such/file": "another"}) == [
        "another", "some-package",
    ]  # fmt: skip
    with pytest.raises(Refused, match="apt-get install some-package"):
        demand({"no-such-tool": "some-package"})
