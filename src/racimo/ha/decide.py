"""The manager's mind: one frozen snapshot in, decisions with their reasons out. Pure.

What holds for every turn, and is checked by the simulation:

* A node is fenced only when its sighting has expired (proof B), or when its devices confirmed that its power was off
  after its last heartbeat (proof A); the transaction compares the heartbeat that was seen last.
* A guest changes its node only with proof A or B (its node is fenced and has had no heartbeat since) or proof C (its
  node says that it is stopped), and each time under a new epoch.
* Each decision is one change; what follows from it is decided when it stands in the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.ha.fencing.orders import fence_by_power, power_off
from racimo.ha.services import ServiceTurn, taken
from racimo.ha.states import Fence, NodeChange, Turn
from racimo.model.ha import NodeHealth, NodeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.ha.states import Decision, Sighting, Snapshot


def decide(snapshot: Snapshot, now: float) -> Turn:
    """What the manager does at ``now`` (seconds, on the clock of the snapshot's sightings)."""
    decisions: list[Decision] = []
    names = sorted({*_members(snapshot), *snapshot.heartbeats, *snapshot.statuses})
    for name in names:
        decisions.extend(_node(snapshot, name, now))
    services = ServiceTurn(snapshot, _online(snapshot, now))
    for sid in sorted({*snapshot.resources, *snapshot.services}, key=_by_number):
        decisions.extend(services.turn(sid))
    return Turn(tuple(decisions), _next_wake(snapshot, now))


def _by_number(sid: str) -> tuple[str, int, str]:
    kind, _, number = sid.partition(":")
    return kind, int(number) if number.isdigit() else 0, sid


def _members(snapshot: Snapshot) -> list[str]:
    return [name for name, node in snapshot.nodes.items() if not node.witness]


def _online(snapshot: Snapshot, now: float) -> frozenset[str]:
    """Members whose heartbeat is fresh: those that are given commands and guests."""
    return frozenset(
        name
        for name in _members(snapshot)
        if name in snapshot.heartbeats
        and not snapshot.heartbeats[name].leaving
        and not snapshot.nodes[name].leaving
        and (sighting := snapshot.sightings.get(name)) is not None
        and now < sighting.suspect
    )


def _next_wake(snapshot: Snapshot, now: float) -> float | None:
    due = [
        moment
        for sighting in snapshot.sightings.values()
        for moment in (sighting.suspect, sighting.fence_from, sighting.expires)
        if moment > now
    ]
    nearest = min(due, default=None)
    return None if nearest == float("inf") else nearest


def _node(snapshot: Snapshot, name: str, now: float) -> Iterator[Decision]:
    """Fence the node, or write down how it is if that changed."""
    sighting = snapshot.sightings.get(name)
    if fence := fence_by_power(snapshot, name):
        yield fence
        return
    if sighting is not None and now >= sighting.expires and _can_be_fenced(snapshot, name):
        yield _fence(snapshot, name, sighting, now)
        return
    if order := power_off(snapshot, name, now):
        yield order
    old = snapshot.statuses.get(name)
    if name not in _members(snapshot) and name not in snapshot.heartbeats:
        if old is not None and not _guests_on(snapshot, name):
            yield NodeChange(name, None, f"{name} is no longer a member and no HA guest is assigned to it")
            return
        if old is None:
            return
    new = _status(snapshot, name, sighting, now, old)
    if old is None or (old.health, old.proof) != (new.health, new.proof):
        yield NodeChange(name, new, new.why)


def _guests_on(snapshot: Snapshot, name: str) -> list[str]:
    return [sid for sid in snapshot.resources if sid in snapshot.guests and snapshot.guests[sid].node == name]


def _can_be_fenced(snapshot: Snapshot, name: str) -> bool:
    """A heartbeat can be ended; the lack of one matters only where HA guests wait for it."""
    if name in snapshot.heartbeats:
        return True
    return bool(_guests_on(snapshot, name)) and not taken(snapshot, name)


def _fence(snapshot: Snapshot, name: str, sighting: Sighting, now: float) -> Fence:
    silent, needed = now - sighting.since, sighting.expires - sighting.since
    heartbeat = snapshot.heartbeats.get(name)
    last = (
        f"incarnation {heartbeat.incarnation} at sequence {heartbeat.sequence}" if heartbeat else "no heartbeat at all"
    )
    why = f"{name}'s lease ran out: nothing new seen of it for {silent:.1f} s"
    proof = f"lease: {last}, silent for {silent:.1f} s of at least {needed:.1f} s, found by term {snapshot.term}"
    status = NodeStatus(node=name, health=NodeHealth.FENCE, why=why, proof=proof, since=snapshot.wall)
    return Fence(name, sighting.revision, status, why)


def _status(snapshot: Snapshot, name: str, sighting: Sighting | None, now: float, old: NodeStatus | None) -> NodeStatus:
    """How the node is. The proof of a fenced node is kept until the node shows life again."""
    heartbeat = snapshot.heartbeats.get(name)
    proof = old.proof if old is not None and heartbeat is None else ""
    if name not in _members(snapshot):
        health, why = NodeHealth.GONE, f"{name} is no longer a member"
    elif heartbeat is not None and sighting is not None and now < sighting.suspect:
        health, why = NodeHealth.ONLINE, f"{name} shows life"
    elif heartbeat is None and old is not None and proof:
        health, why = NodeHealth.FENCE, old.why
    elif heartbeat is None:
        health, why = NodeHealth.UNKNOWN, f"{name} has shown no life yet"
    elif sighting is None:
        health, why = (old.health, old.why) if old else (NodeHealth.UNKNOWN, f"{name} was not observed yet")
    else:
        health, why = NodeHealth.UNKNOWN, f"nothing new was seen of {name} for {now - sighting.since:.1f} s"
    return NodeStatus(node=name, health=health, why=why, proof=proof, since=snapshot.wall)
