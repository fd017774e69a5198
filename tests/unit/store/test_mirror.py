"""The watched copy: current, readable through outages, never missing a change."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from racimo.errors import NotFound, StoreError, StoreUnavailable, WatchLost
from racimo.model.record import Record
from racimo.store.base import Compare, Put
from racimo.store.collection import Collection
from racimo.store.memory import MemoryStore
from racimo.store.mirror import STALE_AFTER, Mirror, MirroredCollection

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from racimo.store.base import Change, Listing


class FailingStore(MemoryStore):
    """A memory store whose watches can be cut, and which can be out of reach meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self.out_of_reach = False
        self.cut = asyncio.Event()
        self.cut_with: StoreError = StoreUnavailable("cut by the test")
        self.refused = asyncio.Event()

    async def list(self, prefix: str) -> Listing:
        if self.out_of_reach:
            self.refused.set()
            raise StoreUnavailable("out of reach")
        return await super().list(prefix)

    async def watch(self, prefix: str, from_revision: int, *, progress: bool = False) -> AsyncGenerator[Change, None]:
        queue: asyncio.Queue[Change] = asyncio.Queue()

        async def pump() -> None:
            async for change in MemoryStore.watch(self, prefix, from_revision, progress=progress):
                queue.put_nowait(change)

        pumping = asyncio.create_task(pump())
        try:
            while True:
                getting = asyncio.create_task(queue.get())
                cutting = asyncio.create_task(self.cut.wait())
                await asyncio.wait([getting, cutting], return_when=asyncio.FIRST_COMPLETED)
                cutting.cancel()
                if self.cut.is_set():
                    getting.cancel()
                    raise self.cut_with
                yield getting.result()
        finally:
            pumping.cancel()

    def break_off(self) -> None:
        self.out_of_reach = True
        self.cut.set()

    def heal(self) -> None:
        self.cut = asyncio.Event()
        self.refused = asyncio.Event()
        self.out_of_reach = False


async def write(store: MemoryStore, key: str, value: bytes = b"") -> int:
    revision = await store.txn(puts=[Put(key, value)])
    assert revision is not None
    return revision


def keys(mirror: Mirror, prefix: str | None = None) -> Sequence[str]:
    return [stored.key for stored in mirror.list(prefix)]


async def test_it_begins_with_what_the_store_has() -> None:
    store = MemoryStore()
    await write(store, "/a/2")
    await write(store, "/a/1")
    await write(store, "/b/1")
    async with Mirror(store, "/a/") as mirror:
        assert keys(mirror) == ["/a/1", "/a/2"]
        assert mirror.get("/b/1") is None
        assert mirror.stale_since is None


async def test_it_follows_every_change() -> None:
    store = MemoryStore()
    async with Mirror(store, "/a/") as mirror:
        for name in "cab":
            revision = await write(store, f"/a/{name}", name.encode())
        await mirror.wait_for(revision, 5)
        assert keys(mirror) == ["/a/a", "/a/b", "/a/c"]
        revision = await store.txn(puts=[Put("/a/b", b"new")], deletes=["/a/a"]) or 0
        await mirror.wait_for(revision, 5)
        assert keys(mirror) == ["/a/b", "/a/c"]
        stored = mirror.get("/a/b")
        assert stored is not None and (stored.value, stored.revision) == (b"new", revision)
        assert await store.txn([Compare("/a/b", stored.revision)], [Put("/a/b", b"")]) is not None


async def test_it_lists_a_narrower_prefix() -> None:
    store = MemoryStore()
    for key in ("/a/x/1", "/a/x/2", "/a/x0", "/a/y/1"):
        await write(store, key)
    async with Mirror(store, "/a/") as mirror:
        assert keys(mirror, "/a/x/") == ["/a/x/1", "/a/x/2"]
        assert keys(mirror, "/a/z") == []


async def test_waiting_covers_revisions_of_other_prefixes() -> None:
    store = MemoryStore()
    async with Mirror(store, "/a/") as mirror:
        revision = await write(store, "/b/1")
        assert not mirror.holds(revision)
        await mirror.wait_for(revision, 5)
        assert mirror.holds(revision) and not mirror.list()


async def test_waiting_is_bounded_and_says_for_what() -> None:
    async with Mirror(MemoryStore(), "/a/") as mirror:
        with pytest.raises(StoreUnavailable, match=r"copy of /a/ did not come to revision 99: it is at 1 after 0.05 s"):
            await mirror.wait_for(99, 0.05)


