"""The parts of HA over a store: carrying on after a restart, being fenced, and what the transactions compare."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from racimo.errors import Conflict, NotFound, OperationFailed, Refused
from racimo.ha.commit import Commit
from racimo.ha.daemon import HaNode
from racimo.ha.heartbeat import Fenced
from racimo.ha.manager import TERM
from racimo.ha.observer import Observer
from racimo.ha.resources import HaResources
from racimo.ha.states import Fence, Move
from racimo.ha.timing import PROFILES
from racimo.ha.view import Records
from racimo.model.guest import Guest, Lock, RunState, Runtime
from racimo.model.ha import (
    Heartbeat,
    ManagerTerm,
    NodeHealth,
    NodeStatus,
    Requested,
    Resource,
    Service,
    ServiceState,
)
from racimo.model.node import Node
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from racimo.model.lease import Lease

DEFAULT = PROFILES["default"]


class HandClock:
    """A clock that stands still unless it is moved; sleeping takes no time of it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def boottime_ns(self) -> int:
        return round(self.now * 1e9)

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


class Desk:
    """The lease, marks and processes of a node without any: outlives the daemon's restarts."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.lease: Lease | None = None
        self.marks: set[int] = set()
        self.running: set[int] = set()
        self.kills = 0
        self.guard_silent = 0.0

    def read(self) -> Lease | None:
        return self.lease

    def write(self, lease: Lease) -> None:
        self.lease = lease

    def remove(self) -> None:
        self.lease = None

    def begin(self, incarnation: str) -> None:
        assert not self.running & self.marks

    def guests(self) -> int:
        return len(self.running & self.marks)

    def kill(self) -> int:
        doomed = self.running & self.marks
        self.running -= doomed
        self.kills += len(doomed)
        return len(doomed)

    def guard_seen_ns(self) -> int:
        return self.clock.boottime_ns() - round(self.guard_silent * 1e9)

    def marked(self) -> set[int]:
        return set(self.marks)

    def mark(self, vmid: int) -> None:
        self.marks.add(vmid)

    def unmark(self, vmid: int) -> None:
        self.marks.discard(vmid)


class Starter:
    """A node's daemon that does at once what it is told, and notes it."""

    def __init__(self, layout: Layout, desk: Desk, node: str) -> None:
        self.layout, self.desk, self.node = layout, desk, node
        self.commands: list[tuple[str, int, int]] = []

    async def start(self, vmid: int, epoch: int) -> None:
        self.commands.append(("start", vmid, epoch))
        self.desk.running.add(vmid)
        await self._says(vmid, epoch, RunState.RUNNING)

    async def stop(self, vmid: int, epoch: int) -> None:
        self.commands.append(("stop", vmid, epoch))
        self.desk.running.discard(vmid)
        await self._says(vmid, epoch, RunState.STOPPED)

    async def migrate(self, vmid: int, epoch: int, target: str, live: bool) -> None:
        raise OperationFailed("not here")

    async def _says(self, vmid: int, epoch: int, state: RunState) -> None:
        runtime = Runtime(vmid=vmid, node=self.node, epoch=epoch, state=state)
        await self.layout.store.txn([], [self.layout.runtimes.put(vmid, runtime)])


