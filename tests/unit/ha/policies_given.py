"""Several guests, rules, maintenance, shutdowns: what the tests of policies begin with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from given import SID, make_service, turn, well

from racimo.ha.states import Move, NodeChange, ServiceChange, Snapshot
from racimo.model.datacenter import Datacenter
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Maintenance, Resource, Service, ServiceState
from racimo.model.rule import Affinity, Rule, RuleKind
from racimo.placement.rules import compile_rules

S = ServiceState


def services(snapshot: Snapshot) -> dict[str, ServiceChange | Move]:
    return {d.sid: d for d in turn(snapshot) if isinstance(d, (ServiceChange, Move))}


def becomes(snapshot: Snapshot, sid: str = SID) -> Service:
    service = services(snapshot)[sid].service
    assert service is not None
    return service


def after(snapshot: Snapshot) -> Snapshot:
    """The snapshot once this turn's changes of services stand in the store; moves are carried out by their nodes."""
    for decision in turn(snapshot):
        if isinstance(decision, ServiceChange) and decision.service is not None:
            snapshot = replace(snapshot, services={**snapshot.services, decision.sid: decision.service})
        if isinstance(decision, Move):
            snapshot = replace(
                snapshot,
                services={**snapshot.services, decision.sid: decision.service},
                guests={**snapshot.guests, decision.sid: decision.guest},
                runtimes={**snapshot.runtimes, decision.sid: decision.runtime},
            )
        if isinstance(decision, NodeChange) and decision.status is not None:
            snapshot = replace(snapshot, statuses={**snapshot.statuses, decision.node: decision.status})
    return snapshot


def arrived(snapshot: Snapshot, node: str, sid: str = SID) -> Snapshot:
    """Its live migration to ``node`` was committed."""
    guest = replace(snapshot.guests[sid], node=node, epoch=snapshot.guests[sid].epoch + 1)
    runtime = Runtime(vmid=guest.vmid, node=node, epoch=guest.epoch, state=RunState.RUNNING)
    return after(
        replace(snapshot, guests={**snapshot.guests, sid: guest}, runtimes={**snapshot.runtimes, sid: runtime})
    )


def several(places: dict[str, str], count: int = 3, config: dict[str, dict[str, str]] | None = None) -> Snapshot:
    """Guests that run on the nodes given."""
    configs = config or {}
    return replace(
        well(count),
        resources={sid: Resource(sid=sid) for sid in places},
        services={sid: make_service(sid=sid, node=node) for sid, node in places.items()},
        guests={
            sid: Guest(vmid=int(sid[3:]), node=node, epoch=5, config=configs.get(sid, {}))
            for sid, node in places.items()
        },
        runtimes={
            sid: Runtime(vmid=int(sid[3:]), node=node, epoch=5, state=RunState.RUNNING) for sid, node in places.items()
        },
    )


def ruled(snapshot: Snapshot, *rules: Rule) -> Snapshot:
    return replace(snapshot, rules=compile_rules(rules, list(snapshot.nodes)))


def homes(nodes: dict[str, int], *, strict: bool = False, sids: tuple[str, ...] = (SID,)) -> Rule:
    return Rule(name="home", kind=RuleKind.NODES, resources=sids, nodes=nodes, strict=strict)


def pair(affinity: Affinity, *sids: str) -> Rule:
    return Rule(name="pair", kind=RuleKind.RESOURCES, resources=sids, affinity=affinity)


def announced(snapshot: Snapshot, node: str, mode: str, *, gave_up: bool = False) -> Snapshot:
    beat = replace(snapshot.heartbeats[node], mode=mode, gave_up=gave_up)
    return replace(snapshot, heartbeats={**snapshot.heartbeats, node: beat})


def policy(snapshot: Snapshot, name: str, **options: Any) -> Snapshot:
    return replace(snapshot, options=Datacenter(id="", name="", ha_shutdown_policy=name, **options))


def maintained(snapshot: Snapshot, *nodes: str) -> Snapshot:
    return replace(snapshot, maintenance={node: Maintenance(node=node) for node in nodes})
