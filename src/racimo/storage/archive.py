"""Backup archives: a tar of files, compressed by ``zstd``, written and read as a stream.

The last member, ``SHA256SUMS``, names the checksum of each other one, as ``sha256sum -c`` reads it. An archive
without it was cut off. Standard tools take it apart: ``tar --zstd -xf``.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import hashlib
import io
import os
import re
import subprocess
import tarfile
import threading
import time
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, TypeVar, cast

from racimo.errors import OperationFailed
from racimo.storage.images import NO_SPACE, NoSpace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from racimo.storage.base import Progress

T = TypeVar("T")

SUMS = "SHA256SUMS"
MEMBER = re.compile(r"guest\.json|disk-[a-z]+[0-9]{1,2}\.qcow2")
"""What an archive may hold beside its checksums; anything else is refused, whatever it is."""
SMALL = 4 << 20
"""Bytes that the description and the checksums may have."""
CHUNK = 1 << 20
LEVEL = "-3"
TOLD = 0.5
"""Seconds between two words of how far it is."""


@dataclass(frozen=True, slots=True)
class Member:
    """One file of an archive: its name, and where its content comes from."""

    name: str
    source: Path | bytes

    @property
    def size(self) -> int:
        """Bytes. Raises ``OSError``."""
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size


class _Stopped(Exception):
    """Who waits for it was cancelled."""


@dataclass(slots=True)
class _Course:
    """What the working thread and who waits for it tell each other. ``limit`` in bytes a second, 0: none."""

    total: int
    limit: int = 0
    done: int = 0
    stop: threading.Event = field(default_factory=threading.Event)
    begun: float = field(default_factory=time.monotonic)

    def step(self, count: int) -> None:
        """``count`` more bytes went by; waits where that was too fast. Raises ``_Stopped``."""
        self.done += count
        ahead = self.done / self.limit - (time.monotonic() - self.begun) if self.limit else 0.0
        if self.stop.wait(ahead) if ahead > 0 else self.stop.is_set():
            raise _Stopped


class _Measured(io.RawIOBase):
    """A stream whose bytes are counted and summed as they are read."""

    def __init__(self, source: IO[bytes], course: _Course | None) -> None:
        super().__init__()
        self.sum = hashlib.sha256()
        self._source, self._course = source, course

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._source.read(size)
        self.sum.update(data)
        if self._course is not None:
            self._course.step(len(data))
        return data


async def write_archive(
    target: Path, members: Sequence[Member], *, compress: bool, told: Progress, limit: int = 0
) -> None:
    """Write a new file, complete and on disk when this returns; it is removed if this fails or is cancelled.

    ``limit``: bytes a second that are read at most, 0: as many as can. Raises ``NoSpace``, ``OperationFailed``.
    """
    course = _Course(sum(each.size for each in members), limit)
    try:
        await _threaded(lambda: _write(target, members, course, compress=compress), course, told, target)
    except BaseException:
        target.unlink(missing_ok=True)  # noqa: ASYNC240 - of a cancelled task, so nothing is awaited
        raise


async def read_archive(source: Path, place: Callable[[str], Path], told: Progress) -> dict[str, Path]:
    """Take an archive apart: each member ``name`` becomes the new file ``place(name)``, and all checksums are right.

    The caller removes the files, also those of a failed attempt. Raises ``NoSpace``, ``OperationFailed``.
    """
    course = _Course(max((await asyncio.to_thread(source.stat)).st_size, 1))
    return await _threaded(lambda: _read(source, place, course), course, told, source)


async def read_first(source: Path) -> bytes:
    """The content of an archive's first member, which describes it. Raises ``OperationFailed``."""

    def work() -> bytes:
        with _opened(source, None) as stream, _tar(stream, source) as tar:
            member = tar.next()
            file = tar.extractfile(member) if member is not None and member.size <= SMALL else None
            if member is None or file is None or member.name != "guest.json":
                raise _broken(source, "it does not begin with guest.json")
            return file.read()

    return await _threaded(work, _Course(1), lambda done: None, source)


