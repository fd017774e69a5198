"""Snapshots for the tests of ``decide``: a datacenter of n1, n2, n3 with vm:100 on n1, all well, and changes to it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from racimo.ha.decide import decide
from racimo.ha.states import Decision, Sighting, Snapshot
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Heartbeat, NodeHealth, NodeStatus, Outcome, Resource, Service, ServiceState
from racimo.model.node import Node

NOW = 100.0
SID = "vm:100"


def turn(snapshot: Snapshot) -> list[Decision]:
    """What the manager decides now."""
    return list(decide(snapshot, NOW).decisions)


def node_names(count: int = 3) -> list[str]:
    return [f"n{number}" for number in range(1, count + 1)]


def well(count: int = 3, **service: Any) -> Snapshot:
    """All nodes show life; vm:100 runs on n1 and the manager knows it, unless ``service`` says otherwise."""
    names = node_names(count)
    return Snapshot(
        term=1,
        nodes={name: Node(name=name, id=name, address=name) for name in names},
        heartbeats={name: Heartbeat(node=name, incarnation="a", sequence=7) for name in names},
        sightings={name: seen(0.4) for name in names},
        statuses={name: NodeStatus(node=name, health=NodeHealth.ONLINE) for name in names},
        resources={SID: Resource(sid=SID)},
        services={SID: make_service(**service)},
        guests={SID: Guest(vmid=100, node="n1", epoch=5)},
        runtimes={SID: Runtime(vmid=100, node="n1", epoch=5, state=RunState.RUNNING)},
    )


def make_service(**fields: Any) -> Service:
    defaults: dict[str, Any] = {
        "sid": SID,
        "state": ServiceState.STARTED,
        "node": "n1",
        "epoch": 5,
        "guarded": True,
        "why": "as before",
    }
    return Service(**(defaults | fields))


def make_outcome(node: str, epoch: int) -> Outcome:
    """The word of the agent of ``node`` that the guest is marked there."""
    return Outcome(sid=SID, node=node, epoch=epoch, attempt=0, command="mark", ok=True)


def seen(ago: float, in_touch: bool = True) -> Sighting:
    since = NOW - ago
    return Sighting(since=since, suspect=since + 3, revision=40, expires=since + 11 if in_touch else math.inf)


def silent(snapshot: Snapshot, node: str, ago: float, in_touch: bool = True) -> Snapshot:
    """Nothing new was seen of ``node`` for so long."""
    return replace(snapshot, sightings={**snapshot.sightings, node: seen(ago, in_touch)})


def fenced(snapshot: Snapshot, node: str) -> Snapshot:
    """``node`` was fenced and has not come back."""
    status = NodeStatus(node=node, health=NodeHealth.FENCE, why=f"{node}'s lease ran out", proof="lease")
    heartbeats = {name: beat for name, beat in snapshot.heartbeats.items() if name != node}
    return replace(snapshot, heartbeats=heartbeats, statuses={**snapshot.statuses, node: status})


def wanted(snapshot: Snapshot, **fields: Any) -> Snapshot:
    """The resource is set otherwise."""
    return replace(snapshot, resources={SID: replace(snapshot.resources[SID], **fields)})


def run_state(snapshot: Snapshot, state: RunState | None, **fields: Any) -> Snapshot:
    """What the owner says of the process; None: it never said anything."""
    if state is None:
        return replace(snapshot, runtimes={})
    runtime = replace(snapshot.runtimes[SID], state=state, **fields)
    return replace(snapshot, runtimes={SID: runtime})


def told(snapshot: Snapshot, command: str, error: str = "", **fields: Any) -> Snapshot:
    """The agent's answer to the present command."""
    service = snapshot.services[SID]
    outcome = Outcome(
        sid=SID,
        node=service.node,
        epoch=service.epoch,
        attempt=service.attempt,
        command=command,
        ok=not error,
        error=error,
    )
    return replace(snapshot, outcomes={SID: replace(outcome, **fields)})
