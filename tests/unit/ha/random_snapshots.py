"""Snapshots at random, for what holds of ``decide`` whatever it is given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from given import SID, fenced, make_service, run_state, silent, told, wanted, well
from hypothesis import strategies as st

from racimo.model.datacenter import Datacenter
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import (
    Arming,
    ArmPhase,
    Heartbeat,
    Maintenance,
    NodeHealth,
    NodeStatus,
    Requested,
    Resource,
    ServiceState,
)
from racimo.model.rule import Affinity, Rule, RuleKind
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from racimo.ha.states import Snapshot

S = ServiceState
names = st.sampled_from(["n1", "n2", "n3"])


@st.composite
def snapshots(draw: st.DrawFn) -> Snapshot:
    snapshot = well(
        state=draw(st.sampled_from(list(S))),
        node=draw(names),
        epoch=draw(st.integers(4, 6)),
        guarded=draw(st.booleans()),
        restarts=draw(st.integers(0, 2)),
        relocations=draw(st.integers(0, 2)),
        target=draw(st.sampled_from(["", "n2", "n3"])),
    )
    for node in draw(st.sets(names)):
        snapshot = silent(snapshot, node, draw(st.sampled_from([0.1, 4.0, 12.0])), draw(st.booleans()))
    for node in draw(st.sets(names, max_size=2)):
        snapshot = fenced(snapshot, node)
    if draw(st.booleans()):
        back = draw(names)
        snapshot = replace(
            snapshot,
            heartbeats={**snapshot.heartbeats, back: Heartbeat(node=back, incarnation="b", sequence=1)},
            statuses={**snapshot.statuses, back: NodeStatus(node=back, health=NodeHealth.FENCE, proof="lease")},
        )
    snapshot = wanted(
        snapshot,
        requested=draw(st.sampled_from(list(Requested))),
        target=draw(st.sampled_from(["", "n1", "n2", "n3"])),
        target_mode=draw(st.sampled_from(["migrate", "relocate"])),
    )
    state = draw(st.sampled_from([None, *RunState]))
    snapshot = (
        run_state(snapshot, state, node=draw(names), epoch=draw(st.integers(4, 6)))
        if state
        else replace(snapshot, runtimes={})
    )
    if draw(st.booleans()):
        snapshot = told(
            snapshot,
            draw(st.sampled_from(["start", "stop", "migrate", "mark", "probe"])),
            draw(st.sampled_from(["", "boom"])),
            armed=draw(st.integers(0, 1)),
        )
    return under_policies(draw, snapshot)


RULES = (
    Rule(name="home", kind=RuleKind.NODES, resources=(SID,), nodes={"n2": 2, "n1": 1}),
    Rule(name="only", kind=RuleKind.NODES, resources=(SID,), nodes={"n3": 1}, strict=True),
    Rule(name="apart", kind=RuleKind.RESOURCES, resources=(SID, "vm:101"), affinity=Affinity.NEGATIVE),
    Rule(name="together", kind=RuleKind.RESOURCES, resources=(SID, "vm:101"), affinity=Affinity.POSITIVE),
)


def under_policies(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """A second guest, rules, maintenance, nodes that shut down, HA disarmed or armed again."""
    other, on = "vm:101", draw(names)
    rules = [RULES[number] for number in draw(st.sets(st.integers(0, 3), max_size=2))]
    heartbeats = {
        name: replace(
            beat,
            mode=draw(st.sampled_from(["active", "active", "reboot", "poweroff"])),
            gave_up=draw(st.booleans()),
            armed=draw(st.integers(0, 1)),
        )
        for name, beat in snapshot.heartbeats.items()
    }
    guest = Guest(vmid=101, node=on, epoch=5)
    runtime = Runtime(vmid=101, node=on, epoch=5, state=draw(st.sampled_from(RunState)))
    return replace(
        snapshot,
        heartbeats=heartbeats,
        resources={**snapshot.resources, other: Resource(sid=other, probe=draw(st.sampled_from(["", "agent"])))},
        services={**snapshot.services, other: make_service(sid=other, node=on, state=draw(st.sampled_from(list(S))))},
        guests={**snapshot.guests, other: guest},
        runtimes={**snapshot.runtimes, other: runtime},
        maintenance={name: Maintenance(node=name) for name in draw(st.sets(names, max_size=2))},
        arming=Arming(phase=draw(st.sampled_from(ArmPhase)), mode="freeze", generation=draw(st.integers(0, 1))),
        options=Datacenter(
            id="",
            name="",
            ha_shutdown_policy=draw(st.sampled_from(["conditional", "freeze", "failover", "migrate"])),
            crs=draw(st.sampled_from(["basic", "static", "dynamic"])),
            crs_rebalance_on_start=draw(st.booleans()),
        ),
        rules=compile_rules(rules, list(snapshot.nodes)),
    )
