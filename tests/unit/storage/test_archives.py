"""Backup archives: complete or not there, checked as they are read, and listed with what stands beside them."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from racimo.errors import OperationFailed, Refused
from racimo.model.storage import Storage
from racimo.storage.archive import Member, read_archive, read_first, write_archive
from racimo.storage.archive_names import ArchiveName
from racimo.storage.base import Content
from racimo.storage.directory import Directory

if TYPE_CHECKING:
    from pathlib import Path

NAME = "vzdump-qemu-100-2026_11_23-02_03_04"
DISK = os.urandom(3 << 20)


def silent(done: float) -> None:
    """Nobody is told."""


async def an_archive(folder: Path, name: str = f"{NAME}.tar.zst") -> Path:
    disk = folder / "disk"
    disk.write_bytes(DISK)
    path = folder / name
    members = [Member("guest.json", b'{"vmid": 100}'), Member("disk-scsi0.qcow2", disk)]
    await write_archive(path, members, compress=name.endswith(".zst"), told=silent)
    return path


@pytest.mark.parametrize("ending", ["tar", "tar.zst"])
async def test_what_was_written_is_read_again(tmp_path: Path, ending: str) -> None:
    told: list[float] = []
    path = await an_archive(tmp_path, f"{NAME}.{ending}")
    assert await read_first(path) == b'{"vmid": 100}'
    found = await read_archive(path, lambda name: tmp_path / f"out-{name}", told.append)
    assert found["guest.json"].read_bytes() == b'{"vmid": 100}' and found["disk-scsi0.qcow2"].read_bytes() == DISK
    assert told and told == sorted(told)


async def test_standard_tools_take_it_apart(tmp_path: Path) -> None:
    path = await an_archive(tmp_path)
    subprocess.run(["tar", "--zstd", "-xf", str(path)], check=True, cwd=tmp_path)
    subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], check=True, cwd=tmp_path)
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("ending", ["tar", "tar.zst"])
@pytest.mark.parametrize("kept", [0, 100, 2 << 20, -20000])
async def test_an_archive_that_was_cut_off_is_refused(tmp_path: Path, ending: str, kept: int) -> None:
    path = await an_archive(tmp_path, f"{NAME}.{ending}")
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(OperationFailed):
        await read_archive(path, lambda name: tmp_path / f"out-{name}", silent)


async def test_a_changed_byte_is_seen(tmp_path: Path) -> None:
    path = await an_archive(tmp_path, f"{NAME}.tar")
    content = bytearray(path.read_bytes())
    content[2 << 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(OperationFailed, match="its content is not what SHA256SUMS says"):
        await read_archive(path, lambda name: tmp_path / f"out-{name}", silent)


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "disk-scsi0.raw", "guest.json/x"])
async def test_a_member_that_does_not_belong_there_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{NAME}.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo(name)
        info.size = 1
        tar.addfile(info, io.BytesIO(b"x"))
    with pytest.raises(OperationFailed, match="cannot be used"):
        await read_archive(path, lambda name: tmp_path / f"out-{name}", silent)


async def test_a_link_in_place_of_a_disk_is_refused(tmp_path: Path) -> None:
    path = tmp_path / f"{NAME}.tar"
    with tarfile.open(path, "w") as tar:
        info = tarfile.TarInfo("disk-scsi0.qcow2")
        info.type, info.linkname = tarfile.SYMTYPE, "/etc/shadow"
        tar.addfile(info)
    with pytest.raises(OperationFailed, match="cannot be used"):
        await read_archive(path, lambda name: tmp_path / f"out-{name}", silent)


async def test_a_cancelled_archive_leaves_no_file(tmp_path: Path) -> None:
    disk, path, begun = tmp_path / "disk", tmp_path / f"{NAME}.tar.zst", asyncio.Event()
    disk.write_bytes(DISK)
    members = [Member("disk-scsi0.qcow2", disk)]
    writing = asyncio.create_task(
        write_archive(path, members, compress=True, told=lambda done: begun.set(), limit=1 << 10)
    )
    await begun.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    assert not path.exists()


async def test_backups_are_listed_with_what_stands_beside_them(tmp_path: Path) -> None:
    storage = Directory(Storage(id="dump", type="dir", path=str(tmp_path / "d"), content=("backup",)))
    folder = await storage.dump()
    path = await an_archive(folder)
    (folder / f"{path.name}.notes").write_text("before the upgrade\n")
    (folder / f"{path.name}.protected").touch()
    (folder / ".half.tmp").touch()
    (found,) = await storage.volumes(Content.BACKUP, 100)
    assert str(found.id) == f"dump:backup/{path.name}"
    assert (found.vmid, found.format, found.notes, found.protected) == (100, "tar.zst", "before the upgrade", True)
    assert found.ctime == 1795399384 and found.size == path.stat().st_size
    with pytest.raises(Refused, match="it is protected"):
        await storage.delete(f"backup/{path.name}")
    (folder / f"{path.name}.protected").unlink()
    await storage.delete(f"backup/{path.name}")
    assert sorted(each.name for each in folder.iterdir()) == [".half.tmp", "disk"]


async def test_a_storage_without_backups_among_its_content_takes_none(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="takes no backups"):
        await Directory(Storage(id="images", type="dir", path=str(tmp_path))).dump()


def test_a_name_is_read_as_it_was_written() -> None:
    name = ArchiveName(vmid=100, ctime=1795399384, format="tar.zst")
    assert str(name) == f"{NAME}.tar.zst" and ArchiveName.parse(str(name)) == name
    assert ArchiveName.parse("vzdump-qemu-100-2026_02_31-00_00_00.tar") is None
    assert ArchiveName.parse(f"{NAME}.tar.zst.notes") is None
