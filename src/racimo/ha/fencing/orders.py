"""When a node's power is to be cut, and when that is a proof. Pure.

What makes a confirmation a proof, whatever the device, the network and the clocks do:

* The order names the revision of the node's last heartbeat, and stands in the store before the first device is asked:
  the transaction fails if there is a newer one. So the device is asked *after* that heartbeat was written.
* Power that was off at any time after a heartbeat was written ended the incarnation that wrote it, with all its guests.
* The node is taken by a transaction that compares the same revision. If the node lived on, or came back and shows life,
  its heartbeat is another one, and the confirmation proves nothing. If it came back and has shown no life, it has no
  lease; it cannot get one any more by what its dead incarnation still has on its way.

A node that was lost while HA was disarmed has not marked its guests for its guard since: the end of its lease proves
nothing of them, and its devices are used when it is over, even if this observer never saw the node alive.

So a late, lost or doubled order costs a reboot at most, and a device that is silent costs nothing: the lease runs on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.ha.scene import guarded
from racimo.ha.states import Fence, PowerOff
from racimo.model.fence import FenceStage, Fencing
from racimo.model.ha import ArmPhase, NodeHealth, NodeStatus, Requested, ServiceState

if TYPE_CHECKING:
    from racimo.ha.states import Snapshot
    from racimo.model.ha import Heartbeat

MAX_ATTEMPTS = 2
"""So often the devices are asked about one heartbeat; after that it is left to the lease."""

AGAIN_S = 60.0
"""Where the lease proves nothing, the devices are asked again so much later. Wall clock: it sets the pace alone."""

PROOF = "power:"
"""How the proof of a node that was taken by its fence devices begins."""

AT_REST = (ServiceState.STOPPED, ServiceState.ERROR, ServiceState.FREEZE)
"""Services that a fenced node's guest would not be started elsewhere for."""


def power_off(snapshot: Snapshot, name: str, now: float) -> PowerOff | None:
    """The order to cut the power of ``name``, if it is time for it and none about this heartbeat was given."""
    sighting, heartbeat = snapshot.sightings.get(name), snapshot.heartbeats.get(name)
    if heartbeat is None or sighting is None or name == snapshot.node or name not in snapshot.fenceable:
        return None
    if snapshot.arming.phase is ArmPhase.DISARMED:
        return None
    blocked = now >= sighting.expires and not guarded(snapshot, name)
    if not blocked and not sighting.fence_from <= now < sighting.expires:
        return None
    if not _may_be_cut(snapshot, name, heartbeat):
        return None
    before = snapshot.fencings.get(name)
    attempt = 1
    if before is not None and before.revision == sighting.revision:
        if not _again(snapshot, before, now) and not (blocked and _again_later(snapshot, before)):
            return None
        attempt = before.attempt + 1
    why = f"{name} is to lose its power: nothing new seen of it for {now - sighting.since:.1f} s"
    fencing = Fencing(
        node=name,
        incarnation=heartbeat.incarnation,
        revision=sighting.revision,
        term=snapshot.term,
        by=snapshot.node,
        attempt=attempt,
        why=why,
        since=snapshot.wall,
    )
    return PowerOff(fencing, why)


def _may_be_cut(snapshot: Snapshot, name: str, heartbeat: Heartbeat) -> bool:
    """Whether there is anything to win, and the node did not say itself that it is going to be silent."""
    if heartbeat.leaving or heartbeat.away or heartbeat.mode != "active":
        return False
    node = snapshot.nodes.get(name)
    if node is None or node.witness or node.leaving:
        return False
    return any(
        guest.node == name
        and (resource := snapshot.resources.get(sid)) is not None
        and resource.requested is Requested.STARTED
        and ((service := snapshot.services.get(sid)) is None or service.state not in AT_REST)
        for sid, guest in snapshot.guests.items()
    )


def _again(snapshot: Snapshot, before: Fencing, now: float) -> bool:
    """Whether the devices are to be asked again about the same heartbeat."""
    if before.stage is FenceStage.CONFIRMED:
        return False
    if before.stage is FenceStage.FAILED:
        return before.attempt < MAX_ATTEMPTS
    if before.term != snapshot.term:
        return True  # its manager is no longer that; what it has begun proves nothing to this one
    by = snapshot.sightings.get(before.by)
    return before.by != snapshot.node and (before.by not in snapshot.heartbeats or by is None or now >= by.suspect)


def _again_later(snapshot: Snapshot, before: Fencing) -> bool:
    """Nothing but the devices can free the guests: they are asked now and then until they answer."""
    return before.stage is FenceStage.FAILED and not 0 <= snapshot.wall - before.since < AGAIN_S


def fence_by_power(snapshot: Snapshot, name: str) -> Fence | None:
    """Proof A: the devices confirmed that the power is off, and the heartbeat that it is about is still the last."""
    sighting, heartbeat = snapshot.sightings.get(name), snapshot.heartbeats.get(name)
    fencing = snapshot.fencings.get(name)
    if fencing is None or heartbeat is None or sighting is None or fencing.stage is not FenceStage.CONFIRMED:
        return None
    if snapshot.arming.phase is ArmPhase.DISARMED:
        return None
    if (fencing.revision, fencing.incarnation) != (sighting.revision, heartbeat.incarnation):
        return None
    why = f"{name}'s power is off: {fencing.why}"
    about = f"incarnation {heartbeat.incarnation} at sequence {heartbeat.sequence}"
    proof = f"{PROOF} {fencing.why}, asked by {fencing.by} in term {fencing.term} after {about}"
    status = NodeStatus(
        node=name, health=NodeHealth.FENCE, why=why, proof=proof, since=snapshot.wall, armed=heartbeat.armed,
        marked=heartbeat.marked,
    )  # fmt: skip
    return Fence(name, fencing.revision, status, why)
