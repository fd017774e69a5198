from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from racimo.errors import Conflict, StoreUnavailable, StoreUnknown
from racimo.model.guest import Lock
from racimo.model.ha import NodeHealth, NodeStatus
from racimo.model.node import Daemon, Node
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore
from racimo.task.lock import Locks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from racimo.store.base import Compare, Put, Stored

GUEST = "guests/100"


class FailingStore(MemoryStore):
    """A store that can be told to lose quorum, or the answer to the next write."""

    def __init__(self) -> None:
        super().__init__()
        self.quorum = asyncio.Event()
        self.quorum.set()
        self.lose_next_answer = False
        self.silent_reads = False
        self.hold_next_write: asyncio.Event | None = None
        self.write_held = asyncio.Event()

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        if self.hold_next_write is not None:
            gate, self.hold_next_write = self.hold_next_write, None
            self.write_held.set()
            await gate.wait()
        if not self.quorum.is_set():
            raise StoreUnavailable("No quorum")
        revision = await super().txn(compares, puts, deletes)
        if self.lose_next_answer:
            self.lose_next_answer = False
            raise StoreUnknown("The answer was lost")
        return revision

    async def get(self, key: str) -> Stored | None:
        if self.silent_reads:
            await asyncio.sleep(5)
            raise StoreUnavailable("No quorum")
        return await super().get(key)


class Datacenter:
    """Locks of several nodes over one store, and who of them is dead."""

    def __init__(self) -> None:
        self.store = FailingStore()
        self.layout = Layout(self.store)
        self.suspicious = True
        """What each node's own copy of the records says of every holder: that it is dead."""
        self.all: list[Locks] = []

    async def node(self, name: str, boot: str = "boot-1") -> Locks:
        """The locks of a node whose daemon begins under the incarnation ``boot``."""
        locks = Locks(self.layout, name, boot, lambda node, boot: self.suspicious, clock=lambda: 0.0, recheck=0.02)
        self.all.append(locks)
        daemon = self.layout.daemons.put(name, Daemon(node=name, incarnation=boot))
        await self.store.txn(puts=[daemon, self.layout.nodes.put(name, Node(name=name, id=name, address="127.0.0.1"))])
        return locks

    async def fence(self, name: str) -> None:
        """The manager has fenced the node."""
        await self.layout.node_statuses.create(name, NodeStatus(node=name, health=NodeHealth.FENCE))

    async def holder(self) -> str | None:
        held = await self.layout.locks.find(GUEST)
        return held.record.task if held else None

    async def freed(self) -> None:
        """Wait until the lock's record is gone."""
        revision = await self.store.revision()
        if await self.holder() is None:
            return
        async with asyncio.timeout(5):
            async for _ in self.store.watch(self.layout.locks.key(GUEST), revision):
                if await self.holder() is None:
                    return


@pytest.fixture
async def datacenter() -> AsyncIterator[Datacenter]:
    datacenter = Datacenter()
    yield datacenter
    for locks in datacenter.all:
        await locks.close()
    await datacenter.store.close()


@asynccontextmanager
async def waiting(locks: Locks, task: str, order: list[str], wait: float = 5.0) -> AsyncIterator[asyncio.Task[None]]:
    """Somebody who wants the lock, notes when it is had, and gives it back at once."""

    async def take() -> None:
        async with locks.hold(GUEST, task=task, wait=wait):
            order.append(task)

    taker = asyncio.create_task(take())
    await asyncio.sleep(0)
    try:
        yield taker
    finally:
        taker.cancel()
        await asyncio.wait({taker})


async def test_those_who_wait_on_one_node_are_served_in_order(datacenter: Datacenter) -> None:
    locks, order = await datacenter.node("n1"), list[str]()
    takers = []
    async with locks.hold(GUEST, task="first"):
        for n in range(5):
            takers.append(asyncio.create_task(_note(locks, f"waiter {n}", order)))
            await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(*takers)
    assert order == [f"waiter {n}" for n in range(5)]
    assert await datacenter.holder() is None


async def _note(locks: Locks, task: str, order: list[str]) -> None:
    async with locks.hold(GUEST, task=task, wait=5):
        order.append(task)


