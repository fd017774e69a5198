"""What becomes of each service in one turn of ``decide``: one method per state. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from racimo.ha.states import Decision, Move, ServiceChange, answered, running, stopped, with_history
from racimo.model.guest import RunState, Runtime
from racimo.model.ha import Requested, Service, ServiceState
from racimo.placement.choose import choose

if TYPE_CHECKING:
    from racimo.ha.states import Snapshot
    from racimo.model.guest import Guest
    from racimo.model.ha import Outcome, Resource

IDLE = (ServiceState.STOPPED, ServiceState.ERROR)
"""States that put no load on a node."""


def taken(snapshot: Snapshot, node: str) -> bool:
    """Proof B: the node was fenced with a proof and has had no heartbeat, so no lease, since."""
    status = snapshot.statuses.get(node)
    return status is not None and bool(status.proof) and node not in snapshot.heartbeats


class ServiceTurn:
    """The part of a turn that is about services. ``online`` are the nodes that show life."""

    def __init__(self, snapshot: Snapshot, online: frozenset[str]) -> None:
        self.snapshot, self.online = snapshot, online
        self._load = Counter(s.node for s in snapshot.services.values() if s.state not in IDLE)

    def turn(self, sid: str) -> list[Decision]:
        """At most one decision about ``sid``."""
        resource, service = self.snapshot.resources.get(sid), self.snapshot.services.get(sid)
        guest = self.snapshot.guests.get(sid)
        if resource is None:
            return [ServiceChange(sid, None, f"{sid} is no longer a resource")] if service else []
        if resource.requested is Requested.IGNORED:
            return [ServiceChange(sid, None, f"{sid} is to be ignored")] if service else []
        if guest is None:
            return self._vanished(sid, service)
        if service is None:
            return self._new(resource, guest)
        return Step(self, resource, service, guest).decide()

    def _vanished(self, sid: str, service: Service | None) -> list[Decision]:
        why = f"{sid} does not exist any more; remove the resource, or restore the guest"
        if service is None or service.state is ServiceState.ERROR:
            return []
        new = replace(service, state=ServiceState.ERROR, why=why)
        return [self.change(new, "error")]

    def _new(self, resource: Resource, guest: Guest) -> list[Decision]:
        start = resource.requested is Requested.STARTED
        state = ServiceState.REQUEST_START if start else ServiceState.REQUEST_STOP
        why = f"new resource, wanted {resource.requested}"
        self._load[guest.node] += 1
        return [
            self.change(
                Service(sid=resource.sid, state=state, node=guest.node, epoch=guest.epoch, why=why), state.value
            )
        ]

    def change(self, service: Service, what: str, *, clear_target: bool = False) -> ServiceChange:
        """The decision to write ``service``, with its history."""
        service = with_history(service, self.snapshot.wall, self.snapshot.term, what)
        return ServiceChange(service.sid, service, service.why, clear_target)

    def choose(self, sid: str, leave_out: set[str]) -> tuple[str, str] | None:
        """A node for the guest with the reason, or None; ``leave_out`` are nodes that may not be taken."""
        allowed = self.snapshot.allowed.get(sid, self.online)
        choice = choose((allowed & self.online) - leave_out, self._load)
        if choice is None:
            return None
        self._load[choice.node] += 1
        return choice.node, choice.why


class Step:
    """One service with its resource and its guest: what is the one thing to do next?"""

    def __init__(self, turn: ServiceTurn, resource: Resource, service: Service, guest: Guest) -> None:
        self.turn, self.snapshot = turn, turn.snapshot
        self.resource, self.guest, self.sid = resource, guest, resource.sid
        self.runtime = self.snapshot.runtimes.get(self.sid)
        self.before = service
        outcome = self.snapshot.outcomes.get(self.sid)
        if outcome is not None and outcome.node == guest.node and not service.guarded:
            service = replace(service, guarded=True)
        self.service = service
        self.outcome: Outcome | None = answered(service, outcome)

    def decide(self) -> list[Decision]:
        """The decision, or at least that the guest's mark was confirmed."""
        decision = self._next()
        if decision is None and self.service != self.before:
            decision = ServiceChange(self.sid, self.service, f"{self.service.node} has marked {self.sid} for its guard")
        return [decision] if decision else []

    def _next(self) -> Decision | None:
        if (self.service.node, self.service.epoch) != (self.guest.node, self.guest.epoch):
            return self._was_moved()
        if self.service.state not in IDLE and taken(self.snapshot, self.guest.node):
            return self._recover()
        match self.service.state:
            case ServiceState.REQUEST_START | ServiceState.REQUEST_START_BALANCE:
                return self._request_start()
            case ServiceState.REQUEST_STOP:
                return self._request_stop()
            case ServiceState.STOPPED:
                return self._stopped()
            case ServiceState.MIGRATE:
                return self._migrate()
            case ServiceState.RELOCATE:
                return self._relocate()
            case ServiceState.RECOVERY | ServiceState.FENCE | ServiceState.QUEUED:
                return self._command(ServiceState.REQUEST_START, f"{self.guest.node} is back and still owns it")
            case ServiceState.ERROR:
                return self._error()
            case ServiceState.STARTED | ServiceState.FREEZE:
                return self._started()

    # what a decision is made of

    def _to(self, state: ServiceState, why: str, *, clear_target: bool = False, **fields: Any) -> Decision | None:
        new = replace(self.service, state=state, why=why, **fields)
        if new == self.before and not clear_target:
            return None
        return self.turn.change(new, state.value, clear_target=clear_target)

    def _command(self, state: ServiceState, why: str, **fields: Any) -> Decision | None:
        """A new command to the agent."""
        return self._to(state, why, attempt=self.service.attempt + 1, **fields)

    def _move(self, node: str, why: str, *, fenced: str = "", clear_target: bool = False, **fields: Any) -> Move:
        """Give the guest to ``node`` and start it there (or leave it stopped, where that is wanted)."""
        start = self.resource.requested is Requested.STARTED
        epoch = self.guest.epoch + 1
        service = replace(
            self.service,
            state=ServiceState.REQUEST_START if start else ServiceState.STOPPED,
            node=node,
            epoch=epoch,
            attempt=self.service.attempt + 1,
            target="",
            why=why,
            **fields,
        )
        service = with_history(service, self.snapshot.wall, self.snapshot.term, f"{self.guest.node} → {node}")
        return Move(
            sid=self.sid,
            guest=replace(self.guest, node=node, epoch=epoch),
            runtime=Runtime(
                vmid=self.guest.vmid,
                node=node,
                epoch=epoch,
                state=RunState.STOPPED,
                reason=why,
                since=self.snapshot.wall,
            ),
            service=service,
            why=f"{self.sid} → {node}: {why}",
            fenced=fenced,
            clear_target=clear_target,
        )

    # the states

    def _was_moved(self) -> Decision | None:
        """The guest was given to another node: by a migration that was asked for, or by hand."""
        guest, wanted = self.guest, self.resource.requested is Requested.STARTED
        fields: dict[str, Any] = {"node": guest.node, "epoch": guest.epoch, "target": ""}
        if self.service.state is ServiceState.ERROR:
            return self._to(ServiceState.ERROR, self.service.why, **fields)
        if running(guest, self.runtime) and wanted:
            why = f"it runs on {guest.node} since it was moved from {self.service.node}"
            done = self.resource.target == guest.node
            return self._to(
                ServiceState.STARTED, why, restarts=0, relocations=0, failed_nodes=(), clear_target=done, **fields
            )
        why = f"it was moved from {self.service.node} to {guest.node}"
        state = ServiceState.REQUEST_START if wanted else ServiceState.REQUEST_STOP
        return self._command(state, why, **fields)

    def _recover(self) -> Decision | None:
        """Its node is fenced: another one, by proof B."""
        node, status = self.guest.node, self.snapshot.statuses[self.guest.node]
        if self.resource.requested is not Requested.STARTED:
            return self._to(ServiceState.STOPPED, f"{status.why}; it is not wanted to run", target="")
        if not self.service.guarded and not stopped(self.guest, self.runtime):
            why = f"{node} never confirmed that its guard knows this guest, so it may still run there"
            return self._to(ServiceState.RECOVERY, why, target="")
        choice = self.turn.choose(self.sid, {node})
        if choice is None:
            return self._to(ServiceState.RECOVERY, f"{status.why}; no node that can run it is online", target="")
        return self._move(
            choice[0],
            f"{status.why}; {choice[1]}",
            fenced=node,
            restarts=0,
            relocations=0,
            failed_nodes=(),
            clear_target=bool(self.resource.target),
        )

    def _request_start(self) -> Decision | None:
        if self.resource.requested is not Requested.STARTED:
            return self._command(ServiceState.REQUEST_STOP, f"it is wanted {self.resource.requested}")
        if self.outcome is None:
            return None
        if self.outcome.ok:
            why = f"{self.guest.node} started it"
            return self._to(ServiceState.STARTED, why, restarts=0, relocations=0, failed_nodes=())
        return self._start_failed(self.outcome.error)

    def _start_failed(self, error: str) -> Decision | None:
        """On the same node again, then on another, then an error that waits for an administrator."""
        tries, service, node = self.service.restarts + 1, self.service, self.guest.node
        if service.restarts < self.resource.max_restart:
            why = f"start {tries} on {node} failed ({error}); try {tries + 1} of {self.resource.max_restart + 1}"
            return self._command(ServiceState.REQUEST_START, why, restarts=tries)
        if service.relocations >= self.resource.max_relocate:
            why = f"start {tries} on {node} failed ({error}) and no tries are left; request disabled, then started"
            return self._to(ServiceState.ERROR, why)
        if running(self.guest, self.runtime):
            return self._to(
                ServiceState.STARTED, f"it runs on {node}, though its start was reported as failed ({error})"
            )
        if not self._proof_c():
            return None
        failed = (*service.failed_nodes, node)
        choice = self.turn.choose(self.sid, set(failed))
        if choice is None:
            why = (
                f"start {tries} on {node} failed ({error}) and no other node can run it; request disabled, then started"
            )
            return self._to(ServiceState.ERROR, why)
        why = f"start {tries} on {node} failed ({error}); {choice[1]}"
        return self._move(choice[0], why, restarts=0, relocations=service.relocations + 1, failed_nodes=failed)

    def _proof_c(self) -> bool:
        """The owner says that it is stopped, and no task holds it."""
        return stopped(self.guest, self.runtime) and self.sid not in self.snapshot.locks

    def _request_stop(self) -> Decision | None:
        if self.resource.requested is Requested.STARTED:
            return self._command(ServiceState.REQUEST_START, "it is wanted started")
        if stopped(self.guest, self.runtime):
            return self._to(ServiceState.STOPPED, f"it is wanted {self.resource.requested} and stopped", **_CLEARED)
        if self.outcome is not None and not self.outcome.ok:
            return self._to(ServiceState.ERROR, f"{self.guest.node} could not stop it: {self.outcome.error}")
        return None

    def _stopped(self) -> Decision | None:
        if self.resource.target:
            return self._move_stopped()
        if self.resource.requested is not Requested.STARTED:
            return None
        if taken(self.snapshot, self.guest.node):
            return self._recover()
        if self.guest.node not in self.turn.online:
            return None
        return self._command(ServiceState.REQUEST_START, "it is wanted started")

    def _move_stopped(self) -> Decision | None:
        """A request to move a guest that does not run."""
        refusal = self._target_refused()
        if refusal:
            return self._to(self.service.state, refusal, clear_target=True, target="")
        if not self._proof_c():
            return None
        why = f"asked to move to {self.resource.target}; {self.guest.node} says that it is stopped"
        return self._move(self.resource.target, why, clear_target=True)

    def _target_refused(self) -> str:
        """Why the guest cannot go where it was asked to go; empty if it can."""
        target = self.resource.target
        if target == self.guest.node:
            return f"it is on {target} already"
        if target not in self.turn.online:
            return f"it cannot move to {target}, which is not online"
        if target not in self.snapshot.allowed.get(self.sid, self.turn.online):
            return f"it cannot move to {target}, which lacks a storage of its"
        return ""

    def _started(self) -> Decision | None:
        if self.resource.requested is not Requested.STARTED:
            return self._command(ServiceState.REQUEST_STOP, f"it is wanted {self.resource.requested}")
        if stopped(self.guest, self.runtime):
            reason = (self.runtime.reason if self.runtime else "") or "it ended"
            return self._command(ServiceState.REQUEST_START, f"it does not run any more ({reason})")
        if self.resource.target:
            refusal = self._target_refused()
            if refusal:
                return self._to(self.service.state, refusal, clear_target=True, target="")
            state = ServiceState.RELOCATE if self.resource.target_mode == "relocate" else ServiceState.MIGRATE
            return self._command(state, f"asked to move to {self.resource.target}", target=self.resource.target)
        return None

    def _migrate(self) -> Decision | None:
        """A live migration is under way; when it commits, the guest's node changes (see ``_was_moved``)."""
        if self.outcome is None:
            return None
        failed = f"its migration to {self.service.target} failed: {self.outcome.error}"
        why = f"its migration to {self.service.target} ended without moving it" if self.outcome.ok else failed
        return self._to(ServiceState.STARTED, why, target="", clear_target=bool(self.resource.target))

    def _relocate(self) -> Decision | None:
        """Stop it, then give it to the target by proof C."""
        target = self.service.target
        if self._proof_c():
            if target not in self.turn.online:
                why = f"{target} went offline before it could move there"
                return self._command(
                    ServiceState.REQUEST_START, why, target="", clear_target=bool(self.resource.target)
                )
            why = f"asked to move to {target}; {self.guest.node} says that it is stopped"
            return self._move(target, why, clear_target=bool(self.resource.target))
        if self.outcome is not None and not self.outcome.ok:
            why = f"it stays on {self.guest.node}, which could not stop it: {self.outcome.error}"
            return self._to(ServiceState.STARTED, why, target="", clear_target=bool(self.resource.target))
        return None

    def _error(self) -> Decision | None:
        if self.resource.requested is not Requested.DISABLED:
            return None
        return self._to(ServiceState.STOPPED, "disabled: the error is cleared", **_CLEARED)


_CLEARED: dict[str, Any] = {"restarts": 0, "relocations": 0, "failed_nodes": (), "target": ""}
