"""Disk image files, through ``qemu-img``: look, create, convert, resize, check. Only its JSON is read."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from racimo.errors import NotFound, OperationFailed, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from racimo.storage.base import Progress

FORMATS = ("raw", "qcow2")
SOURCE_FORMATS = frozenset({*FORMATS, "vmdk", "vdi", "vpc", "vhdx"})
"""Formats that may be imported."""

QUICK_TIMEOUT = 120.0
"""Seconds for what only reads or writes headers."""

STALL_TIMEOUT = 1800.0
"""Seconds that a copy may go without telling progress (it tells every per cent)."""

PROGRESS = re.compile(rb"\(([0-9]+(?:\.[0-9]+)?)/100%\)")
NO_SPACE = "No space left on device"


class NoSpace(Refused):
    """The storage ran full. What had been begun was removed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageInfo:
    """An image file. ``size`` is what a guest sees, ``used`` what the file takes; bytes."""

    format: str
    size: int
    used: int
    backing: str | None = None
    data_file: str | None = None
    snapshots: tuple[str, ...] = ()


async def image_info(path: Path, image_format: str | None = None) -> ImageInfo:
    """Look at an image, in use or not; its format is found out unless given. ``NotFound`` if there is none."""
    if not await asyncio.to_thread(os.path.exists, path):
        raise NotFound(
            f"The image {path} does not exist",
            why="there is no such file on this node",
            todo="Name a file that this node can read",
        )
    given = ["-f", image_format] if image_format else []
    found: dict[str, Any] = json.loads(await _run("info", "--output=json", "-U", *given, str(path)))
    specific = found.get("format-specific", {}).get("data", {})
    return ImageInfo(
        format=found["format"],
        size=found["virtual-size"],
        used=found.get("actual-size", 0),
        backing=found.get("backing-filename"),
        data_file=specific.get("data-file"),
        snapshots=tuple(str(each["name"]) for each in found.get("snapshots", ())),
    )


async def create_image(path: Path, image_format: str, size: int, preallocation: str = "off") -> None:
    """Make an empty image of ``size`` bytes. ``path`` is removed again if it fails or is cancelled."""
    with _removed_on_failure(path):
        await _run("create", "-q", "-f", image_format, "-o", f"preallocation={preallocation}", str(path), str(size))


async def create_overlay(path: Path, backing: str, backing_format: str) -> None:
    """Make a qcow2 image over ``backing``, a path relative to it. ``path`` is removed again if it fails."""
    with _removed_on_failure(path):
        await _run("create", "-q", "-f", "qcow2", "-b", backing, "-F", backing_format, str(path))


async def measure_image(path: Path, source_format: str, image_format: str) -> int:
    """Bytes that the copy of an image in ``image_format`` will take."""
    answer = await _run("measure", "--output=json", "-U", "-f", source_format, "-O", image_format, str(path))
    required: int = json.loads(answer)["required"]
    return required


async def convert_image(
    source: Path, target: Path, source_format: str, image_format: str, progress: Progress | None = None,
    snapshot: str | None = None,
) -> None:  # fmt: skip
    """Copy an image, or a ``snapshot`` inside it, into a new file, sparse; that is removed if it fails or is cancelled.

    An image that is in use is refused; a snapshot inside it does not change, and is not."""
    of = ["-U", "-l", f"snapshot.name={snapshot}"] if snapshot else []
    options = ["-p", *of, "-f", source_format, "-O", image_format, str(source), str(target)]
    with _removed_on_failure(target):
        await _run("convert", *options, progress=progress or (lambda fraction: None))


async def resize_image(path: Path, image_format: str, size: int) -> None:
    """Grow an image to ``size`` bytes."""
    await _run("resize", "-q", "-f", image_format, str(path), str(size))


async def change_snapshot(path: Path, action: str, label: str) -> None:
    """Take (``-c``), go back to (``-a``) or delete (``-d``) a snapshot inside a qcow2 image that nobody has open."""
    await _run("snapshot", "-q", action, label, str(path))


async def check_image(path: Path, image_format: str) -> int:
    """How many errors an image's own tables have; 0 for raw, which has none. It must not be in use."""
    if image_format == "raw":
        return 0
    answer = json.loads(await _run("check", "--output=json", "-f", image_format, str(path), accept=(0, 2, 3)))
    return int(answer.get("corruptions", 0)) + int(answer.get("check-errors", 0))


def virtual_size(path: Path, image_format: str) -> int:
    """Bytes that a guest sees, from the file itself; quick, for listings. Raises ``OSError``, ``ValueError``."""
    if image_format != "qcow2":
        return path.stat().st_size
    with path.open("rb") as file:
        header = file.read(32)
    if len(header) < 32 or header[:4] != b"QFI\xfb":
        raise ValueError(f"{path} is not a qcow2 image")
    size: int = struct.unpack(">Q", header[24:32])[0]
    return size


def format_of(path: Path) -> str:
    """The format of an image by the ending of its name."""
    return path.suffix[1:] if path.suffix[1:] in SOURCE_FORMATS else "raw"


@contextlib.contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


async def _run(*arguments: str, accept: tuple[int, ...] = (0,), progress: Progress | None = None) -> bytes:
    """Standard output of ``qemu-img``. It is killed when this is cancelled or takes too long."""
    try:
        process = await asyncio.create_subprocess_exec(
            "qemu-img",
            *arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C"},
        )
    except FileNotFoundError as error:
        raise OperationFailed("qemu-img is not installed", todo="Install qemu-utils") from error
    limit = STALL_TIMEOUT if progress else QUICK_TIMEOUT
    try:
        async with asyncio.timeout(limit) as timeout, asyncio.TaskGroup() as group:
            complaint = group.create_task(_read(process.stderr, None, timeout, limit))
            answer = group.create_task(_read(process.stdout, progress, timeout, limit))
            await process.wait()
    except TimeoutError as error:
        what = "told no progress" if progress else "did not end"
        raise OperationFailed(
            f"qemu-img {arguments[0]} was ended", why=f"it {what} within {limit:g} s", todo="Check the storage"
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode in accept:
        return answer.result()
    said = complaint.result().decode(errors="replace").strip().removeprefix("qemu-img: ")
    if NO_SPACE in said:
        raise NoSpace(f"qemu-img {arguments[0]} failed", why=said, todo="Free space on the storage or choose another")
    raise OperationFailed(f"qemu-img {arguments[0]} failed", why=said or f"exit status {process.returncode}")


async def _read(
    stream: asyncio.StreamReader | None, progress: Progress | None, timeout: asyncio.Timeout, limit: float
) -> bytes:
    """All of a stream; each progress line is told and gives the program more time."""
    content = b""
    while stream is not None and (chunk := await stream.read(65536)):
        content += chunk
        if progress and (found := PROGRESS.findall(chunk)):
            content = b""
            progress(float(found[-1]) / 100)
            timeout.reschedule(asyncio.get_running_loop().time() + limit)
    return content
