"""The contract of ``racimo.store.base.Store``: what a watch tells. Held against every backend."""

from __future__ import annotations

import asyncio
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from watching import by_key, watching, write

from racimo.errors import WatchLost
from racimo.store.base import Change, Compare, Event, Put

if TYPE_CHECKING:
    from conftest import Backend

    from racimo.store.base import Store


async def test_a_watch_tells_changes_in_order_and_each_once(store: Store, root: str) -> None:
    start = await store.revision()
    async with watching(store, root, start) as watcher:
        revisions = [await write(store, root + "a", str(number).encode()) for number in range(50)]
        changes = [await watcher.next() for _ in range(50)]
        assert [change.revision for change in changes] == revisions
        assert [change.events[0].value for change in changes] == [str(number).encode() for number in range(50)]
        last = await write(store, root + "end")
        assert (await watcher.next()).revision == last


async def test_a_watch_from_an_older_revision_tells_what_has_happened_since(store: Store, root: str) -> None:
    await write(store, root + "a", b"1")
    seen = await write(store, root + "a", b"2")
    later = [await write(store, root + "a", b"3"), await store.txn(deletes=[root + "a"])]
    async with watching(store, root, seen) as watcher:
        changes = [await watcher.next(), await watcher.next()]
    assert [change.revision for change in changes] == later
    assert [change.events[0].value for change in changes] == [b"3", None]


async def test_watches_from_different_revisions_each_get_their_own_past(store: Store, root: str) -> None:
    start = await store.revision()
    revisions = [await write(store, root + "a") for _ in range(5)]
    async with (
        watching(store, root, revisions[-1]) as late,
        watching(store, root, start) as early,
        watching(store, root, revisions[1]) as middle,
    ):
        last = await write(store, root + "a")
        assert (await late.next()).revision == last
        assert [(await early.next()).revision for _ in range(6)] == [*revisions, last]
        assert [(await middle.next()).revision for _ in range(4)] == [*revisions[2:], last]


async def test_a_watch_tells_a_transaction_whole(store: Store, root: str) -> None:
    await write(store, root + "gone")
    start = await store.revision()
    async with watching(store, root, start) as watcher:
        await store.txn(puts=[Put(f"{root}{number:02}", b"") for number in range(50)], deletes=[root + "gone"])
        change = await watcher.next()
        assert by_key(change.events) == sorted(
            [(f"{root}{number:02}", b"") for number in range(50)] + [(root + "gone", None)]
        )
        assert {event.revision for event in change.events} == {change.revision}


async def test_a_watch_tells_nothing_of_other_prefixes(store: Store, root: str) -> None:
    start = await store.revision()
    async with watching(store, root + "a/", start) as watcher:
        for name in ("a", "a0", "b/1", "A/1", "ab/"):
            await write(store, root + name)
        revision = await store.txn(puts=[Put(root + "a/1", b"in"), Put(root + "b/2", b"out")])
        assert await watcher.next() == Change(revision or 0, (Event(root + "a/1", b"in", revision or 0),))


async def test_a_failed_transaction_is_no_change(store: Store, root: str) -> None:
    start = await store.revision()
    async with watching(store, root, start) as watcher:
        await store.txn([Compare(root + "a", 1)], [Put(root + "a", b"")])
        await store.txn(deletes=[root + "a"])
        revision = await write(store, root + "b")
        assert (await watcher.next()).revision == revision


async def test_progress_tells_that_nothing_else_has_happened(store: Store, root: str) -> None:
    start = await store.revision()
    async with watching(store, root + "a/", start, progress=True) as watcher:
        inside = await write(store, root + "a/1")
        outside = await write(store, root + "b")
        changes = []
        while not changes or changes[-1].revision < outside:
            changes.append(await watcher.next())
        assert [change.revision for change in changes if change.events] == [inside]
        assert [change.revision for change in changes] == sorted(change.revision for change in changes)


async def test_changes_made_by_many_are_all_told_in_order(store: Store, root: str) -> None:
    start = await store.revision()

    async def writer(name: str) -> list[int]:
        return [await write(store, f"{root}{name}/{number}") for number in range(20)]

    async with watching(store, root, start) as watcher:
        revisions = sorted(chain.from_iterable(await asyncio.gather(*map(writer, "abcde"))))
        assert [(await watcher.next()).revision for _ in revisions] == revisions


async def test_a_watch_from_forgotten_history_is_lost(backend: Backend) -> None:
    store, root = backend.store, backend.root
    start = await write(store, root + "a")
    for _ in range(3):
        newest = await write(store, root + "a")
    await backend.compact(store, newest)
    async with watching(store, root, start) as watcher:
        with pytest.raises(WatchLost):
            await watcher.next()


async def test_after_a_lost_watch_listing_and_watching_again_misses_nothing(backend: Backend) -> None:
    store, root = backend.store, backend.root
    start = await write(store, root + "a")
    newest = [await write(store, root + "a") for _ in range(3)][-1]
    await backend.compact(store, newest)
    async with watching(store, root, start) as watcher:
        with pytest.raises(WatchLost):
            await watcher.next()
    listing = await store.list(root)
    async with watching(store, root, listing.revision) as watcher:
        revision = await write(store, root + "b")
        assert (await watcher.next()).revision == revision


async def test_a_running_watch_is_not_disturbed_by_compaction(backend: Backend) -> None:
    store, root = backend.store, backend.root
    start = await store.revision()
    async with watching(store, root, start) as watcher:
        revision = await write(store, root + "a")
        assert (await watcher.next()).revision == revision
        newest = await write(store, root + "a")
        assert (await watcher.next()).revision == newest
        await backend.compact(store, newest)
        last = await write(store, root + "a")
        assert (await watcher.next()).revision == last


async def test_a_second_opener_sees_and_watches_the_same_records(backend: Backend) -> None:
    other = backend.open_store()
    key = backend.root + "a"
    async with watching(other, backend.root, await other.revision()) as watcher:
        revision = await write(backend.store, key, b"1")
        assert await watcher.next() == Change(revision, (Event(key, b"1", revision),))
    stored = await other.get(key)
    assert stored is not None and stored.value == b"1"
    assert await other.txn([Compare(key, stored.revision)], [Put(key, b"2")]) is not None
    assert await backend.store.txn([Compare(key, revision)], [Put(key, b"3")]) is None


async def test_a_watch_that_is_given_up_can_be_begun_again(store: Store, root: str) -> None:
    start = await store.revision()
    for number in (1, 2, 3):
        async with watching(store, root, start) as watcher:
            revision, seen = await write(store, root + "a"), [await watcher.next()]
            while seen[-1].revision < revision:
                seen.append(await watcher.next())
            assert len(seen) == number
