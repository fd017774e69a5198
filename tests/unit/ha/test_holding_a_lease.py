"""The holder's side of a lease: what it counts from, carrying on after a restart, and being fenced."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from racimo.ha.daemon import HaNode
from racimo.ha.heartbeat import Fenced
from racimo.ha.timing import PROFILES
from racimo.model.ha import Requested, Resource
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from one_node import OneNode

DEFAULT = PROFILES["default"]


async def test_a_restarted_daemon_carries_on_with_its_lease_and_no_guest_dies(one: OneNode) -> None:
    async with one.runs():
        await one.until(one.ha.holder.holds, "a lease")
        one.desk.mark(100)
        one.desk.running.add(100)
        incarnation = one.ha.holder.incarnation
    one.ha = one.make()
    async with one.runs():
        await one.until(one.ha.holder.holds, "the lease again")
        before = one.ha.holder.lease
        await one.until(lambda: one.ha.holder.lease != before, "its renewal")
        assert one.ha.holder.incarnation == incarnation and one.desk.running == {100} and not one.desk.kills
        await one.until(lambda: one.ha.manager.manages, "the office again")


async def test_a_deleted_heartbeat_ends_the_incarnation_and_its_guests(one: OneNode) -> None:
    await one.layout.resources.create("vm:100", Resource(sid="vm:100", requested=Requested.IGNORED))
    async with one.runs():
        await one.until(lambda: one.ha.holder.holds() and 100 in one.desk.marks, "a lease and the mark")
        one.desk.running.add(100)
        first = one.ha.holder.incarnation
        await one.store.txn([], deletes=[one.layout.heartbeats.key("n1")])
        await one.until(lambda: one.ha.holder.incarnation != first, "a new incarnation")
        assert one.desk.kills == 1


async def test_without_a_guard_there_is_no_heartbeat(one: OneNode) -> None:
    one.desk.guard_silent = 10.0
    async with one.runs():
        await asyncio.sleep(0.2)
        assert await one.layout.heartbeats.find("n1") is None
        one.desk.guard_silent = 0.0
        await one.until(one.ha.holder.holds, "a lease")
        sequence = one.ha.holder.sequence
        one.desk.guard_silent = 10.0
        await asyncio.sleep(0.1)
        assert one.ha.holder.sequence <= sequence + 1


async def begun(one: OneNode) -> None:
    await one.ha.holder._begin()
    await one.ha.holder.beat()


async def test_the_lease_counts_from_before_the_heartbeat_was_sent(one: OneNode) -> None:
    class Slow(MemoryStore):
        async def txn(self, *arguments: object) -> int | None:  # type: ignore[override]
            one.clock.now += 1.5
            return await super().txn(*arguments)  # type: ignore[arg-type]

    store = Slow()
    one.ha = HaNode("n1", store, one.desk, one.operations, one.clock)
    sent = one.clock.boottime_ns()
    await begun(one)
    assert one.desk.lease is not None
    assert one.desk.lease.deadline_ns == sent + DEFAULT.lease_ns
    await store.close()


async def test_a_shorter_lease_counts_before_its_heartbeat_is_acknowledged(one: OneNode) -> None:
    one.ha.holder.profile = lambda: PROFILES["patient"]
    await begun(one)
    one.ha.holder.profile = lambda: PROFILES["fast"]
    await one.store.close()
    await one.ha.holder.beat()  # not acknowledged: the store is gone
    assert one.desk.lease is not None
    assert one.desk.lease.deadline_ns == one.clock.boottime_ns() + PROFILES["fast"].lease_ns


async def test_an_own_heartbeat_whose_answer_was_lost_is_found_again(one: OneNode) -> None:
    await begun(one)
    held = await one.layout.heartbeats.hold("n1")
    lost = replace(held.record, sequence=2)
    one.ha.holder._sent[2] = (one.clock.boottime_ns(), DEFAULT)
    one.ha.holder.sequence = 2
    await one.store.txn([held.compare], [one.layout.heartbeats.put("n1", lost)])
    one.clock.now += 1
    await one.ha.holder.beat()
    await one.ha.holder.beat()
    assert (await one.layout.heartbeats.get("n1")).sequence == 4


async def test_a_heartbeat_that_went_back_is_a_fenced_one(one: OneNode) -> None:
    await begun(one)
    await one.ha.holder.beat()
    held = await one.layout.heartbeats.hold("n1")
    await one.store.txn([held.compare], [one.layout.heartbeats.put("n1", replace(held.record, sequence=1))])
    with pytest.raises(Fenced, match="went back"):
        await one.ha.holder.beat()
