"""Writing to a store and reading its watches, as the contract's tests do."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

from racimo.store.base import Change, Event, Put

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from racimo.store.base import Store


WAIT = 10.0


class Watcher:
    """Reads a watch in the background, so that waiting for a change never ends the watch."""

    def __init__(self, changes: AsyncGenerator[Change, None]) -> None:
        self.changes: asyncio.Queue[Change] = asyncio.Queue()
        self.task = asyncio.create_task(self._read(changes))

    async def _read(self, changes: AsyncGenerator[Change, None]) -> None:
        async with aclosing(changes) as reading:
            async for change in reading:
                self.changes.put_nowait(change)

    async def next(self) -> Change:
        async with asyncio.timeout(WAIT):
            getting = asyncio.create_task(self.changes.get())
            await asyncio.wait([getting, self.task], return_when=asyncio.FIRST_COMPLETED)
            if not getting.done():
                getting.cancel()
                self.task.result()
                raise StopAsyncIteration
            return getting.result()


@asynccontextmanager
async def watching(store: Store, prefix: str, from_revision: int, *, progress: bool = False) -> AsyncIterator[Watcher]:
    watcher = Watcher(store.watch(prefix, from_revision, progress=progress))
    try:
        yield watcher
    finally:
        watcher.task.cancel()
        await asyncio.wait([watcher.task])


async def write(store: Store, key: str, value: bytes = b"") -> int:
    revision = await store.txn(puts=[Put(key, value)])
    assert revision is not None
    return revision


def by_key(events: tuple[Event, ...]) -> list[tuple[str, bytes | None]]:
    return sorted((event.key, event.value) for event in events)
