"""What becomes of each service in one turn of ``decide``. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha import arming
from racimo.ha.choosing import WITHOUT_PLACE
from racimo.ha.states import Move, ServiceChange
from racimo.ha.step import Step
from racimo.ha.steps import NEXT, recover, was_moved
from racimo.model.ha import ArmPhase, Requested, Service, ServiceState

if TYPE_CHECKING:
    from racimo.ha.service_turn import ServiceTurn
    from racimo.ha.states import Decision
    from racimo.model.guest import Guest
    from racimo.model.ha import Resource

SETTLED = (ServiceState.STOPPED, ServiceState.ERROR)
"""States in which a guest is not recovered from a fenced node."""


def decide_service(turn: ServiceTurn, sid: str) -> list[Decision]:
    """At most one decision about ``sid``."""
    resource, service = turn.snapshot.resources.get(sid), turn.snapshot.services.get(sid)
    guest, disarmed = turn.snapshot.guests.get(sid), turn.snapshot.arming.phase is ArmPhase.DISARMED
    if resource is None:
        return [ServiceChange(sid, None, f"{sid} is no longer a resource")] if service else []
    if resource.requested is Requested.IGNORED:
        return [ServiceChange(sid, None, f"{sid} is to be ignored")] if service else []
    if disarmed:
        return []
    if guest is None:
        return _vanished(turn, sid, service)
    if service is None:
        return _new(turn, resource, guest) if turn.snapshot.arming.phase is ArmPhase.ARMED else []
    return _step(Step(turn, resource, service, guest))


def _step(step: Step) -> list[Decision]:
    decision = _next(step)
    if decision is None and step.service != step.before:
        why = f"{step.service.node} has marked {step.sid} for its guard"
        decision = ServiceChange(step.sid, step.service, why)
    return [decision] if decision else []


def _next(step: Step) -> Decision | None:
    service, guest = step.service, step.guest
    if (service.node, service.epoch) != (guest.node, guest.epoch):
        return was_moved(step)
    if step.snapshot.arming.phase is ArmPhase.DISARMING and arming.may_freeze(step):
        return arming.freeze(step)
    if service.state not in SETTLED and step.scene.is_taken(guest.node) and not step.is_kept_frozen():
        return recover(step)
    return NEXT[service.state](step)


def _vanished(turn: ServiceTurn, sid: str, service: Service | None) -> list[Decision]:
    why = f"{sid} does not exist any more; remove the resource, or restore the guest"
    if service is None:
        new = Service(sid=sid, state=ServiceState.ERROR, node="", epoch=0, why=why)
        return [turn.change(new, "error")]
    if service.state is ServiceState.ERROR:
        return []
    new = replace(service, state=ServiceState.ERROR, why=why)
    return [turn.change(new, "error")]


def _waits(decision: Decision) -> bool:
    """Whether the guest has to wait until a node can have it: then it keeps no place on its own."""
    new = decision.service if isinstance(decision, ServiceChange) else None
    return new is not None and new.state in WITHOUT_PLACE


def _new(turn: ServiceTurn, resource: Resource, guest: Guest) -> list[Decision]:
    """A service begins in ``queued`` where it may have to wait, or to be moved first; else with its command."""
    why = f"new resource, wanted {resource.requested}"
    service = Service(
        sid=resource.sid, state=ServiceState.QUEUED, node=guest.node, epoch=guest.epoch, why=why, attempt=0
    )
    if resource.requested is Requested.STARTED:
        begun = _step(Step(turn, resource, service, guest))
        if not any(isinstance(decision, Move) or _waits(decision) for decision in begun):
            turn.choosing.fleet.place(guest.sid, guest.node)  # those that come after it are placed beside it
        return begun or [turn.change(replace(service, attempt=1), service.state.value)]
    service = replace(service, state=ServiceState.REQUEST_STOP, attempt=1)
    return [turn.change(service, service.state.value)]
