"""A daemon announces itself: only where the datacenter's node of that name is this very machine."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.identity import Identity
from racimo.errors import NotFound
from racimo.model.node import Daemon, Node
from racimo.node.announce import Announcement
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from racimo.store.base import Compare, Put

OWN = Identity(name="n2", id="own", address="192.0.2.2", clustered=True)


class RemovedMeanwhile(MemoryStore):
    """The node's record is deleted just before the first commit after ``armed``."""

    armed = False

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        if self.armed:
            self.armed = False
            await super().txn(deletes=[Layout(self).nodes.key("n2")])
        return await super().txn(compares, puts, deletes)


@pytest.fixture
async def layout() -> AsyncIterator[Layout]:
    store = RemovedMeanwhile()
    layout = Layout(store)
    await layout.nodes.create("n2", Node(name="n2", id="own", address="192.0.2.2"))
    yield layout
    await store.close()


def announcement(layout: Layout) -> Announcement:
    return Announcement(layout, OWN, Daemon(node="n2", incarnation="new"))


async def test_a_daemon_writes_itself_down_over_the_one_before(layout: Layout) -> None:
    await layout.daemons.create("n2", Daemon(node="n2", incarnation="old"))
    assert await announcement(layout).attempt() is None
    assert (await layout.daemons.get("n2")).incarnation == "new"


async def test_a_removed_machine_writes_nothing_and_says_what_happened(layout: Layout) -> None:
    await layout.nodes.remove("n2")
    assert "it was removed from the datacenter" in str(await announcement(layout).attempt())
    await layout.nodes.create("n2", Node(name="n2", id="successor", address="192.0.2.2"))
    assert "no node 'n2' has the id own" in str(await announcement(layout).attempt())
    with pytest.raises(NotFound):
        await layout.daemons.get("n2")


async def test_a_machine_that_is_removed_at_the_last_moment_writes_nothing(layout: Layout) -> None:
    assert isinstance(layout.store, RemovedMeanwhile)
    layout.store.armed = True
    assert await announcement(layout).attempt() == ""
    assert await layout.daemons.find("n2") is None


async def test_a_leave_that_was_broken_off_is_over_with_the_next_daemon(layout: Layout) -> None:
    await layout.nodes.update("n2", lambda node: dataclasses.replace(node, leaving=True))
    assert await announcement(layout).attempt() is None
    assert not (await layout.nodes.get("n2")).leaving
