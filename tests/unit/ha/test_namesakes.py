"""Two processes, or two machines, that speak with one name."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from one_node import OneNode

from racimo.ha.daemon import HaNode
from racimo.ha.heartbeat import Fenced
from racimo.model.ha import Heartbeat
from racimo.model.lease import Lease


async def test_a_heartbeat_of_the_process_before_gives_no_lease_from_now_on() -> None:
    """It was sent before racimo-ha was restarted, and arrives after the new process has read what stands there."""
    one = OneNode()
    await one.records()
    now = one.clock.boottime_ns()
    one.desk.lease = Lease(now + 4 * 10**9, 3 * 10**9, 5 * 10**9, "same", 5)
    await one.layout.heartbeats.create("n1", Heartbeat(node="n1", incarnation="same", sequence=5))
    await one.ha.holder._begin()
    held = await one.layout.heartbeats.hold("n1")
    late = Heartbeat(node="n1", incarnation="same", sequence=7)  # its heartbeat 6 was lost
    assert await one.store.txn([held.compare], [one.layout.heartbeats.put("n1", late)])
    await one.ha.holder.beat()
    assert one.desk.lease is not None and one.desk.lease.sequence == 5
    await one.ha.holder.beat()
    assert one.desk.lease.sequence > 100
    await one.store.close()


async def test_a_removed_machine_shows_no_life_in_the_name_of_its_successor() -> None:
    one = OneNode()
    await one.records()
    successor = Heartbeat(node="n1", incarnation="successor", sequence=1)
    await one.layout.heartbeats.create("n1", successor)
    one.ha = HaNode("n1", one.store, one.desk, one.operations, one.clock, "removed")
    async with one.runs():
        await asyncio.sleep(0.3)
    assert await one.layout.heartbeats.get("n1") == successor and one.desk.lease is None
    await one.store.close()


async def test_a_node_that_is_removed_while_its_heartbeat_is_under_way_shows_no_life_any_more() -> None:
    one = OneNode()
    await one.records()
    one.ha = HaNode("n1", one.store, one.desk, one.operations, one.clock, "1")
    holder = one.ha.holder
    await holder._begin()
    await holder.beat()
    before = await one.layout.heartbeats.hold("n1")
    await one.layout.nodes.update("n1", lambda node: replace(node, id="successor"))
    with pytest.raises(Fenced, match="it was removed"):
        await holder.beat()
    assert (await one.layout.heartbeats.hold("n1")).revision == before.revision
    await one.store.close()


async def test_a_node_that_becomes_a_voter_goes_on_with_its_lease() -> None:
    one = OneNode()
    await one.records()
    one.ha = HaNode("n1", one.store, one.desk, one.operations, one.clock, "1")
    holder = one.ha.holder
    await holder._begin()
    await holder.beat()
    await one.layout.nodes.update("n1", lambda node: replace(node, voter=not node.voter))
    await holder.beat()
    await holder.beat()
    assert (await one.layout.heartbeats.get("n1")).sequence == 3 and holder.holds()
    await one.store.close()
