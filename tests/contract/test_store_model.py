"""Any sequence of transactions leaves every backend as it leaves the store in memory."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from racimo.store.base import ABSENT, Compare, Put
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from conftest import Backend

    from racimo.store.base import Store

NAMES = ["a", "a/", "a/b", "b", "ü"]

names = st.sampled_from(NAMES)
transactions = st.tuples(
    st.lists(
        st.tuples(names, st.sampled_from(["now", "absent", "before"])), max_size=2, unique_by=lambda each: each[0]
    ),
    st.dictionaries(names, st.sampled_from(["put", "delete"]), max_size=4),
)


class Run:
    """One sequence against one store. Revisions are renamed to their ordinal, so that two stores compare."""

    def __init__(self, store: Store, root: str, start: int) -> None:
        self.store, self.root = store, root
        self.revisions = [start]

    async def commit(self, compares: list[tuple[str, str]], writes: dict[str, str], number: int) -> bool:
        conditions = []
        for name, which in compares:
            stored = await self.store.get(self.root + name)
            now = stored.revision if stored else ABSENT
            revision = {"now": now, "absent": ABSENT, "before": self.revisions[-1]}[which]
            conditions.append(Compare(self.root + name, revision))
        puts = [Put(self.root + name, str(number).encode()) for name, verb in writes.items() if verb == "put"]
        deletes = [self.root + name for name, verb in writes.items() if verb == "delete"]
        changes = bool(puts) or any([await self.store.get(key) for key in deletes])
        revision = await self.store.txn(conditions, puts, deletes)
        if revision is not None and changes:
            self.revisions.append(revision)
        return revision is not None

    async def state(self, prefix: str) -> list[tuple[str, bytes]]:
        listing = await self.store.list(self.root + prefix)
        return [(record.key.removeprefix(self.root), record.value) for record in listing.records]

    async def history(self, changes: int) -> list[list[tuple[str, bytes | None]]]:
        told: list[list[tuple[str, bytes | None]]] = []
        if changes:
            async with aclosing(self.store.watch(self.root, self.revisions[0])) as watch:
                async for change in watch:
                    told.append(sorted((event.key.removeprefix(self.root), event.value) for event in change.events))
                    if len(told) == changes:
                        break
        return told


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(steps=st.lists(transactions, max_size=12))
async def test_any_sequence_of_transactions_ends_as_in_memory(
    backend: Backend, steps: list[tuple[list[tuple[str, str]], dict[str, str]]]
) -> None:
    root = f"{backend.root}{id(steps)}-{await backend.store.revision()}/"
    tested = Run(backend.store, root, await backend.store.revision())
    oracle = Run(MemoryStore(), root, 1)
    for number, (compares, writes) in enumerate(steps):
        assert await tested.commit(compares, writes, number) == await oracle.commit(compares, writes, number)
        for prefix in ("", "a", "a/", "b"):
            assert await tested.state(prefix) == await oracle.state(prefix)
    changes = len(oracle.revisions) - 1
    assert await tested.history(changes) == await oracle.history(changes)
