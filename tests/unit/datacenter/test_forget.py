"""What is taken from a node that is removed, while it may still act."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.forget import forget_guests, forget_node, hand_over_guests
from racimo.errors import Conflict
from racimo.model.fence import FenceCheck, FenceDevice, Fencing
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Resource
from racimo.model.node import Node
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def layout() -> AsyncIterator[Layout]:
    store = MemoryStore()
    layout = Layout(store)
    await layout.nodes.create("n2", Node(name="n2", id="2", address="192.0.2.2"))
    await layout.guests.create(100, Guest(vmid=100, node="n3"))
    yield layout
    await store.close()


async def test_a_guest_that_its_node_has_just_started_is_not_taken_from_it(layout: Layout) -> None:
    """It was stopped when it was looked at; its node cannot be seen from here, but still writes to the store."""
    await layout.runtimes.create(100, Runtime(vmid=100, node="n3", epoch=1, state=RunState.STARTING))
    with pytest.raises(Conflict, match="was started meanwhile"):
        await hand_over_guests(layout, "n3", "n2", powered_off=False)
    with pytest.raises(Conflict, match="was started meanwhile"):
        await forget_guests(layout, "n3", powered_off=False)
    assert await hand_over_guests(layout, "n3", "n2", powered_off=True) == [100]
    assert (await layout.guests.get(100)).epoch == 2


async def test_a_guest_that_has_just_come_under_ha_is_left_to_it(layout: Layout) -> None:
    await layout.resources.create("vm:100", Resource(sid="vm:100"))
    with pytest.raises(Conflict):
        await hand_over_guests(layout, "n3", "n2", powered_off=True)
    with pytest.raises(Conflict):
        await forget_guests(layout, "n3", powered_off=True)
    assert (await layout.guests.get(100)).node == "n3"


async def test_a_removed_nodes_fence_devices_go_with_it_and_no_others(layout: Layout) -> None:
    await layout.nodes.create("n4", Node(name="n4", id="4", address="192.0.2.4"))
    for node in ("n2", "n4"):
        device = FenceDevice(name=f"{node}-bmc", node=node, agent="fence_ipmilan")
        await layout.fence_devices.create(device.name, device)
        await layout.fence_checks.create(device.name, FenceCheck(device=device.name, ok=True))
        fencing = Fencing(node=node, incarnation="a", revision=1, term=1, by="n3")
        await layout.fencings.create(node, fencing)
    await forget_node(layout, "n4")
    assert [device.name for device in await layout.fence_devices.records()] == ["n2-bmc"]
    assert [check.device for check in await layout.fence_checks.records()] == ["n2-bmc"]
    assert [fencing.node for fencing in await layout.fencings.records()] == ["n2"]