async def test_another_node_gets_the_lock_when_it_is_given_back(datacenter: Datacenter) -> None:
    order = list[str]()
    async with waiting(await datacenter.node("n2"), "theirs", order) as taker:
        async with (await datacenter.node("n1")).hold(GUEST, task="ours"):
            pass
        await asyncio.wait_for(asyncio.shield(taker), 5)
    assert order == ["theirs"]


async def test_locks_on_different_subjects_do_not_wait_for_each_other(datacenter: Datacenter) -> None:
    locks = await datacenter.node("n1")
    async with locks.hold("guests/100", task="a"), locks.hold("guests/1000", task="b"):
        assert len(await datacenter.layout.locks.all()) == 2


@pytest.mark.parametrize("same_node", [True, False])
async def test_a_time_out_names_the_holder_and_since_when(datacenter: Datacenter, same_node: bool) -> None:
    ours = await datacenter.node("n1")
    theirs = ours if same_node else await datacenter.node("n2")
    async with ours.hold(GUEST, task="UPID:n1:…", reason="qmigrate"):
        with pytest.raises(Conflict, match="got timeout") as raised:
            async with theirs.hold(GUEST, task="other", wait=0.05):
                pass
    assert raised.value.why == "task UPID:n1:… (qmigrate) on node n1 holds it since 1970-01-01 00:00:00 UTC"
    assert await datacenter.holder() is None


async def test_a_fenced_nodes_lock_is_broken_while_somebody_waits(datacenter: Datacenter) -> None:
    order = list[str]()
    ours, theirs = await datacenter.node("n1"), await datacenter.node("n2")
    async with ours.hold(GUEST, task="dead"), waiting(theirs, "living", order) as taker:
        await datacenter.fence("n1")
        await asyncio.wait_for(asyncio.shield(taker), 5)
    assert order == ["living"]


@pytest.mark.parametrize("how", ["removed", "restarted"])
async def test_the_lock_of_a_node_that_is_gone_or_begun_anew_is_broken(datacenter: Datacenter, how: str) -> None:
    ours, theirs = await datacenter.node("n1"), await datacenter.node("n2")
    async with ours.hold(GUEST, task="dead"):
        if how == "removed":
            await datacenter.layout.nodes.remove("n1")
        else:
            await datacenter.node("n1", "boot-2")
        async with theirs.hold(GUEST, task="living", wait=1):
            assert await datacenter.holder() == "living"


async def test_a_node_whose_copy_of_the_records_is_wrong_breaks_no_living_holders_lock(datacenter: Datacenter) -> None:
    ours, theirs = await datacenter.node("n1"), await datacenter.node("n2")
    assert datacenter.suspicious
    async with ours.hold(GUEST, task="living"):
        with pytest.raises(Conflict, match="task living"):
            async with theirs.hold(GUEST, task="wrong", wait=0.2):
                pass
        assert await datacenter.holder() == "living"


async def test_a_restarted_daemon_breaks_its_own_old_lock(datacenter: Datacenter) -> None:
    locks = await datacenter.node("n1", "boot-2")
    left = Lock(subject=GUEST, node="n1", incarnation="boot-1", task="before")
    await datacenter.layout.locks.create(GUEST, left)
    async with locks.hold(GUEST, task="after", wait=1):
        assert await datacenter.holder() == "after"
    assert await datacenter.holder() is None


async def test_a_daemon_that_goes_over_to_new_locks_waits_for_those_its_tasks_still_hold(
    datacenter: Datacenter,
) -> None:
    before, after, order = await datacenter.node("n1"), await datacenter.node("n1"), list[str]()
    async with before.hold(GUEST, task="before"):
        with pytest.raises(Conflict, match="task before"):
            async with after.hold(GUEST, task="hasty", wait=0.1):
                pass
        assert await datacenter.holder() == "before"
    await _note(after, "after", order)
    assert order == ["after"]


async def test_who_lost_its_lock_does_not_take_the_new_holders_away(datacenter: Datacenter) -> None:
    ours, theirs = await datacenter.node("n1"), await datacenter.node("n2")
    await datacenter.fence("n1")
    async with theirs_after(ours, theirs):
        assert await datacenter.holder() == "theirs"


