"""When a node whose power was cut is switched on again: once its guests are seen to, a few times. Pure.

It is safe from the moment that the node was taken: its last incarnation is over, and a new one has no lease before its
own heartbeat. It waits for the guests so that nothing comes before them. A node whose devices are not all to switch it
on stays off, and so does one that HA did not cut.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha.fencing.orders import AT_REST, PROOF
from racimo.ha.states import SwitchOn
from racimo.model.fence import FenceStage, PowerReturn, ReturnStage
from racimo.model.ha import ArmPhase, Requested, ServiceState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.ha.states import Snapshot
    from racimo.model.fence import FenceDevice

MAX_TRIES = 3
PAUSE_S = 30.0
"""Between two tries. Wall clock: it sets the pace alone."""
SEEN_TO = (*AT_REST, ServiceState.RECOVERY)
"""What becomes of these guests does not change before another node, or this one, shows life."""


def returning(devices: Mapping[str, FenceDevice]) -> frozenset[str]:
    """The nodes that are switched on again: none of their devices is set to leave them off."""
    used = [device for device in devices.values() if device.enabled]
    return frozenset(device.node for device in used) - {device.node for device in used if not device.power_on}


def switch_on(snapshot: Snapshot, name: str) -> SwitchOn | None:
    """The order to switch ``name`` on, if its power was cut, all is done that waits for it, and tries are left."""
    fencing, status, node = snapshot.fencings.get(name), snapshot.statuses.get(name), snapshot.nodes.get(name)
    if fencing is None or fencing.stage is not FenceStage.CONFIRMED or name in snapshot.heartbeats:
        return None
    if status is None or not status.proof.startswith(PROOF) or node is None or node.leaving:
        return None
    if name not in snapshot.returning or snapshot.arming.phase is ArmPhase.DISARMED:
        return None
    back = fencing.back
    if back is not None and not _is_due_again(snapshot, back):
        return None
    if not _guests_are_seen_to(snapshot, name):
        return None
    attempt = back.attempt + 1 if back is not None else 1
    why = f"{name} is switched on again, try {attempt} of {MAX_TRIES}: its guests are seen to"
    made = PowerReturn(by=snapshot.node, term=snapshot.term, attempt=attempt, why=why, since=snapshot.wall)
    return SwitchOn(replace(fencing, back=made), why)


def _is_due_again(snapshot: Snapshot, back: PowerReturn) -> bool:
    if back.stage is ReturnStage.DONE or back.attempt >= MAX_TRIES:
        return False
    if back.stage is ReturnStage.FAILED:
        return not 0 <= snapshot.wall - back.since < PAUSE_S
    return back.term != snapshot.term  # its manager is no longer that


def _guests_are_seen_to(snapshot: Snapshot, name: str) -> bool:
    for sid, resource in snapshot.resources.items():
        guest, service = snapshot.guests.get(sid), snapshot.services.get(sid)
        if guest is None or guest.node != name or resource.requested is not Requested.STARTED:
            continue
        if service is None or service.state not in SEEN_TO:
            return False
    return True


def told(snapshot: Snapshot, name: str) -> tuple[str, bool]:
    """What came of switching the node on again, for people, and whether that came about. Empty: nothing yet."""
    fencing = snapshot.fencings.get(name)
    back = fencing.back if fencing is not None else None
    if back is not None and back.stage is ReturnStage.DONE:
        return f"it was switched on again: {back.why}", True
    if back is None or back.attempt < MAX_TRIES or back.stage is not ReturnStage.FAILED:
        return "", False
    return f"it could not be switched on again in {MAX_TRIES} tries: {back.why}", False
