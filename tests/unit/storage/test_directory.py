"""The directory storage, on real files."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from racimo.errors import AlreadyExists, Conflict, NotFound, OperationFailed, Refused
from racimo.model.storage import Storage
from racimo.storage.base import Content
from racimo.storage.directory import Directory
from racimo.storage.images import check_image, create_image, image_info

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def a_directory(path: Path, **options: str) -> Directory:
    definition = Storage(
        id="local", type="dir", path=str(path), content=("images", "iso", "import"), options=tuple(options.items())
    )
    return Directory(definition)


def everything_under(path: Path) -> list[str]:
    return sorted(str(found.relative_to(path)) for found in path.rglob("*") if found.is_file())


async def test_disks_are_named_and_laid_out_as_in_proxmox_ve(tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    assert str(await storage.allocate(100, MIB)) == "local:100/vm-100-disk-0.raw"
    assert str(await storage.allocate(100, MIB, image_format="qcow2")) == "local:100/vm-100-disk-1.qcow2"
    assert everything_under(tmp_path) == ["images/100/vm-100-disk-0.raw", "images/100/vm-100-disk-1.qcow2"]


async def test_disks_are_thin_and_have_the_size_asked_for(tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    for image_format in ("raw", "qcow2"):
        volume = await storage.allocate(100, 1 << 40, image_format=image_format)
        found = await storage.volume(volume.name)
        assert (found.size, found.format, found.vmid) == (1 << 40, image_format, 100)
        assert found.used < 20 * MIB


async def test_many_allocations_at_once_each_get_a_name_of_their_own(tmp_path: Path) -> None:
    """As when two nodes make disks of one guest on a shared directory."""
    nodes = [a_directory(tmp_path), a_directory(tmp_path)]
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(nodes[number % 2].allocate(100, MIB)) for number in range(8)]
    assert {task.result().name for task in tasks} == {f"100/vm-100-disk-{number}.raw" for number in range(8)}
    assert len(everything_under(tmp_path)) == 8


async def test_a_name_that_is_taken_is_refused_and_keeps_its_content(tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    volume = await storage.allocate(100, MIB)
    with pytest.raises(AlreadyExists):
        await storage.allocate(100, 2 * MIB, name=volume.name)
    assert (await storage.volume(volume.name)).size == MIB


@pytest.mark.parametrize("phase", ["images", "images/100", "images/100/.*.tmp", "images/100/vm-100-disk-0.raw"])
async def test_an_allocation_cancelled_in_any_phase_leaves_nothing(phase: str, tmp_path: Path) -> None:
    """Cancelled as soon as the phase's first trace is seen: the folders, the unnamed file, the named one."""
    storage = a_directory(tmp_path)
    task = asyncio.create_task(storage.allocate(100, MIB))
    async with asyncio.timeout(30):
        while not task.done() and not list(tmp_path.glob(phase)):  # noqa: ASYNC110 - a file system tells no event
            await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled():
        await storage.delete(task.result().name)
    assert everything_under(tmp_path) == []


async def test_what_a_killed_daemon_left_half_made_is_removed_later(tmp_path: Path) -> None:
    old, young = tmp_path / "images/100/.old.tmp", tmp_path / "images/100/.young.tmp"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"x")
    young.write_bytes(b"x")
    os.utime(old, (1, 1))
    await a_directory(tmp_path).allocate(100, MIB)
    assert not old.exists() and young.exists()


async def test_an_image_is_imported_converted_and_tells_progress(tmp_path: Path) -> None:
    source, content = tmp_path / "source.raw", os.urandom(3 * MIB)
    source.write_bytes(content)
    storage, told = a_directory(tmp_path / "st"), list[float]()
    volume = await storage.import_image(100, source, image_format="qcow2", progress=told.append)
    assert told == sorted(told) and told[-1] == 1.0
    path = await storage.path(volume.name)
    assert (await image_info(path)).format == "qcow2" and await check_image(path, "qcow2") == 0
    back = await storage.import_image(101, path, image_format="raw")
    assert (await storage.path(back.name)).read_bytes() == content