class OneNode:
    """A datacenter of the node n1 over a memory store, with vm:100."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), HandClock()
        self.layout, self.desk = Layout(self.store), Desk(self.clock)
        self.operations = Starter(self.layout, self.desk, "n1")
        self.ha = self.make()

    def make(self) -> HaNode:
        return HaNode("n1", self.store, self.desk, self.operations, self.clock)

    async def records(self) -> None:
        await self.layout.nodes.create("n1", Node(name="n1", id="1", address="1", voter=True))
        await self.layout.guests.create(100, Guest(vmid=100, node="n1"))

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.ha.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < 10, f"waited 10 s for: {what}"
            await asyncio.sleep(0.005)


@pytest.fixture
async def one() -> AsyncIterator[OneNode]:
    node = OneNode()
    await node.records()
    yield node
    await node.store.close()


async def test_a_resource_is_marked_started_and_its_history_told(one: OneNode) -> None:
    resources = HaResources(one.layout, _marks(one.desk))
    async with one.runs():
        await one.until(lambda: one.ha.manager.manages, "a manager")
        await resources.add("vm:100", comment="shop")
        await one.until(lambda: one.operations.commands == [("start", 100, 1)], "the start")
        await one.until(lambda: one.ha.view.services["vm:100"].record.state is ServiceState.STARTED, "started")
        status = await resources.status()
        assert (status.manager, status.nodes[0].health) == ("n1", "online")
        (line,) = status.resources
        assert (line.state, line.why, line.node) == ("started", "n1 started it", "n1")
        await resources.change("100", requested=Requested.STOPPED)
        await one.until(lambda: one.ha.view.services["vm:100"].record.state is ServiceState.STOPPED, "stopped")
        assert one.desk.running == set()
        await resources.remove("vm:100")
        await one.until(lambda: one.desk.marks == set(), "the mark's end")
        assert await one.layout.outcomes.find("vm:100") is None
        assert await one.layout.services.find("vm:100") is None


def _marks(desk: Desk) -> Callable[[str, int], object]:
    async def mark(node: str, vmid: int) -> None:
        desk.mark(vmid)

    return mark


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


def test_an_observer_counts_from_when_it_saw_and_leaves_a_margin() -> None:
    observer = Observer(1.0, 0.0)
    observer.see("n2", 7, "default", 5.0)
    for now in range(1, 20):
        observer.contact(float(now))
        observer.see("n2", 7, "default", float(now))
    assert not observer.expired("n2", 15.9)
    assert observer.expired("n2", 16.1)
    observer.see("n2", 8, "default", 16.2)
    assert not observer.expired("n2", 19.0)


def test_out_of_touch_an_observer_calls_nobody_dead_and_then_waits() -> None:
    observer = Observer(1.0, 0.0)
    observer.see("n2", 7, "default", 0.0)
    assert not observer.expired("n2", 60.0)
    observer.contact(60.0)
    assert not observer.expired("n2", 60.5)
    for now in range(61, 72):
        observer.contact(float(now))
    assert observer.expired("n2", 71.5)


def test_a_short_outage_does_not_delay_a_failover() -> None:
    observer = Observer(1.0, 0.0)
    observer.see("n2", 7, "default", 0.0)
    for now in (4.5, 6.0, 8.0, 10.0, 11.0):
        observer.contact(now)
    assert observer.expired("n2", 11.1)


async def basis_of(layout: Layout) -> Records:
    basis = Records()
    for name in ("nodes", "guests", "runtimes", "resources", "heartbeats", "manager", "node_statuses", "services"):
        setattr(basis, name, await getattr(layout, name).all())
    return basis


async def managed() -> tuple[Layout, Commit, Fence, Move]:
    """A manager's office, a node n2 with a heartbeat and vm:100, and the decisions to fence and to move."""
    layout = Layout(MemoryStore())
    await layout.manager.create("term", ManagerTerm(node="n1", incarnation="a", term=1))
    await layout.heartbeats.create("n2", Heartbeat(node="n2", incarnation="b", sequence=5))
    await layout.guests.create(100, Guest(vmid=100, node="n2"))
    await layout.resources.create("vm:100", Resource(sid="vm:100"))
    service = Service(sid="vm:100", state=ServiceState.STARTED, node="n2", epoch=1)
    await layout.services.create("vm:100", service)
    await layout.runtimes.create(100, Runtime(vmid=100, node="n2", epoch=1, state=RunState.RUNNING))
    basis = await basis_of(layout)
    fence = Fence("n2", basis.heartbeats["n2"].revision, NodeStatus(node="n2", health=NodeHealth.FENCE), "why")
    move = Move(
        "vm:100",
        Guest(vmid=100, node="n1", epoch=2),
        Runtime(vmid=100, node="n1", epoch=2, state=RunState.STOPPED),
        replace(service, node="n1", epoch=2),
        "why",
        fenced="n2",
    )
    return layout, Commit(layout, basis, basis.manager["term"].compare), fence, move


async def test_a_witness_shows_no_heartbeat_and_does_not_manage(one: OneNode) -> None:
    held = await one.layout.nodes.find("n1")
    assert held is not None
    await one.store.txn([], [one.layout.nodes.put("n1", replace(held.record, witness=True), held)])
    async with one.runs():
        await one.until(lambda: "n1" in one.ha.view.nodes, "the view")
        await asyncio.sleep(0.1)  # time enough for some beats
        assert await one.layout.heartbeats.find("n1") is None
        assert not one.ha.manager.manages


async def test_a_candidate_looks_again_the_moment_the_managers_lease_has_run_out(one: OneNode) -> None:
    await one.layout.nodes.create("n2", Node(name="n2", id="2", address="2", voter=True))
    await one.layout.heartbeats.create("n2", Heartbeat(node="n2", incarnation="b", sequence=1))
    await one.layout.manager.create("term", ManagerTerm(node="n2", incarnation="b", term=1))
    async with one.runs():
        await one.until(lambda: one.ha.holder.holds() and "n2" in one.ha.observer.nodes(), "a lease and a sight of n2")
        seen = one.ha.observer.sighting("n2", one.clock.now)
        assert seen is not None
        assert await one.ha.manager.turn() == seen.expires == one.clock.now + DEFAULT.expiry


async def test_fencing_deletes_the_heartbeat_and_a_move_needs_that() -> None:
    layout, commit, fence, move = await managed()
    assert await layout.store.txn(*commit.transaction(move)) is None
    assert await layout.store.txn(*commit.transaction(fence)) is not None
    assert await layout.heartbeats.find("n2") is None
    commit = Commit(layout, await basis_of(layout), commit.term)
    assert await layout.store.txn(*commit.transaction(move)) is not None
    assert (await layout.guests.get(100)).epoch == 2


