"""A node leaves while guests are given to others: none is given to one that is on its way out, however close."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.forget import forget_node, hand_over_guests
from racimo.errors import Conflict, Refused
from racimo.guest.records import GuestRecords
from racimo.ha.commit import Commit
from racimo.ha.states import Move
from racimo.ha.view import Records
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Service, ServiceState
from racimo.model.node import Node
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from racimo.store.base import Compare, Put


class Interrupted(MemoryStore):
    """A store in which something happens just before the next commit."""

    first: Callable[[], Awaitable[object]] | None = None

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        first, self.first = self.first, None
        if first is not None:
            await first()
        return await super().txn(compares, puts, deletes)


@pytest.fixture
async def store() -> AsyncIterator[Interrupted]:
    store = Interrupted()
    layout = Layout(store)
    for name in ("n1", "n2", "n3"):
        await layout.nodes.create(name, Node(name=name, id=f"id-{name}", address=name))
    await layout.guests.create(100, Guest(vmid=100, node="n1"))
    yield store
    await store.close()


@pytest.fixture
def layout(store: Interrupted) -> Layout:
    return Layout(store)


def leaves(layout: Layout, name: str) -> Callable[[], Awaitable[object]]:
    return lambda: layout.nodes.update(name, lambda node: dataclasses.replace(node, leaving=True))


async def test_a_node_that_begins_to_leave_at_the_last_moment_gets_no_guest(store: Interrupted, layout: Layout) -> None:
    records = GuestRecords(layout, "n1", node_id="id-n1")
    store.first = leaves(layout, "n2")
    with pytest.raises(Refused, match="n2 takes no guests: it is leaving"):
        await records.move(await records.view(100), "n2", RunState.STOPPED, "moved")
    assert (await layout.guests.get(100)).node == "n1"


async def test_a_node_that_has_left_at_the_last_moment_gets_no_guest(store: Interrupted, layout: Layout) -> None:
    records = GuestRecords(layout, "n1", node_id="id-n1")
    store.first = lambda: forget_node(layout, "n2")
    with pytest.raises(Refused, match="no node of the datacenter"):
        await records.move(await records.view(100), "n2", RunState.STOPPED, "moved")
    assert (await layout.guests.get(100)).node == "n1"


async def test_a_guest_that_came_at_the_last_moment_keeps_its_node_in(store: Interrupted, layout: Layout) -> None:
    records = GuestRecords(layout, "n1", node_id="id-n1")
    view = await records.view(100)
    store.first = lambda: records.move(view, "n2", RunState.STOPPED, "moved")
    with pytest.raises(Conflict, match="has guests again: 100"):
        await forget_node(layout, "n2")
    assert (await layout.nodes.get("n2")).id == "id-n2"


async def test_a_node_that_becomes_a_voter_meanwhile_gets_the_guest_all_the_same(
    store: Interrupted, layout: Layout
) -> None:
    records = GuestRecords(layout, "n1", node_id="id-n1")
    store.first = lambda: layout.nodes.update("n2", lambda node: dataclasses.replace(node, voter=True))
    assert await records.move(await records.view(100), "n2", RunState.STOPPED, "moved")
    assert (await layout.guests.get(100)).node == "n2"


async def test_nothing_is_created_on_a_node_that_leaves_or_that_was_replaced(
    store: Interrupted, layout: Layout
) -> None:
    store.first = leaves(layout, "n1")
    with pytest.raises(Refused, match="it is leaving"):
        await GuestRecords(layout, "n1", node_id="id-n1").create(Guest(vmid=200, node="n1"))
    with pytest.raises(Refused, match=r"another has its name by now.*leave --force"):
        await GuestRecords(layout, "n2", node_id="removed").create(Guest(vmid=200, node="n2"))
    assert await layout.guests.find(200) is None


async def test_the_guests_of_a_removed_node_are_not_handed_to_one_that_leaves(
    store: Interrupted, layout: Layout
) -> None:
    await leaves(layout, "n2")()
    with pytest.raises(Refused, match="it is leaving"):
        await hand_over_guests(layout, "n1", "n2", powered_off=True)


async def test_ha_gives_no_guest_to_a_node_that_left_after_the_decision(layout: Layout) -> None:
    """The decision was made by what stood in the store; the transaction compares the target with that."""
    basis = Records()
    basis.nodes, basis.guests = await layout.nodes.all(), await layout.guests.all()
    guest = Guest(vmid=100, node="n2", epoch=2)
    move = Move(
        sid="vm:100",
        guest=guest,
        runtime=Runtime(vmid=100, node="n2", epoch=2, state=RunState.STOPPED),
        service=Service(sid="vm:100", state=ServiceState.REQUEST_START, node="n2", epoch=2),
        why="asked for",
    )
    await leaves(layout, "n2")()
    transaction = Commit(layout, basis, layout.manager.absent("term")).transaction(move)
    assert await layout.store.txn(*transaction) is None
    basis.nodes = await layout.nodes.all()
    assert await layout.store.txn(*Commit(layout, basis, layout.manager.absent("term")).transaction(move)) is not None