async def test_a_cancelled_import_kills_the_copy_and_leaves_nothing(tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(os.urandom(48 * MIB))
    begun = asyncio.Event()
    storage = a_directory(tmp_path / "st")
    task = asyncio.create_task(storage.import_image(100, source, progress=lambda fraction: begun.set()))
    await asyncio.wait_for(begun.wait(), 30)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert everything_under(tmp_path / "st") == []


async def test_an_image_that_refers_to_another_file_is_not_imported(tmp_path: Path) -> None:
    """Else a crafted image could give its owner any file of the node."""
    secret, crafted = tmp_path / "secret", tmp_path / "crafted.qcow2"
    secret.write_bytes(b"s" * MIB)
    process = await asyncio.create_subprocess_exec(
        "qemu-img", "create", "-q", "-f", "qcow2", "-b", str(secret), "-F", "raw", str(crafted)
    )
    assert await process.wait() == 0
    with pytest.raises(Refused, match="it refers to another file"):
        await a_directory(tmp_path / "st").import_image(100, crafted)


async def test_what_is_no_image_is_not_imported(tmp_path: Path) -> None:
    broken = tmp_path / "broken.qcow2"
    broken.write_bytes(b"QFI\xfb\0\0\0\x03" + b"\xff" * 600)
    with pytest.raises(OperationFailed, match="qemu-img info failed"):
        await a_directory(tmp_path / "st").import_image(100, broken)
    with pytest.raises(NotFound, match="does not exist"):
        await a_directory(tmp_path / "st").import_image(100, tmp_path / "nothing")
    assert everything_under(tmp_path / "st") == []


async def test_a_disk_grows_but_never_shrinks(tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    for image_format in ("raw", "qcow2"):
        name = (await storage.allocate(100, MIB, image_format=image_format)).name
        await storage.resize(name, 3 * MIB)
        assert (await storage.volume(name)).size == 3 * MIB
        with pytest.raises(Refused, match="shrinking loses data"):
            await storage.resize(name, 2 * MIB)


async def test_a_disk_that_a_qemu_has_open_is_neither_removed_nor_resized(tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    name = (await storage.allocate(100, MIB)).name
    process = await asyncio.create_subprocess_exec(
        "qemu-io", "-f", "raw", str(await storage.path(name)),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(b"length\n")
        async with asyncio.timeout(20):
            await process.stdout.readuntil(b"1 MiB")
        with pytest.raises(Conflict, match="a QEMU has it open"):
            await storage.delete(name)
        with pytest.raises(Conflict, match="a QEMU has it open"):
            await storage.resize(name, 2 * MIB)
    finally:
        await process.communicate(b"quit\n")
    await storage.delete(name)


async def test_the_folder_of_a_guest_goes_with_its_last_disk(tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    one, two = (await storage.allocate(100, MIB)).name, (await storage.allocate(100, MIB)).name
    await storage.delete(one)
    assert (tmp_path / "images/100").is_dir()
    await storage.delete(two)
    assert not (tmp_path / "images/100").exists()
    with pytest.raises(NotFound, match="Look at the content of the storage"):
        await storage.delete(two)


async def test_the_content_is_listed_by_kind_and_strange_files_are_left_out(tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    await storage.allocate(100, MIB)
    await storage.allocate(101, MIB, image_format="qcow2")
    for file in ("template/iso/debian.iso", "template/iso/notes.txt", "import/cloud.qcow2", "images/100/other.raw",
                 "images/100/.half.tmp", "images/101/vm-100-disk-7.raw", "images/101/vm-101-disk-9.qcow2"):  # fmt: skip
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    await create_image(tmp_path / "import/good.qcow2", "qcow2", MIB)
    assert [str(volume.id) for volume in await storage.volumes()] == [
        "local:100/vm-100-disk-0.raw", "local:101/vm-101-disk-0.qcow2", "local:import/good.qcow2",
        "local:iso/debian.iso",
    ]  # fmt: skip
    assert [volume.vmid for volume in await storage.volumes(Content.IMAGES, 101)] == [101]
    assert (await storage.block("iso/debian.iso")).format == "raw"


@pytest.mark.parametrize(
    "name", ["100/vm-101-disk-0.raw", "../x", "iso/../x", "etc/passwd", "100/vm-100-disk-0.vmdk", "iso/"]
)
async def test_a_name_that_no_volume_can_have_is_not_found(name: str, tmp_path: Path) -> None:
    storage = a_directory(tmp_path)
    for call in (storage.path, storage.block, storage.volume, storage.delete):
        with pytest.raises(NotFound):
            await call(name)


async def test_a_shared_directory_that_is_not_mounted_is_refused_and_not_written_to(tmp_path: Path) -> None:
    storage = a_directory(tmp_path, is_mountpoint="1")
    with pytest.raises(Refused, match="nothing is mounted on"):
        await storage.allocate(100, MIB)
    assert everything_under(tmp_path) == []
    missing = a_directory(tmp_path / "gone", mkdir="0")
    with pytest.raises(Refused, match="does not exist"):
        await missing.check()


async def test_a_storage_without_disk_images_in_its_content_takes_none(tmp_path: Path) -> None:
    definition = Storage(id="isos", type="dir", path=str(tmp_path), content=("iso",))
    with pytest.raises(Refused, match="Add 'images' to its content"):
        await Directory(definition).allocate(100, MIB)


async def test_capabilities_are_a_record(tmp_path: Path) -> None:
    found = a_directory(tmp_path, format="qcow2", preallocation="full").capabilities
    assert found.formats == ("qcow2", "raw")
    assert (found.thin, found.shared, found.snapshots) == (False, False, True)
    assert found.snapshot_formats == ("qcow2",)
    assert found.content == {Content.IMAGES, Content.ISO, Content.IMPORT}
