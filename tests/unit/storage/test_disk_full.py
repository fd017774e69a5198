"""A storage that runs full says so and keeps nothing of what was begun. On a real, small file system."""

from __future__ import annotations

import contextlib
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from racimo.errors import Refused
from racimo.model.storage import Storage
from racimo.storage import directory
from racimo.storage.base import Content
from racimo.storage.directory import Directory
from racimo.storage.images import NoSpace, convert_image, create_image

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.root
MIB = 1 << 20


@contextlib.contextmanager
def a_small_file_system(options: str) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="racimo-full-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "racimo-test", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)
        path.rmdir()


@pytest.fixture
def small() -> Iterator[Path]:
    """A file system of 8 MiB."""
    with a_small_file_system("size=8m") as path:
        yield path


def storage_at(path: Path, **options: str) -> Directory:
    options = {"is_mountpoint": "1", **options}
    return Directory(Storage(id="small", type="dir", path=str(path), options=tuple(options.items())))


def files_of(path: Path) -> list[Path]:
    return [found for found in path.rglob("*") if found.is_file()]


async def test_an_import_that_cannot_fit_is_refused_before_it_begins(small: Path, tmp_path: Path) -> None:
    source = tmp_path / "source.raw"
    source.write_bytes(os.urandom(20 * MIB))
    with pytest.raises(Refused) as caught:
        await storage_at(small).import_image(100, source)
    assert "There is no space on the storage small" in str(caught.value)
    assert f"{20 * MIB} bytes are needed and " in caught.value.why
    assert "choose another storage" in caught.value.todo
    assert list(small.iterdir()) == []


async def test_a_disk_that_is_to_be_written_in_full_is_refused_if_it_cannot_fit(small: Path) -> None:
    with pytest.raises(Refused, match=f"{20 * MIB} bytes are needed"):
        await storage_at(small, preallocation="full").allocate(100, 20 * MIB)
    assert list(small.iterdir()) == []


async def test_a_copy_that_fills_the_disk_midway_leaves_nothing(small: Path, tmp_path: Path) -> None:
    """As when somebody else takes the space while it runs: the check before it cannot know."""
    source = tmp_path / "source.raw"
    source.write_bytes(os.urandom(20 * MIB))
    with pytest.raises(NoSpace, match="No space left on device"):
        await convert_image(source, small / "copy.raw", "raw", "raw")
    assert files_of(small) == []


async def test_running_full_after_the_check_names_the_storage_and_what_was_said(tmp_path: Path) -> None:
    """The file system has bytes left but no inode for the image: only the attempt can find out."""
    source = tmp_path / "source.raw"
    source.write_bytes(os.urandom(6 * MIB))
    with a_small_file_system("size=8m,nr_inodes=3") as small:
        with pytest.raises(Refused, match=f"no space on the storage small: {6 * MIB} bytes are needed") as caught:
            await storage_at(small).import_image(100, source)
        assert "No space left on device" in caught.value.why
        assert list(small.iterdir()) == [small / "images"]
        assert files_of(small) == []


async def test_a_full_storage_takes_no_disk_at_all(small: Path) -> None:
    with (small / "eater").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 8 * MIB - directory.SPARE // 2)
    with pytest.raises(Refused, match="no space on the storage small"):
        await storage_at(small).allocate(100, 1 << 30)
    assert files_of(small) == [small / "eater"]
    with pytest.raises(NoSpace):
        await create_image(small / "x.raw", "raw", 4 * MIB, "full")
    assert files_of(small) == [small / "eater"]


async def test_a_mounted_storage_is_usable(small: Path) -> None:
    storage = storage_at(small)
    assert str(await storage.allocate(100, 1 << 30)) == "small:100/vm-100-disk-0.raw"
    usage = await storage.usage()
    assert usage.total == 8 * MIB and usage.free <= usage.total - usage.used


async def test_a_file_of_unknown_size_that_fills_the_disk_leaves_nothing(small: Path) -> None:
    storage = Directory(Storage(id="small", type="dir", path=str(small), content=("iso",)))
    arrival = await storage.arrive(Content.ISO, "a.iso")

    async def fill() -> None:
        for _ in range(20):
            await arrival.write(bytes(MIB))

    with pytest.raises(NoSpace, match="There is no space on the storage small"):
        await fill()
    arrival.discard()
    assert files_of(small) == []
    with pytest.raises(NoSpace):
        await storage.arrive(Content.ISO, "a.iso", 20 * MIB)
    assert files_of(small) == []
