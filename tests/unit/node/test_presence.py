from __future__ import annotations

import asyncio

from racimo.model.guest import Lock
from racimo.model.ha import Heartbeat
from racimo.node.presence import FRESH, HeartbeatPresence
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.mirror import Mirror


class Clock:
    """Monotonic seconds that only move when told."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


async def beat(layout: Layout, node: str, sequence: int) -> int:
    held = await layout.heartbeats.find(node)
    compare = held.compare if held else layout.heartbeats.absent(node)
    heartbeat = Heartbeat(node=node, incarnation="i", sequence=sequence)
    revision = await layout.store.txn([compare], [layout.heartbeats.put(node, heartbeat, held)])
    assert revision is not None
    return revision


async def test_a_node_is_online_while_it_beats_and_offline_afterwards() -> None:
    clock, store = Clock(), MemoryStore()
    layout = Layout(store)
    await beat(layout, "n2", 1)
    async with Mirror(store, ROOT, clock=clock) as mirror:
        presence = HeartbeatPresence(layout, mirror, clock)
        following = asyncio.create_task(presence.follow())
        changes = mirror.changes()
        await asyncio.sleep(0)
        assert presence.online("n2")
        assert not presence.online("n3")

        clock.now += FRESH + 1
        await layout.store.txn([], [layout.locks.put("x", _lock())])  # news of something else: the copy is current
        await anext(changes)
        assert not presence.online("n2")

        await beat(layout, "n2", 2)
        await anext(changes)
        await asyncio.sleep(0)
        assert presence.online("n2")
        following.cancel()
        await asyncio.wait([following])
        await changes.aclose()


async def test_without_the_store_the_last_knowledge_stands() -> None:
    clock, store = Clock(), MemoryStore()
    layout = Layout(store)
    await beat(layout, "n2", 1)
    async with Mirror(store, ROOT, clock=clock) as mirror:
        presence = HeartbeatPresence(layout, mirror, clock)
        following = asyncio.create_task(presence.follow())
        await asyncio.sleep(0)
        clock.now += 1000.0  # nothing was heard of the store all this while
        assert presence.online("n2")
        following.cancel()
        await asyncio.wait([following])


def _lock() -> Lock:

    return Lock(subject="x", node="n1", incarnation="i", task="t")