async def test_each_subscriber_gets_every_change_from_its_call_on() -> None:
    store = MemoryStore()
    async with Mirror(store, "/a/") as mirror:
        await mirror.wait_for(await write(store, "/a/early"), 5)
        first, second = mirror.changes(), mirror.changes()
        revisions = [await write(store, f"/a/{number}") for number in range(3)]
        async with aclosing(first), aclosing(second), asyncio.timeout(5):
            assert [(await anext(first)).revision for _ in revisions] == revisions
            assert [(await anext(second)).revision for _ in revisions] == revisions


async def test_subscriptions_end_when_it_stops() -> None:
    async with Mirror(MemoryStore(), "/a/") as mirror:
        changes = mirror.changes()
    async with asyncio.timeout(5):
        assert [change async for change in changes] == []


async def test_it_stays_readable_and_says_since_when_it_is_stale() -> None:
    store = FailingStore()
    await write(store, "/a/1")
    async with Mirror(store, "/a/") as mirror:
        confirmed = mirror.confirmed_at
        store.break_off()
        async with asyncio.timeout(5):
            await store.refused.wait()
        assert mirror.stale_since == confirmed is not None
        assert keys(mirror) == ["/a/1"]


@pytest.mark.parametrize("reason", [StoreUnavailable("no quorum"), WatchLost("compacted")])
async def test_after_an_outage_the_difference_comes_as_one_change(reason: StoreError) -> None:
    store = FailingStore()
    store.cut_with = reason
    for name in ("kept", "changed", "deleted"):
        await write(store, f"/a/{name}", b"old")
    async with Mirror(store, "/a/") as mirror:
        changes = mirror.changes()
        store.break_off()
        async with asyncio.timeout(5):
            await store.refused.wait()
        await write(store, "/a/changed", b"new")
        await write(store, "/a/added")
        revision = await store.txn(deletes=["/a/deleted"]) or 0
        store.heal()
        async with asyncio.timeout(5), aclosing(changes):
            change = await anext(changes)
            assert change.revision == revision
            assert sorted((event.key, event.value) for event in change.events) == [
                ("/a/added", b""),
                ("/a/changed", b"new"),
                ("/a/deleted", None),
            ]
            assert keys(mirror) == ["/a/added", "/a/changed", "/a/kept"]
            assert mirror.stale_since is None
            later = await write(store, "/a/later")
            assert (await anext(changes)).revision == later


async def test_it_is_stale_without_proof_even_before_anything_fails() -> None:
    now = 100.0
    async with Mirror(MemoryStore(), "/a/", clock=lambda: now) as mirror:
        assert mirror.stale_since is None
        now += STALE_AFTER + 1
        assert mirror.stale_since == 100.0


async def test_silence_is_proven_to_be_no_outage() -> None:
    now = 100.0
    store = MemoryStore()
    async with Mirror(store, "/a/", clock=lambda: now) as mirror:
        now += STALE_AFTER + 1
        async with asyncio.timeout(10):
            while mirror.stale_since is not None:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.05)
        assert mirror.confirmed_at == now


async def test_it_does_not_start_without_the_store() -> None:
    store = FailingStore()
    store.break_off()
    with pytest.raises(StoreUnavailable, match="out of reach"):
        await Mirror(store, "/a/").start()


@dataclass(frozen=True, slots=True, kw_only=True)
class Fruit(Record):
    name: str
    weight: int = 0


async def test_records_are_read_typed_and_written_back_by_compare() -> None:
    store = MemoryStore()
    fruits = Collection(store, "/fruits/", Fruit)
    await fruits.create("grape", Fruit(name="grape", weight=5))
    async with Mirror(store, "/") as mirror:
        mirrored = MirroredCollection(mirror, fruits)
        held = mirrored.hold("grape")
        assert mirrored.hold("grape") is held
        heavier = Fruit(name="grape", weight=6)
        await mirror.wait_for(await store.txn([held.compare], [fruits.put("grape", heavier, held)]) or 0, 5)
        assert mirrored.get("grape") == heavier
        assert mirrored.records() == [heavier]
        await fruits.remove("grape")
        await mirror.wait_for(await store.revision(), 5)
        assert mirrored.all() == {}
        with pytest.raises(NotFound, match="Fruit 'grape' does not exist"):
            mirrored.get("grape")


async def test_a_mirror_refuses_a_collection_outside_of_its_prefix() -> None:
    store = MemoryStore()
    with pytest.raises(ValueError, match="holds nothing of /fruits/"):
        MirroredCollection(Mirror(store, "/a/"), Collection(store, "/fruits/", Fruit))
