from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.api.inventory import Inventory
from racimo.errors import StoreUnavailable
from racimo.model.node import Node, NodeFacts
from racimo.node.presence import HeartbeatPresence
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.mirror import Mirror

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKS: list[Callable[[Inventory], object]] = [
    Inventory.datacenter,
    Inventory.nodes,
    Inventory.guests,
    lambda inventory: inventory.guest(100),
    Inventory.storages,
    Inventory.resources,
    Inventory.services,
]


def inventory_of(mirror: Mirror) -> Inventory:
    layout = Layout(mirror.store)
    return Inventory(layout, mirror, HeartbeatPresence(layout, mirror), "n1", frozenset)


@pytest.mark.parametrize("look", LOOKS)
def test_nothing_is_told_of_records_that_were_never_read(look: Callable[[Inventory], object]) -> None:
    inventory = inventory_of(Mirror(MemoryStore(), ROOT))
    assert not inventory.known
    with pytest.raises(StoreUnavailable, match="not known here yet"):
        look(inventory)


async def test_what_was_read_is_told() -> None:
    store = MemoryStore()
    layout = Layout(store)
    node = Node(name="n1", id="a", address="10.0.0.1", facts=NodeFacts())
    await store.txn([], [layout.nodes.put("n1", node)])
    async with Mirror(store, ROOT) as mirror:
        inventory = inventory_of(mirror)
        assert inventory.known
        assert inventory.nodes() == {"n1": node}
        assert inventory.guests() == {}