async def _threaded(work: Callable[[], T], course: _Course, told: Progress, path: Path) -> T:
    """Run ``work`` in a thread; a cancellation stops it and is raised when it has ended."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=TOLD)
            told(min(course.done / course.total, 1.0) if course.total else 1.0)
    except BaseException:
        course.stop.set()
        while not running.done():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({running})
        running.exception()
        raise
    try:
        return running.result()
    except (tarfile.TarError, EOFError) as error:
        raise _broken(path, str(error)) from error
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise _full(path, str(error)) from error
        raise OperationFailed(f"The archive {path.name} failed", why=str(error), todo="Check the storage") from error


def _write(target: Path, members: Sequence[Member], course: _Course, *, compress: bool) -> None:
    with target.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        with (
            _sink(file, target, compress=compress) as sink,
            tarfile.open(fileobj=sink, mode="w|", bufsize=CHUNK) as tar,
        ):
            sums = [f"{_add(tar, member, course)}  {member.name}\n" for member in members]
            _add(tar, Member(SUMS, "".join(sums).encode()), None)
        file.flush()
        os.fsync(file.fileno())


def _add(tar: tarfile.TarFile, member: Member, course: _Course | None) -> str:
    """Append one member; its checksum in hex."""
    info = tarfile.TarInfo(member.name)
    info.size, info.mode, info.mtime = member.size, 0o600, int(time.time())
    with io.BytesIO(member.source) if isinstance(member.source, bytes) else member.source.open("rb") as file:
        measured = _Measured(file, course)
        tar.addfile(info, measured)
    return measured.sum.hexdigest()


@contextlib.contextmanager
def _sink(file: IO[bytes], target: Path, *, compress: bool) -> Iterator[IO[bytes]]:
    """Where the tar goes: into the file, or into a ``zstd`` that writes it."""
    if not compress:
        yield file
        return
    with _process(["zstd", "-q", "-c", LEVEL], stdin=subprocess.PIPE, stdout=file) as process:
        pipe = cast("IO[bytes]", process.stdin)
        try:
            yield pipe
            pipe.close()
        except BrokenPipeError:
            raise _said(process, target) from None
        if process.wait() != 0:
            raise _said(process, target)


def _read(source: Path, place: Callable[[str], Path], course: _Course) -> dict[str, Path]:
    found: dict[str, Path] = {}
    sums: dict[str, str] = {}
    with _opened(source, course) as stream, _tar(stream, source) as tar:
        for member in tar:
            if member.name == SUMS:
                stated = _stated(tar, member, source)
                break
            if not MEMBER.fullmatch(member.name) or not member.isreg() or member.name in found:
                raise _broken(source, f"a member is named {member.name!r}, or is no file, or comes twice")
            content = cast("IO[bytes]", tar.extractfile(member))  # a regular file has one
            found[member.name] = place(member.name)
            sums[member.name] = _copied(content, found[member.name])
        else:
            raise _broken(source, "its end is missing")
        while stream.read(CHUNK):  # to the end, so that zstd's own checksum is looked at too
            pass
    if stated != sums:
        raise _broken(source, f"its content is not what {SUMS} says")
    return found


def _stated(tar: tarfile.TarFile, member: tarfile.TarInfo, source: Path) -> dict[str, str]:
    file = tar.extractfile(member) if member.size <= SMALL else None
    lines = file.read().decode().splitlines() if file else []
    if not lines or any(len(line.split("  ")) != 2 for line in lines):
        raise _broken(source, f"its {SUMS} cannot be read")
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def _copied(content: IO[bytes], path: Path) -> str:
    """Write a member to a new file; its checksum in hex."""
    digest = hashlib.sha256()
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o600)
        while data := content.read(CHUNK):
            digest.update(data)
            file.write(data)
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(source: Path, course: _Course | None) -> Iterator[IO[bytes]]:
    """The tar inside an archive. With ``course`` all of it must be sound; without, who reads may stop anywhere."""
    with source.open("rb") as file:
        if not source.name.endswith(".zst"):
            yield _Measured(file, course)  # type: ignore[misc] # all that is done is read
            return
        with _process(["zstd", "-q", "-d", "-c"], stdin=file, stdout=subprocess.PIPE) as process:
            yield _Following(cast("IO[bytes]", process.stdout), file, course)  # type: ignore[misc]
            if course is not None and process.wait() != 0:
                raise _said(process, source)


class _Following(io.RawIOBase):
    """What comes out of ``zstd``; how far it is, is told by what it has read of ``file``."""

    def __init__(self, stream: IO[bytes], file: IO[bytes], course: _Course | None) -> None:
        super().__init__()
        self._stream, self._file, self._course = stream, file, course

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._stream.read(size)
        if self._course is not None:
            self._course.step(os.lseek(self._file.fileno(), 0, os.SEEK_CUR) - self._course.done)
        return data


@contextlib.contextmanager
def _tar(stream: IO[bytes], source: Path) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(fileobj=stream, mode="r|", bufsize=CHUNK) as tar:
            yield tar
    except (tarfile.TarError, EOFError) as error:
        raise _broken(source, str(error)) from error


@contextlib.contextmanager
def _process(argv: list[str], *, stdin: int | IO[bytes], stdout: int | IO[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """A child that is dead, and its pipes closed, at the end."""
    try:
        process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE)
    except FileNotFoundError as error:
        raise OperationFailed("zstd is not installed", todo="Install zstd") from error
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


def _said(process: subprocess.Popen[bytes], path: Path) -> OperationFailed | NoSpace:
    """The failure of a ``zstd``, with what it said."""
    said = cast("IO[bytes]", process.stderr).read().decode(errors="replace").strip()
    process.wait()
    if NO_SPACE in said:
        return _full(path, said)
    return OperationFailed(f"The archive {path.name} failed", why=said or f"zstd ended with {process.returncode}")


def _full(path: Path, said: str) -> NoSpace:
    return NoSpace(f"There is no space in {path.parent}", why=said, todo="Free space there, or choose another storage")


def _broken(source: Path, why: str) -> OperationFailed:
    return OperationFailed(
        f"The archive {source.name} cannot be used", why=why, todo="It was cut off or changed: take another backup"
    )
