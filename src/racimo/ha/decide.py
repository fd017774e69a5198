"""The manager's mind: one frozen snapshot in, decisions with their reasons out. Pure.

What holds for every turn, and is checked by the simulation:

* A node is fenced only when its sighting has expired (proof B), or when its devices confirmed that its power was off
  after its last heartbeat (proof A); the transaction compares the heartbeat that was seen last.
* A guest changes its node only with proof A or B (its node is fenced and has had no heartbeat since) or proof C (its
  node says that it is stopped), and each time under a new epoch.
* Each decision is one change; what follows from it is decided when it stands in the store.
* While HA is disarmed nothing is fenced and nothing moves; afterwards proof B speaks only of guests that their node has
  marked for its guard since.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

from racimo.ha.arming import next_phase
from racimo.ha.balancing import balance
from racimo.ha.fencing.orders import fence_by_power, power_off
from racimo.ha.fencing.returns import switch_on, told
from racimo.ha.scene import SHUTDOWN, Scene, guarded, members
from racimo.ha.service_turn import ServiceTurn
from racimo.ha.services import decide_service
from racimo.ha.states import Fence, Move, NodeChange, ServiceChange, Turn
from racimo.model.ha import ArmPhase, NodeHealth, NodeStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.ha.states import Decision, Sighting, Snapshot


AT_ONCE = 200
"""After so many decisions about guests the turn ends, and the next is due at once: heartbeats have to go out while
thousands of guests are placed."""


def decide(snapshot: Snapshot, now: float) -> Turn:
    """What the manager does at ``now`` (seconds, on the clock of the snapshot's sightings)."""
    decisions: list[Decision] = []
    scene = Scene(snapshot, now)
    names = sorted({*members(snapshot), *snapshot.heartbeats, *snapshot.statuses})
    for name in names:
        decisions.extend(_node(scene, name, now))
    services, most = ServiceTurn(scene), len(decisions) + AT_ONCE
    for sid in sorted({*snapshot.resources, *snapshot.services}, key=_by_number):
        decisions.extend(decide_service(services, sid))
        if len(decisions) >= most:
            return Turn(tuple(decisions), now)
    if phase := next_phase(scene):
        decisions.append(phase)
    if not any(isinstance(decision, (ServiceChange, Move, Fence)) for decision in decisions):
        decisions.extend(balance(services))
    return Turn(tuple(decisions), _next_wake(scene, services, now))


@lru_cache(maxsize=65536)
def _by_number(sid: str) -> tuple[str, int, str]:
    kind, _, number = sid.partition(":")
    return kind, int(number) if number.isdigit() else 0, sid


def _next_wake(scene: Scene, services: ServiceTurn, now: float) -> float | None:
    due = [
        moment
        for sighting in scene.snapshot.sightings.values()
        for moment in (sighting.suspect, sighting.fence_from, sighting.expires)
        if moment > now
    ]
    due += [now + seconds for seconds in (services.retry_in, scene.order.wake) if seconds is not None]
    nearest = min(due, default=None)
    return None if nearest == float("inf") else nearest


def _node(scene: Scene, name: str, now: float) -> Iterator[Decision]:
    """Fence the node, or write down how it is if that changed."""
    snapshot = scene.snapshot
    sighting = snapshot.sightings.get(name)
    if fence := fence_by_power(snapshot, name):
        yield fence
        return
    if sighting is not None and now >= sighting.expires and _can_be_fenced(scene, name):
        yield _fence(snapshot, name, sighting, now)
        return
    if order := power_off(snapshot, name, now):
        yield order
    if back := switch_on(snapshot, name):
        yield back
    old = snapshot.statuses.get(name)
    if name not in scene.members and name not in snapshot.heartbeats:
        if old is not None and not _guests_on(snapshot, name):
            yield NodeChange(name, None, f"{name} is no longer a member and no HA guest is assigned to it")
            return
        if old is None:
            return
    new = _status(scene, name, sighting, now, old)
    if old is None or (old.health, old.proof, old.mode, old.power) != (new.health, new.proof, new.mode, new.power):
        yield NodeChange(name, new, "; ".join(filter(None, (new.why, new.power))))


def _guests_on(snapshot: Snapshot, name: str) -> list[str]:
    return [sid for sid in snapshot.resources if sid in snapshot.guests and snapshot.guests[sid].node == name]


def _can_be_fenced(scene: Scene, name: str) -> bool:
    """A heartbeat can be ended; the lack of one matters only where HA guests wait for it. Never while disarmed.

    A node that has not marked its guests since HA was armed again is left alone: its lease's end would prove nothing.
    """
    if scene.snapshot.arming.phase is ArmPhase.DISARMED:
        return False
    if name in scene.snapshot.heartbeats:
        return guarded(scene.snapshot, name)
    return scene.waits_for(name) and not scene.is_taken(name)


def _fence(snapshot: Snapshot, name: str, sighting: Sighting, now: float) -> Fence:
    silent, needed = now - sighting.since, sighting.expires - sighting.since
    heartbeat = snapshot.heartbeats.get(name)
    last = (
        f"incarnation {heartbeat.incarnation} at sequence {heartbeat.sequence}" if heartbeat else "no heartbeat at all"
    )
    why = f"{name}'s lease ran out: nothing new seen of it for {silent:.1f} s"
    proof = f"lease: {last}, silent for {silent:.1f} s of at least {needed:.1f} s, found by term {snapshot.term}"
    status = NodeStatus(
        node=name, health=NodeHealth.FENCE, why=why, proof=proof, since=snapshot.wall, mode=_mode(snapshot, name),
        armed=heartbeat.armed if heartbeat is not None else 0, marked=heartbeat.marked if heartbeat is not None else 0,
    )  # fmt: skip
    return Fence(name, sighting.revision, status, why)


def _mode(snapshot: Snapshot, name: str) -> str:
    """The shutdown that the node announced last and has not come back from."""
    heartbeat, old = snapshot.heartbeats.get(name), snapshot.statuses.get(name)
    if heartbeat is None:
        return old.mode if old is not None else ""
    return heartbeat.mode if heartbeat.mode in SHUTDOWN else ""


def _status(scene: Scene, name: str, sighting: Sighting | None, now: float, old: NodeStatus | None) -> NodeStatus:
    """How the node is. The proof of a fenced node is kept until the node shows life again."""
    snapshot = scene.snapshot
    heartbeat, mode = snapshot.heartbeats.get(name), _mode(snapshot, name)
    proof, armed, marked = "", 0, 0
    if old is not None and heartbeat is None:
        proof, armed, marked = old.proof, old.armed, old.marked
    power, on = told(snapshot, name) if proof else ("", False)
    if name not in scene.members:
        health, why = NodeHealth.GONE, f"{name} is no longer a member"
    elif heartbeat is not None and sighting is not None and now < sighting.suspect:
        health, why = _alive(scene, name, mode)
    elif heartbeat is None and old is not None and proof:
        health, why = NodeHealth.FENCE, old.why
    elif heartbeat is None and mode:
        health, why = NodeHealth.UNKNOWN, f"{name} {SHUTDOWN[mode]}: it ended in order"
    elif heartbeat is None:
        health, why = NodeHealth.UNKNOWN, f"{name} has shown no life yet"
    elif sighting is None:
        health, why = (old.health, old.why) if old else (NodeHealth.UNKNOWN, f"{name} was not observed yet")
    else:
        health, why = NodeHealth.UNKNOWN, f"nothing new was seen of {name} for {now - sighting.since:.1f} s"
    return NodeStatus(
        node=name, health=health, why=why, proof=proof, since=snapshot.wall, mode=mode, armed=armed,
        marked=marked,
        power=power, switched_on=on,
    )  # fmt: skip


def _alive(scene: Scene, name: str, mode: str) -> tuple[NodeHealth, str]:
    if name in scene.snapshot.maintenance:
        return NodeHealth.MAINTENANCE, f"{name} is in maintenance"
    return NodeHealth.ONLINE, f"{name} {SHUTDOWN[mode]}" if mode else f"{name} shows life"
