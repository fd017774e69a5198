"""The oracle of the fault tests: increments by compare-and-set, each leaving its own mark in the same transaction."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.errors import StoreUnavailable, StoreUnknown
from racimo.store.base import ABSENT, Compare, Put

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from racimo.store.base import Store


@dataclass
class Counting:
    """What the workers were told, and what a watch saw meanwhile. Times in seconds."""

    store: Store
    root: str
    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)
    unknown: set[str] = field(default_factory=set)
    watched: list[str] = field(default_factory=list)
    longest: float = 0.0
    stopping: bool = False
    errors: list[str] = field(default_factory=list)
    progress: asyncio.Event = field(default_factory=asyncio.Event)

    async def increments(self, number: int) -> None:
        """The acknowledged increments grow by ``number``."""
        wanted = len(self.acknowledged) + number
        while len(self.acknowledged) < wanted:
            self.progress.clear()
            await self.progress.wait()

    async def work(self, name: str) -> None:
        number = 0
        while not self.stopping:
            number += 1
            mark = f"{self.root}marks/{name}/{number:06}"
            while not await self._increment(mark):
                pass

    async def _increment(self, mark: str) -> bool:
        """One try; false when somebody else was faster."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            counter = await self.store.get(self.root + "counter")
            self._took(begun)
            value, revision = (int(counter.value), counter.revision) if counter else (0, ABSENT)
            begun = loop.time()
            done = await self.store.txn(
                [Compare(self.root + "counter", revision), Compare(mark, ABSENT)],
                [Put(self.root + "counter", str(value + 1).encode()), Put(mark, b"")],
            )
        except StoreUnavailable as error:
            self.refused.add(mark)
            self.errors.append(str(error))
        except StoreUnknown as error:
            self.unknown.add(mark)
            self.errors.append(str(error))
        else:
            if done is None:
                return False
            self.acknowledged.add(mark)
            self.progress.set()
        finally:
            self._took(begun)
        return True

    def _took(self, begun: float) -> None:
        self.longest = max(self.longest, asyncio.get_running_loop().time() - begun)

    async def watch(self, from_revision: int) -> None:
        seen = from_revision
        while True:
            try:
                async for change in self.store.watch(self.root + "marks/", seen):
                    seen = change.revision
                    self.watched += [event.key for event in change.events]
            except StoreUnavailable:
                continue

    async def verify(self) -> None:
        """Nothing acknowledged is missing, nothing refused was done, nothing was done twice, no change went unseen."""
        listing = await self.store.list(self.root)
        marks = {record.key for record in listing.records if "/marks/" in record.key}
        counter = next(int(record.value) for record in listing.records if record.key == self.root + "counter")
        assert counter == len(marks)
        assert self.acknowledged - marks == set(), "acknowledged but not there"
        assert self.refused & marks == set(), "said to be not written, but there"
        assert marks <= self.acknowledged | self.unknown
        async with asyncio.timeout(15):
            while len(self.watched) < len(marks):  # noqa: ASYNC110 - no event is told
                await asyncio.sleep(0.05)
        assert sorted(self.watched) == sorted(marks), "the watch missed or doubled a change"


@asynccontextmanager
async def counting(store: Store, root: str, workers: int = 3) -> AsyncIterator[Counting]:
    """Workers count and a watch looks on inside; the oracle is asked at the end."""
    count = Counting(store, root)
    start = await store.revision()
    watching = asyncio.create_task(count.watch(start))
    working = [asyncio.create_task(count.work(str(number))) for number in range(workers)]
    try:
        await count.increments(5)
        yield count
        async with asyncio.timeout(30):
            await count.increments(20)
        count.stopping = True
        async with asyncio.timeout(30):
            await asyncio.gather(*working)
        await count.verify()
        assert not watching.done(), watching.exception()
    finally:
        for task in (*working, watching):
            task.cancel()
        await asyncio.wait([*working, watching])
