"""What becomes of each service in one turn of ``decide``. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha import arming
from racimo.ha.choosing import Choosing
from racimo.ha.states import Move, ServiceChange, with_history
from racimo.ha.step import Step
from racimo.ha.steps import NEXT, recover, was_moved
from racimo.model.ha import ArmPhase, Requested, Service, ServiceState

if TYPE_CHECKING:
    from racimo.ha.scene import Scene
    from racimo.ha.states import Decision
    from racimo.model.guest import Guest
    from racimo.model.ha import Resource

SETTLED = (ServiceState.STOPPED, ServiceState.ERROR)
"""States in which a guest is not recovered from a fenced node."""


class ServiceTurn:
    """The part of a turn that is about services."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.snapshot = scene, scene.snapshot
        self.choosing = Choosing(scene)
        self.retry_in: float | None = None
        """In how many seconds something is tried again."""

    def turn(self, sid: str) -> list[Decision]:
        """At most one decision about ``sid``."""
        resource, service = self.snapshot.resources.get(sid), self.snapshot.services.get(sid)
        guest, disarmed = self.snapshot.guests.get(sid), self.snapshot.arming.phase is ArmPhase.DISARMED
        if resource is None:
            return [ServiceChange(sid, None, f"{sid} is no longer a resource")] if service else []
        if resource.requested is Requested.IGNORED:
            return [ServiceChange(sid, None, f"{sid} is to be ignored")] if service else []
        if disarmed:
            return []
        if guest is None:
            return self._vanished(sid, service)
        if service is None:
            return self._new(resource, guest) if self.snapshot.arming.phase is ArmPhase.ARMED else []
        return self._step(Step(self, resource, service, guest))

    def _step(self, step: Step) -> list[Decision]:
        decision = self._next(step)
        if decision is None and step.service != step.before:
            why = f"{step.service.node} has marked {step.sid} for its guard"
            decision = ServiceChange(step.sid, step.service, why)
        return [decision] if decision else []

    def _next(self, step: Step) -> Decision | None:
        service, guest = step.service, step.guest
        if (service.node, service.epoch) != (guest.node, guest.epoch):
            return was_moved(step)
        if self.snapshot.arming.phase is ArmPhase.DISARMING and arming.may_freeze(step):
            return arming.freeze(step)
        if service.state not in SETTLED and self.scene.is_taken(guest.node) and not step.is_kept_frozen():
            return recover(step)
        return NEXT[service.state](step)

    def _vanished(self, sid: str, service: Service | None) -> list[Decision]:
        why = f"{sid} does not exist any more; remove the resource, or restore the guest"
        if service is None:
            new = Service(sid=sid, state=ServiceState.ERROR, node="", epoch=0, why=why)
            return [self.change(new, "error")]
        if service.state is ServiceState.ERROR:
            return []
        new = replace(service, state=ServiceState.ERROR, why=why)
        return [self.change(new, "error")]

    def _new(self, resource: Resource, guest: Guest) -> list[Decision]:
        """A service begins in ``queued`` where it may have to wait, or to be moved first; else with its command."""
        why = f"new resource, wanted {resource.requested}"
        service = Service(
            sid=resource.sid, state=ServiceState.QUEUED, node=guest.node, epoch=guest.epoch, why=why, attempt=0
        )
        if resource.requested is Requested.STARTED:
            begun = self._step(Step(self, resource, service, guest))
            if not any(isinstance(decision, Move) for decision in begun):
                self.choosing.fleet.place(guest.sid, guest.node)  # those that come after it are placed beside it
            return begun or [self.change(replace(service, attempt=1), service.state.value)]
        service = replace(service, state=ServiceState.REQUEST_STOP, attempt=1)
        return [self.change(service, service.state.value)]

    def change(self, service: Service, what: str, *, clear_target: bool = False) -> ServiceChange:
        """The decision to write ``service``, with its history."""
        service = with_history(service, self.snapshot.wall, self.snapshot.term, what)
        return ServiceChange(service.sid, service, service.why, clear_target)

    def wake_in(self, seconds: float) -> None:
        """Have the next turn within ``seconds``."""
        self.retry_in = seconds if self.retry_in is None else min(self.retry_in, seconds)
