"""The parts of HA over a store, as they run: a resource comes, starts and goes; who manages; what is refused."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from one_node import OneNode, marks

from racimo.errors import Conflict, NotFound, Refused
from racimo.ha.manager import TERM
from racimo.ha.resources import HaResources
from racimo.ha.timing import PROFILES
from racimo.model.guest import Lock
from racimo.model.ha import Heartbeat, ManagerTerm, Requested, Resource, ServiceState
from racimo.model.node import Node

DEFAULT = PROFILES["default"]


async def test_a_resource_is_marked_started_and_its_history_told(one: OneNode) -> None:
    resources = HaResources(one.layout, marks(one.desk))
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
        view = one.ha.view
        await one.until(lambda: one.ha.holder.holds() and {"n1", "n2"} <= view.heartbeats.keys(), "a lease in view")
        seen = one.ha.observer.sighting("n2", one.clock.now)
        assert seen is not None
        assert await one.ha.manager.turn() == seen.expires == one.clock.now + DEFAULT.expiry


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
    resources = HaResources(one.layout, marks(one.desk))  # type: ignore[arg-type]
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
        await HaResources(one.layout, marks(one.desk)).change("100", requested=Requested.STOPPED)
        await one.until(lambda: one.ha.view.services["vm:100"].record.state is ServiceState.STOPPED, "stopped")
    assert one.operations.commands[-1] == ("stop", 100, 1) and not one.desk.running