@asynccontextmanager
async def theirs_after(ours: Locks, theirs: Locks) -> AsyncIterator[None]:
    """Their lock, broken into ours, held when ours was given back."""
    our_hold = ours.hold(GUEST, task="ours")
    await our_hold.__aenter__()
    async with theirs.hold(GUEST, task="theirs"):
        await our_hold.__aexit__(None, None, None)
        yield


async def test_a_cancelled_holder_gives_the_lock_back(datacenter: Datacenter) -> None:
    locks, inside = await datacenter.node("n1"), asyncio.Event()

    async def hold() -> None:
        async with locks.hold(GUEST, task="ours"):
            inside.set()
            await asyncio.Event().wait()

    holder = asyncio.create_task(hold())
    await asyncio.wait_for(inside.wait(), 5)
    holder.cancel()
    await asyncio.wait({holder})
    assert holder.cancelled()
    assert await datacenter.holder() is None


async def test_who_is_cancelled_while_its_write_is_under_way_leaves_no_lock(datacenter: Datacenter) -> None:
    locks, gate = await datacenter.node("n1"), asyncio.Event()
    datacenter.store.hold_next_write = gate
    async with waiting(locks, "cancelled", []) as taker:
        await asyncio.wait_for(datacenter.store.write_held.wait(), 5)
        taker.cancel()
        await asyncio.wait({taker})
    gate.set()
    await locks.idle()
    assert await datacenter.holder() is None


async def test_a_lock_whose_answer_was_lost_is_found_by_reading_back(datacenter: Datacenter) -> None:
    locks = await datacenter.node("n1")
    datacenter.store.lose_next_answer = True
    async with locks.hold(GUEST, task="ours"):
        assert await datacenter.holder() == "ours"
    assert await datacenter.holder() is None


async def test_without_quorum_the_lock_is_refused_at_once(datacenter: Datacenter) -> None:
    locks = await datacenter.node("n1")
    datacenter.store.quorum.clear()
    with pytest.raises(StoreUnavailable):
        async with locks.hold(GUEST, task="ours"):
            pass


async def test_a_lock_is_given_back_after_a_store_outage(datacenter: Datacenter) -> None:
    locks = await datacenter.node("n1")
    locks.release_wait = 0.01
    async with locks.hold(GUEST, task="ours"):
        datacenter.store.quorum.clear()
    assert await datacenter.holder() == "ours"
    datacenter.store.quorum.set()
    await datacenter.freed()


async def test_a_lock_left_behind_by_an_outage_is_taken_over_by_the_next_of_the_same_daemon(
    datacenter: Datacenter,
) -> None:
    locks = await datacenter.node("n1")
    locks.release_wait = 0.01
    async with locks.hold(GUEST, task="ours"):
        datacenter.store.quorum.clear()
    datacenter.store.quorum.set()
    async with locks.hold(GUEST, task="next", wait=1):
        await locks.idle()
        assert await datacenter.holder() == "next", "the late release leaves the new holder alone"


async def test_many_tasks_of_many_nodes_never_hold_one_lock_together(datacenter: Datacenter) -> None:
    inside, served = 0, 0

    async def work(locks: Locks, task: str) -> None:
        nonlocal inside, served
        async with locks.hold(GUEST, task=task, wait=20):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1
            served += 1

    nodes = [await datacenter.node(f"n{n}") for n in range(3)]
    await asyncio.gather(*(work(nodes[n % 3], f"task {n}") for n in range(60)))
    assert served == 60


async def test_who_waits_for_a_store_without_quorum_is_told_soon(datacenter: Datacenter) -> None:
    """The write has taken its time already; whether it was done is not waited for as long again."""
    locks = await datacenter.node("n1")
    datacenter.store.lose_next_answer = datacenter.store.silent_reads = True
    with pytest.raises(StoreUnknown):
        async with asyncio.timeout(3), locks.hold(GUEST, task="a"):
            pass
    datacenter.store.silent_reads = False
    await asyncio.wait_for(locks.idle(), 10)
    assert await datacenter.holder() is None
