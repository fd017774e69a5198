"""The store in memory: fake of the tests and oracle of the simulation. Forty lines of rules, no durability."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import TYPE_CHECKING

from racimo.errors import StoreUnavailable, WatchLost
from racimo.store.base import ABSENT, Change, Event, Listing, Stored, check_transaction

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from racimo.store.base import Compare, Put


class MemoryStore:
    """See ``racimo.store.base.Store``. Keeps all changes until ``compact``."""

    def __init__(self) -> None:
        self._records: dict[str, Stored] = {}
        self._changes: list[Change] = []
        self._revision, self._compacted = 1, 0
        self._grown = asyncio.Event()
        self._closed = False

    async def get(self, key: str) -> Stored | None:
        self._check()
        return self._records.get(key)

    async def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        self._check()
        return tuple(self._records.get(key) for key in keys)

    async def list(self, prefix: str) -> Listing:
        self._check()
        records = tuple(self._records[key] for key in sorted(self._records) if key.startswith(prefix))
        return Listing(records, self._revision)

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        self._check()
        check_transaction(compares, puts, deletes)
        for compare in compares:
            stored = self._records.get(compare.key)
            if (stored.revision if stored else ABSENT) != compare.revision:
                return None
        events = [Event(put.key, put.value, self._revision + 1) for put in puts]
        events += [Event(key, None, self._revision + 1) for key in deletes if key in self._records]
        if not events:
            return self._revision
        self._revision += 1
        for event in events:
            if event.value is None:
                del self._records[event.key]
            else:
                self._records[event.key] = Stored(event.key, event.value, self._revision)
        self._changes.append(Change(self._revision, tuple(events)))
        self._wake()
        return self._revision

    async def watch(self, prefix: str, from_revision: int, *, progress: bool = False) -> AsyncGenerator[Change, None]:
        self._check()
        seen = told = from_revision
        while not self._closed:
            if seen < self._compacted:
                raise WatchLost(f"Changes since revision {seen} are no longer kept", todo="List again")
            grown = self._grown
            for change in self._changes[bisect_right(self._changes, seen, key=lambda change: change.revision) :]:
                seen = change.revision
                events = tuple(event for event in change.events if event.key.startswith(prefix))
                if events:
                    told = change.revision
                    yield Change(change.revision, events)
            if progress and seen > told:
                told = seen
                yield Change(seen)
            if grown is self._grown and not self._closed:
                await grown.wait()

    async def revision(self) -> int:
        self._check()
        return self._revision

    async def close(self) -> None:
        self._closed = True
        self._wake()

    def compact(self, revision: int) -> None:
        """Forget the changes up to ``revision``; watches from before it are lost."""
        self._compacted = revision
        self._changes = [change for change in self._changes if change.revision > revision]
        self._wake()

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()

    def _check(self) -> None:
        if self._closed:
            raise StoreUnavailable("The store is closed")
