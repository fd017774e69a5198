"""The contract of ``racimo.store.base.Store``: reading and writing. Held against every backend."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from watching import WAIT, watching, write

from racimo.errors import StoreUnavailable
from racimo.store.base import ABSENT, MAX_OPERATIONS, Compare, Put

if TYPE_CHECKING:
    from conftest import Backend

    from racimo.store.base import Store


async def test_an_absent_key_is_none(store: Store, root: str) -> None:
    assert await store.get(root + "nothing") is None


async def test_a_written_value_is_read_back_with_its_revision(store: Store, root: str) -> None:
    revision = await write(store, root + "a", b"one")
    stored = await store.get(root + "a")
    assert stored is not None
    assert (stored.key, stored.value, stored.revision) == (root + "a", b"one", revision)


async def test_a_snapshot_gives_each_key_in_the_order_asked_for(store: Store, root: str) -> None:
    first, second = await write(store, root + "a", b"one"), await write(store, root + "b", b"")
    keys = [root + "b", root + "nothing", root + "a"]
    found = await store.snapshot(keys)
    assert [entry and (entry.key, entry.value, entry.revision) for entry in found] == [
        (keys[0], b"", second),
        None,
        (keys[2], b"one", first),
    ]
    assert await store.snapshot([]) == ()


async def test_a_snapshot_never_shows_half_of_a_transaction(store: Store, root: str) -> None:
    keys = [root + "a", root + "b"]

    async def write_both() -> None:
        for number in range(50):
            await store.txn(puts=[Put(key, str(number).encode()) for key in keys])
            await asyncio.sleep(0)

    writing = asyncio.create_task(write_both())
    seen = set()
    # The store in memory never waits: both sides give way to each other by themselves.
    while not writing.done():
        first, second = await store.snapshot(keys)
        await asyncio.sleep(0)
        assert (first and first.value) == (second and second.value)
        seen.add(first and first.value)
    await writing
    assert len(seen) > 1


@pytest.mark.parametrize("value", [b"", b"\x00", bytes(range(256)), "Grüße, 🍇".encode(), b"x" * 300_000])
async def test_any_bytes_are_a_value(store: Store, root: str, value: bytes) -> None:
    await write(store, root + "a", value)
    stored = await store.get(root + "a")
    assert stored is not None and stored.value == value


async def test_any_text_is_a_key(store: Store, root: str) -> None:
    keys = [root + name for name in ("ü", "a b", "a/b", 'a"b', "🍇", "a%b_c*", "\x01")]
    for key in keys:
        await write(store, key, key.encode())
    assert [record.key for record in (await store.list(root)).records] == sorted(keys)


async def test_revisions_grow_with_every_commit(store: Store, root: str) -> None:
    first = await write(store, root + "a")
    second = await write(store, root + "a")
    assert first < second
    assert await store.revision() == second


async def test_all_records_of_a_transaction_have_its_revision(store: Store, root: str) -> None:
    revision = await store.txn(puts=[Put(root + name, b"") for name in "abc"])
    assert [record.revision for record in (await store.list(root)).records] == [revision] * 3


async def test_absent_holds_only_for_a_key_that_does_not_exist(store: Store, root: str) -> None:
    key = root + "a"
    created = await store.txn([Compare(key, ABSENT)], [Put(key, b"1")])
    assert created is not None
    assert await store.txn([Compare(key, ABSENT)], [Put(key, b"2")]) is None
    assert await store.txn(deletes=[key]) is not None
    assert await store.txn([Compare(key, ABSENT)], [Put(key, b"3")]) is not None


async def test_a_stale_revision_fails_the_whole_transaction(store: Store, root: str) -> None:
    old = await write(store, root + "a", b"1")
    await write(store, root + "a", b"2")
    before = await store.list(root)
    outcome = await store.txn(
        [Compare(root + "b", ABSENT), Compare(root + "a", old)], [Put(root + "b", b"")], [root + "a"]
    )
    assert outcome is None
    assert (await store.list(root)).records == before.records


async def test_a_revision_of_a_deleted_key_never_matches(store: Store, root: str) -> None:
    old = await write(store, root + "a")
    await store.txn(deletes=[root + "a"])
    assert await store.txn([Compare(root + "a", old)], [Put(root + "b", b"")]) is None


async def test_puts_and_deletes_are_committed_together(store: Store, root: str) -> None:
    revision = await write(store, root + "old", b"x")
    moved = await store.txn([Compare(root + "old", revision)], [Put(root + "new", b"x")], [root + "old"])
    listing = await store.list(root)
    assert [(record.key, record.revision) for record in listing.records] == [(root + "new", moved)]


async def test_a_transaction_may_only_compare(store: Store, root: str) -> None:
    revision = await write(store, root + "a")
    assert await store.txn([Compare(root + "a", revision)]) == revision
    assert await store.txn([Compare(root + "a", ABSENT)]) is None
    assert await store.txn() == revision


async def test_deleting_what_does_not_exist_is_no_error(store: Store, root: str) -> None:
    assert await store.txn(deletes=[root + "nothing"]) is not None


async def test_a_key_may_not_stand_twice_in_a_transaction(store: Store, root: str) -> None:
    with pytest.raises(ValueError, match="twice"):
        await store.txn(puts=[Put(root + "a", b"")], deletes=[root + "a"])
    with pytest.raises(ValueError, match="twice"):
        await store.txn(puts=[Put(root + "a", b"1"), Put(root + "a", b"2")])


async def test_an_empty_key_is_refused(store: Store) -> None:
    with pytest.raises(ValueError, match="empty"):
        await store.txn(puts=[Put("", b"")])


async def test_the_largest_transaction_is_committed_and_a_larger_one_refused(store: Store, root: str) -> None:
    keys = [f"{root}{number:04}" for number in range(MAX_OPERATIONS)]
    compares = [Compare(key, ABSENT) for key in keys]
    assert await store.txn(compares, [Put(key, b"") for key in keys]) is not None
    assert len((await store.list(root)).records) == MAX_OPERATIONS
    with pytest.raises(ValueError, match="in parts"):
        await store.txn(deletes=[*keys, root + "more"])


async def test_a_list_has_exactly_the_keys_that_start_with_the_prefix(store: Store, root: str) -> None:
    names = ["a", "a/", "a/1", "a/b/c", "a0", "a\uffff", "b", "ab", "A/1"]
    for name in names:
        await write(store, root + name)
    listing = await store.list(root + "a/")
    assert [record.key for record in listing.records] == [root + "a/", root + "a/1", root + "a/b/c"]
    assert [record.key for record in (await store.list(root)).records] == sorted(root + name for name in names)


async def test_an_empty_prefix_lists_records_and_nothing_of_the_store_itself(store: Store, root: str) -> None:
    await write(store, root + "a")
    keys = [record.key for record in (await store.list("")).records]
    assert root + "a" in keys
    assert not [key for key in keys if key.startswith("/racimo-requests")]


async def test_a_list_of_nothing_is_empty_and_has_a_revision(store: Store, root: str) -> None:
    revision = await write(store, root + "a")
    listing = await store.list(root + "none/")
    assert listing.records == ()
    assert listing.revision == revision


async def test_a_list_of_many_records_is_complete_and_from_one_revision(store: Store, root: str) -> None:
    keys = [f"{root}{number:05}" for number in range(1300)]
    for at in range(0, len(keys), 100):
        await store.txn(puts=[Put(key, b"0") for key in keys[at : at + 100]])
    ends = [keys[0], keys[-1]]
    stop = asyncio.Event()

    async def move_both_ends() -> None:
        while not stop.is_set():
            revision = await store.revision()
            await store.txn(puts=[Put(key, str(revision).encode()) for key in ends])

    mover = asyncio.create_task(move_both_ends())
    for _ in range(5):
        listing = await store.list(root)
        assert [record.key for record in listing.records] == keys
        assert listing.records[0].value == listing.records[-1].value
        assert max(record.revision for record in listing.records) <= listing.revision
    stop.set()
    await mover


async def test_a_list_larger_than_one_answer_is_complete(store: Store, root: str) -> None:
    value = b"v" * 200_000
    for number in range(40):
        await write(store, f"{root}{number:02}", value)
    listing = await store.list(root)
    assert [(record.key, len(record.value)) for record in listing.records] == [
        (f"{root}{number:02}", 200_000) for number in range(40)
    ]


async def test_concurrent_increments_lose_nothing(backend: Backend) -> None:
    key = backend.root + "counter"
    stores = [backend.store, backend.open_store()]
    await write(stores[0], key, b"0")

    async def increment(store: Store, times: int) -> None:
        for _ in range(times):
            while True:
                stored = await store.get(key)
                assert stored is not None
                value = str(int(stored.value) + 1).encode()
                if await store.txn([Compare(key, stored.revision)], [Put(key, value)]) is not None:
                    break

    async with asyncio.TaskGroup() as group:
        for number in range(6):
            group.create_task(increment(stores[number % 2], 15))
    stored = await stores[0].get(key)
    assert stored is not None and stored.value == b"90"


async def test_more_writes_at_once_than_the_client_has_slots_all_commit(store: Store, root: str) -> None:
    revisions = await asyncio.gather(*(write(store, f"{root}{number}") for number in range(150)))
    assert len(set(revisions)) == 150
    listing = await store.list(root)
    assert {record.revision for record in listing.records} == set(revisions)


async def test_a_cancelled_write_harms_no_other(store: Store, root: str) -> None:
    for _ in range(10):
        task = asyncio.create_task(write(store, root + "cancelled"))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    revision = await write(store, root + "a", b"1")
    stored = await store.get(root + "a")
    assert stored is not None and stored.revision == revision


async def test_closing_ends_watches_and_refuses_calls(store: Store, root: str) -> None:
    async with watching(store, root, await store.revision()) as watcher:
        revision = await write(store, root + "a")
        assert (await watcher.next()).revision == revision
        await store.close()
        async with asyncio.timeout(WAIT):
            await watcher.task
    for call in (store.get(root), store.list(root), store.txn(puts=[Put(root + "a", b"")]), store.revision()):
        with pytest.raises(StoreUnavailable, match="closed"):
            await call
    with pytest.raises(StoreUnavailable, match="closed"):
        await anext(aiter(store.watch(root, 1)))
    await store.close()
