"""A file on its way into a directory: it has its name only once it is complete and checked."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import secrets
from typing import TYPE_CHECKING, TypeVar

from racimo.errors import AlreadyExists, BadParameter, OperationFailed
from racimo.storage.images import NoSpace

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from racimo.storage.base import VolumeId

T = TypeVar("T")
R = TypeVar("R")

ALGORITHMS = {"md5": 32, "sha1": 40, "sha224": 56, "sha256": 64, "sha384": 96, "sha512": 128}
"""Checksum algorithms, with the hex digits of their sums."""
PIECE = 1 << 20
"""Bytes that are read at once to check a sum."""
MAX_NAME = 200


def check_sum_given(algorithm: str, expected: str) -> None:
    """Whether the two belong together. Raises ``BadParameter``."""
    if bool(algorithm) != bool(expected):
        raise BadParameter({"checksum": "is given together with checksum-algorithm, or not at all"})
    if algorithm and not re.fullmatch(rf"[0-9A-Fa-f]{{{ALGORITHMS[algorithm]}}}", expected):
        raise BadParameter({"checksum": f"is no {algorithm} sum: {ALGORITHMS[algorithm]} hex digits"})


class Arrival:
    """``volume`` is what it will be, ``target`` its file. Whoever begins one ends it: ``publish`` or ``discard``."""

    def __init__(self, volume: VolumeId, target: Path) -> None:
        self.volume, self._target = volume, target
        self._temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
        self.size = 0
        self._descriptor = -1
        self._given_up, self._linked = False, False

    def open(self) -> None:
        """Blocks. Raises ``OSError``."""
        self._descriptor = os.open(self._temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)

    async def write(self, piece: bytes) -> None:
        """Add a piece. Raises ``NoSpace``, ``OperationFailed``."""
        await self._guarded(self._write, piece)

    async def demand_sum(self, algorithm: str, expected: str) -> None:
        """Whether what came has this sum. Raises ``OperationFailed``."""
        found = await self._guarded(self._sum, algorithm)
        if found != expected.lower():
            raise OperationFailed(
                f"checksum mismatch: got '{found}' != expect '{expected.lower()}'",
                why=f"what came is not what the {algorithm} sum was made of", todo="Send it again, or correct the sum",
            )  # fmt: skip

    async def publish(self, *, replace: bool) -> None:
        """Give it its name; with ``replace`` a file that has it goes. Raises ``AlreadyExists``, ``OperationFailed``."""
        try:
            await self._guarded(self._publish, replace)
        except asyncio.CancelledError:
            if self._linked:
                self._target.unlink(missing_ok=True)
            raise

    def discard(self) -> None:
        """Leave nothing of it; nothing happens after ``publish``."""
        self._close()
        self._temporary.unlink(missing_ok=True)

    async def _guarded(self, work: Callable[[T], R], argument: T) -> R:
        """In a thread, which has ended when this returns, cancelled or not: it uses the open file."""
        working = asyncio.ensure_future(asyncio.to_thread(work, argument))
        try:
            return await asyncio.shield(working)
        except asyncio.CancelledError:
            self._given_up = True
            await asyncio.wait({working})
            if not working.cancelled():
                working.exception()
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(
                    f"There is no space on the storage {self.volume.storage}",
                    why=f"it was full after {self.size} bytes of {self.volume.name}",
                    todo="Free space there or choose another storage; what had come was removed",
                ) from error
            raise OperationFailed(f"{self.volume} was not written", why=str(error), todo="Check the storage") from error

    def _write(self, piece: bytes) -> None:
        view = memoryview(piece)
        while view:
            written = os.write(self._descriptor, view)
            self.size += written
            view = view[written:]

    def _sum(self, algorithm: str) -> str:
        found = hashlib.new(algorithm, usedforsecurity=False)
        with self._temporary.open("rb") as file:
            while not self._given_up and (piece := file.read(PIECE)):
                found.update(piece)
        return found.hexdigest()

    def _publish(self, replace: bool) -> None:
        os.fsync(self._descriptor)
        self._close()
        if replace:
            self._temporary.replace(self._target)
        else:
            try:
                os.link(self._temporary, self._target)
                self._linked = True
            except FileExistsError as error:
                raise taken(self.volume) from error
            self._temporary.unlink()
        folder = os.open(self._target.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def taken(volume: VolumeId) -> AlreadyExists:
    """For a name that is there already."""
    return AlreadyExists(
        f"The volume {volume} already exists", why="a file is not overwritten by a download",
        todo=f"Choose another name, or remove it: racimo storage delete {volume}",
    )  # fmt: skip
