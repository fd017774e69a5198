"""HA of the whole datacenter as administrators handle it, over a store."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from racimo.errors import BadParameter, NotFound, Refused
from racimo.ha.control import HaControl
from racimo.ha.probe import ProbeSettings
from racimo.ha.resources import HaResources
from racimo.model.datacenter import Datacenter
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Arming, ArmPhase, Heartbeat, Resource, Service, ServiceState
from racimo.model.node import Node, NodeFacts
from racimo.model.rule import Rule, RuleKind
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

GIB = 1 << 30


@pytest.fixture
async def layout() -> AsyncIterator[Layout]:
    """Three nodes and a witness; four guests of 2 GiB on n1."""
    store = MemoryStore()
    layout = Layout(store)
    await layout.datacenter.create("settings", Datacenter(id="d", name="d"))
    for name in ("n1", "n2", "n3", "w"):
        facts = NodeFacts(cpus=8, memory=16 * GIB)
        await layout.nodes.create(name, Node(name=name, id=name, address=name, facts=facts, witness=name == "w"))
    for name in ("n1", "n2", "n3"):
        await layout.heartbeats.create(name, Heartbeat(node=name, incarnation="a", sequence=1))
    for vmid in (100, 101, 102, 103):
        sid = f"vm:{vmid}"
        await layout.guests.create(vmid, Guest(vmid=vmid, node="n1", config={"memory": "2048", "cores": "2"}))
        await layout.runtimes.create(vmid, Runtime(vmid=vmid, node="n1", epoch=1, state=RunState.RUNNING))
        await layout.resources.create(sid, Resource(sid=sid))
        service = Service(sid=sid, state=ServiceState.STARTED, node="n1", epoch=1, guarded=True)
        await layout.services.create(sid, service)
    yield layout
    await store.close()


async def marked(node: str, vmid: int) -> None:
    """Every node marks at once."""


async def test_maintenance_begins_once_and_ends(layout: Layout) -> None:
    control = HaControl(layout)
    await control.set_maintenance("n1", on=True, comment="new memory")
    since = (await layout.maintenance.get("n1")).since
    await control.set_maintenance("n1", on=True, comment="and disks")
    record = await layout.maintenance.get("n1")
    assert (record.comment, record.since) == ("and disks", since)
    lines = await control.maintenance()
    assert [(line.node, line.maintenance is not None, len(line.guests)) for line in lines] == [
        ("n1", True, 4), ("n2", False, 0), ("n3", False, 0),
    ]  # fmt: skip
    await control.set_maintenance("n1", on=False)
    await control.set_maintenance("n1", on=False)
    assert await layout.maintenance.find("n1") is None


async def test_maintenance_of_a_witness_or_of_nobody_is_refused(layout: Layout) -> None:
    with pytest.raises(Refused, match="witness"):
        await HaControl(layout).set_maintenance("w", on=True)
    with pytest.raises(NotFound):
        await HaControl(layout).set_maintenance("n9", on=True)


async def test_disarming_is_asked_for_and_taken_back(layout: Layout) -> None:
    control = HaControl(layout)
    assert (await control.arming()).phase is ArmPhase.ARMED
    await control.disarm("ignore")
    asked = await control.arming()
    assert (asked.phase, asked.mode, asked.generation) == (ArmPhase.DISARMING, "ignore", 0)
    await control.arm()
    assert (await control.arming()).phase is ArmPhase.ARMED


async def test_a_disarmed_datacenter_keeps_its_generation_when_it_is_armed(layout: Layout) -> None:
    control = HaControl(layout)
    await layout.arming.create("state", Arming(phase=ArmPhase.DISARMED, mode="freeze", generation=4))
    await control.disarm("ignore")
    assert (await control.arming()).phase is ArmPhase.DISARMED
    await control.arm()
    assert (await control.arming()).generation == 4


async def test_the_plan_says_each_move_and_why_and_moves_nothing(layout: Layout) -> None:
    plan = await HaControl(layout).plan()
    assert plan.moves and plan.after < plan.before
    assert all(move.source == "n1" and "imbalance goes from" in move.why for move in plan.moves)
    assert not [r for r in await layout.resources.records() if r.target]


async def test_rebalancing_asks_the_manager_for_no_more_moves_than_given(layout: Layout) -> None:
    plan = await HaControl(layout).rebalance(moves=1)
    (asked,) = [resource for resource in await layout.resources.records() if resource.target]
    assert (asked.sid, asked.target, asked.target_mode) == (plan.moves[0].sid, plan.moves[0].target, "migrate")


async def test_nothing_goes_to_a_node_in_maintenance_for_balance(layout: Layout) -> None:
    await HaControl(layout).set_maintenance("n2", on=True)
    assert {move.target for move in (await HaControl(layout).plan()).moves} == {"n3"}


async def test_a_guest_that_is_kept_with_others_takes_them_along(layout: Layout) -> None:
    rule = Rule(name="pair", kind=RuleKind.RESOURCES, resources=("vm:100", "vm:101"))
    await layout.rules.create("pair", rule)
    await HaResources(layout, marked).migrate("vm:100", "n2")
    targets = {resource.sid: resource.target for resource in await layout.resources.records()}
    assert targets == {"vm:100": "n2", "vm:101": "n2", "vm:102": "", "vm:103": ""}


async def test_a_probe_is_set_changed_and_checked(layout: Layout) -> None:
    resources = HaResources(layout, marked)
    await resources.change("vm:100", probing=ProbeSettings("tcp:10.0.0.5:80", failures=5))
    resource = await layout.resources.get("vm:100")
    assert (resource.probe, resource.probe_failures, resource.probe_interval) == ("tcp:10.0.0.5:80", 5, 10.0)
    with pytest.raises(BadParameter, match="probe"):
        await resources.change("vm:100", probing=ProbeSettings("ping"))
    await layout.resources.update("vm:101", lambda old: replace(old, probe="agent"))
    await resources.change("vm:101", probing=ProbeSettings(""))
    assert (await layout.resources.get("vm:101")).probe == ""