async def _newer_heartbeat(layout: Layout) -> None:
    await layout.heartbeats.update("n2", lambda old: replace(old, sequence=6))


async def _newer_term(layout: Layout) -> None:
    await layout.manager.update("term", lambda old: replace(old, node="n3", term=2))


@pytest.mark.parametrize("meanwhile", [_newer_heartbeat, _newer_term])
async def test_what_came_meanwhile_fails_the_fence(meanwhile: Callable[[Layout], object]) -> None:
    layout, commit, fence, _ = await managed()
    await meanwhile(layout)  # type: ignore[misc]
    assert await layout.store.txn(*commit.transaction(fence)) is None


async def _came_back(layout: Layout) -> None:
    await layout.heartbeats.create("n2", Heartbeat(node="n2", incarnation="c", sequence=1))


async def _started(layout: Layout) -> None:
    await layout.runtimes.update(100, lambda old: replace(old, state=RunState.STARTING))


async def _moved(layout: Layout) -> None:
    await layout.guests.update(100, lambda old: replace(old, node="n3", epoch=2))


@pytest.mark.parametrize("meanwhile", [_came_back, _started, _moved, _newer_term])
async def test_what_came_meanwhile_fails_the_move(meanwhile: Callable[[Layout], object]) -> None:
    layout, commit, fence, move = await managed()
    await layout.store.txn(*commit.transaction(fence))
    commit = Commit(layout, await basis_of(layout), commit.term)
    await meanwhile(layout)  # type: ignore[misc]
    assert await layout.store.txn(*commit.transaction(move)) is None


async def test_a_process_that_is_no_candidate_gives_the_office_of_the_one_before_back(one: OneNode) -> None:
    """It was manager when the datacenter was small, and its daemon is started anew: it shows life, so nobody else would
    take the office, and it may not itself."""
    async with one.runs():
        await one.until(lambda: one.ha.manager.manages, "n1 manages")
    for number in range(7):
        name = f"a{number}"
        await one.layout.nodes.create(name, Node(name=name, id=name, address=name, voter=True))
        await one.layout.heartbeats.create(name, Heartbeat(node=name, incarnation="i", sequence=1))
    one.ha = one.make()
    async with one.runs():
        view = one.ha.view
        await one.until(lambda: TERM in view.manager and not view.manager[TERM].record.node, "the office is vacant")
        assert (view.manager[TERM].record.term, one.ha.manager.manages) == (1, False)


async def test_a_guest_comes_under_ha_only_when_its_node_has_marked_it(one: OneNode) -> None:
    async def away(node: str, vmid: int) -> None:
        raise Refused(f"{node} does not answer")

    with pytest.raises(Refused, match="n1"):
        await HaResources(one.layout, away).add("vm:100")
    assert await one.layout.resources.find("vm:100") is None


async def test_what_cannot_be_put_under_ha_or_moved_says_why(one: OneNode) -> None:
    resources = HaResources(one.layout, _marks(one.desk))  # type: ignore[arg-type]
    with pytest.raises(NotFound, match="Guest '999'"):
        await resources.add("vm:999")
    await one.layout.locks.create("guests/100", Lock(subject="guests/100", node="n1", incarnation="x", task="t"))
    with pytest.raises(Conflict, match="a task is working on it"):
        await resources.add("vm:100")
    await one.layout.locks.remove("guests/100")
    await resources.add("vm:100")
    with pytest.raises(NotFound, match="Node 'n9'"):
        await resources.migrate("vm:100", "n9")
    with pytest.raises(Conflict, match="on n1 already"):
        await resources.migrate("vm:100", "n1")
    with pytest.raises(NotFound, match="not an HA resource"):
        await resources.get("vm:101")
    assert (await resources.get("vm:100")).state == "queued"


async def test_a_manager_whose_decisions_are_overtaken_again_and_again_reads_its_view_anew(one: OneNode) -> None:
    async with one.runs():
        await one.until(lambda: one.ha.manager.manages, "a manager")
        await one.layout.resources.create("vm:100", Resource(sid="vm:100"))
        await one.until(lambda: "vm:100" in one.ha.view.services, "the service")
        await one.until(lambda: one.ha.view.services["vm:100"].record.state is ServiceState.STARTED, "started")
        held = one.ha.view.services["vm:100"]
        one.ha.view.services["vm:100"] = replace(held, revision=held.revision - 1)  # as if the last event was lost
        await HaResources(one.layout, _marks(one.desk)).change("100", requested=Requested.STOPPED)
        await one.until(lambda: one.ha.view.services["vm:100"].record.state is ServiceState.STOPPED, "stopped")
    assert one.operations.commands[-1] == ("stop", 100, 1) and not one.desk.running
