"""The store of a node that stands alone: one SQLite file, shared by the daemons of this node."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from racimo.errors import StoreUnavailable
from racimo.store.base import Change, check_transaction
from racimo.store.sqlite_file import HISTORY, SqliteFile

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from pathlib import Path

    from racimo.store.base import Compare, Listing, Put, Stored

T = TypeVar("T")

LOOK_EVERY = 0.1
"""Seconds between two looks at whether another process has committed, while there are watches."""


class SqliteStore:
    """See ``racimo.store.base.Store``. Durable at once (WAL, synchronous=FULL); a killed process loses nothing.

    One thread does all the work, so the event loop never waits for the disk. Other processes of this node may have the
    file open too: their commits wake the watches here within ``LOOK_EVERY``. Watches reach back over the last
    ``history`` revisions.
    """

    def __init__(self, path: Path, *, history: int = HISTORY) -> None:
        self._file = SqliteFile(path, history)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="store")
        self._grown = asyncio.Event()
        self._watches = 0
        self._looking: asyncio.Task[None] | None = None
        self._failure: StoreUnavailable | None = None
        self._closed = False

    async def get(self, key: str) -> Stored | None:
        return await self._do(lambda: self._file.get(key))

    async def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        return await self._do(lambda: self._file.snapshot(keys))

    async def list(self, prefix: str) -> Listing:
        return await self._do(lambda: self._file.list(prefix))

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        check_transaction(compares, puts, deletes)
        revision = await self._do(lambda: self._file.commit(compares, puts, deletes))
        if puts or deletes:
            self._wake()
        return revision

    async def watch(self, prefix: str, from_revision: int, *, progress: bool = False) -> AsyncGenerator[Change, None]:
        self._check()
        seen = from_revision
        self._watches += 1
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._look(), name="sqlite watch")
        try:
            while not self._over():
                grown = self._grown
                changes, newest = await self._do(partial(self._file.changes, prefix, seen))
                for change in changes:
                    yield change
                    if self._over():
                        return
                if progress and newest > (changes[-1].revision if changes else seen):
                    yield Change(newest)
                seen = max(seen, newest)
                if grown is self._grown and not self._over():
                    await grown.wait()
                if self._failure is not None:
                    raise self._failure
        finally:
            self._watches -= 1
            if not self._watches:
                await self._stop_looking()

    async def revision(self) -> int:
        return await self._do(self._file.revision)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._wake()
        await self._stop_looking()
        await asyncio.get_running_loop().run_in_executor(self._worker, self._file.close)
        self._worker.shutdown(wait=False)

    async def _do(self, work: Callable[[], T]) -> T:
        self._check()
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _look(self) -> None:
        """Wake the watches when another process has committed, or when the file cannot be read any more."""
        seen = None
        while True:
            try:
                version = await self._do(self._file.data_version)
            except StoreUnavailable as error:
                self._failure = error
                self._wake()
                return
            if seen is not None and version != seen:
                self._wake()
            seen = version
            await asyncio.sleep(LOOK_EVERY)

    async def _stop_looking(self) -> None:
        task, self._looking = self._looking, None
        self._failure = None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _over(self) -> bool:
        return self._closed

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed")
