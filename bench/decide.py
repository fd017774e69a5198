"""How long is one turn of the HA manager? ``python bench/decide.py``: all well, and one node of many lost at once."""

from __future__ import annotations

import json
import time
from dataclasses import replace

from racimo.ha.decide import decide
from racimo.ha.states import Sighting, Snapshot
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Heartbeat, NodeHealth, NodeStatus, Resource, Service, ServiceState
from racimo.model.node import Node

SIZES = ((3, 10), (16, 500), (64, 5000))
NOW = 100.0


def datacenter(nodes: int, guests: int) -> Snapshot:
    """All well; the guests spread evenly."""
    names = [f"n{number}" for number in range(nodes)]
    owners = {f"vm:{100 + number}": names[number % nodes] for number in range(guests)}
    return Snapshot(
        term=1,
        nodes={name: Node(name=name, id=name, address=name) for name in names},
        heartbeats={name: Heartbeat(node=name, incarnation="a", sequence=1) for name in names},
        sightings={name: Sighting(since=99.5, suspect=102.5, revision=1, expires=110.5) for name in names},
        statuses={name: NodeStatus(node=name, health=NodeHealth.ONLINE) for name in names},
        resources={sid: Resource(sid=sid) for sid in owners},
        services={
            sid: Service(sid=sid, state=ServiceState.STARTED, node=node, epoch=1, guarded=True)
            for sid, node in owners.items()
        },
        guests={sid: Guest(vmid=int(sid[3:]), node=node) for sid, node in owners.items()},
        runtimes={
            sid: Runtime(vmid=int(sid[3:]), node=node, epoch=1, state=RunState.RUNNING) for sid, node in owners.items()
        },
    )


def lost(snapshot: Snapshot, node: str) -> Snapshot:
    """``node`` was fenced just now."""
    status = NodeStatus(node=node, health=NodeHealth.FENCE, why=f"{node}'s lease ran out", proof="lease")
    heartbeats = {name: beat for name, beat in snapshot.heartbeats.items() if name != node}
    return replace(snapshot, heartbeats=heartbeats, statuses={**snapshot.statuses, node: status})


def milliseconds(snapshot: Snapshot) -> float:
    """The best of five turns."""
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        decide(snapshot, NOW)
        best = min(best, time.perf_counter() - began)
    return round(best * 1000, 2)


def main() -> None:
    """One JSON line per size."""
    for nodes, guests in SIZES:
        well = datacenter(nodes, guests)
        gone = lost(well, "n0")
        moved = len(decide(gone, NOW).decisions)
        print(
            json.dumps(
                {
                    "nodes": nodes,
                    "guests": guests,
                    "all_well_ms": milliseconds(well),
                    "node_lost_ms": milliseconds(gone),
                    "moves": moved,
                }
            )
        )


if __name__ == "__main__":
    main()
