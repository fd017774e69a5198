"""One service with its resource and its guest, and what a decision about it is made of. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from racimo.ha.fencing.orders import PROOF
from racimo.ha.scene import keeps_its_guests
from racimo.ha.states import Decision, Move, answered, probed, running, stopped, with_history
from racimo.model.guest import RunState, Runtime
from racimo.model.ha import Requested, Service, ServiceState
from racimo.placement.pick import Picked

if TYPE_CHECKING:
    from racimo.ha.service_turn import ServiceTurn
    from racimo.model.guest import Guest
    from racimo.model.ha import Outcome, Resource
    from racimo.placement.pick import Nowhere

PACE_S = 30.0
"""After a move of the manager's own that failed, the next is tried so much later."""
PACE_LIMIT_S = 300.0
"""A pause that lasts longer than this comes from a clock that jumped, and is passed over."""


class Step:
    """What is the one thing to do next? Nothing here changes anything but the choices of this turn."""

    def __init__(self, turn: ServiceTurn, resource: Resource, service: Service, guest: Guest) -> None:
        self.turn, self.scene, self.snapshot = turn, turn.scene, turn.snapshot
        self.resource, self.guest, self.sid = resource, guest, resource.sid
        self.runtime = self.snapshot.runtimes.get(self.sid)
        self.before = service
        outcome = self.snapshot.outcomes.get(self.sid)
        self.service = service = self._confirmed(service, outcome)
        self.outcome: Outcome | None = answered(service, outcome)
        self.health: Outcome | None = probed(service, outcome)

    def _confirmed(self, service: Service, outcome: Outcome | None) -> Service:
        """The owner's word that the guest is marked counts for its present epoch and generation of ``Arming`` alone."""
        generation, owner = self.scene.generation, (self.guest.node, self.guest.epoch)
        if outcome is None or (outcome.node, outcome.epoch) != owner or outcome.armed != generation:
            return service
        if service.guarded and service.armed == generation:
            return service
        return replace(service, guarded=True, armed=generation)

    # what is so

    @property
    def node(self) -> str:
        """The guest's node."""
        return self.guest.node

    @property
    def wanted(self) -> bool:
        """Whether it shall run."""
        return self.resource.requested is Requested.STARTED

    @property
    def guarded(self) -> bool:
        """Whether the guard of its node knows it, so that proof B speaks of it."""
        return self.service.guarded and self.service.armed == self.scene.generation

    @property
    def runs(self) -> bool:
        """The owner's word that it runs."""
        return running(self.guest, self.runtime)

    @property
    def ended(self) -> bool:
        """The owner's word that it does not run."""
        return stopped(self.guest, self.runtime)

    def proof_c(self) -> bool:
        """The owner says that it is stopped, and no task holds it."""
        return self.ended and self.sid not in self.snapshot.locks

    def is_ended_with_its_node(self) -> bool:
        """Whether what fenced its node speaks of this guest too.

        Power that was off ended every guest of which nothing was written since the heartbeat before it: a start is
        written first. The end of a lease ended those that the guard knew: confirmed since HA was armed, or before, if
        the node's last heartbeat says that it had marked all guests since; or marked with all others by a revision at
        which it was under HA already, though it came too late to be confirmed by itself.
        """
        if self.guarded or self.ended:
            return True
        status, service = self.snapshot.statuses[self.node], self.service
        if status.proof.startswith(PROOF) and self.sid in self.snapshot.before_cut:
            return True
        if status.armed != self.scene.generation:
            return False
        confirmed_before = service.guarded and service.armed < self.scene.generation
        return confirmed_before or 0 < service.seen <= status.marked

    def is_kept_frozen(self) -> bool:
        """Its node shut down in order and keeps it until it is back."""
        return self.service.state is ServiceState.FREEZE and keeps_its_guests(self.snapshot, self.node)

    def is_paused(self) -> bool:
        """A move failed a short while ago; the next turn is asked for when the pause is over."""
        left = self.service.not_before - self.snapshot.wall
        if not 0 < left <= PACE_LIMIT_S:
            return False
        self.turn.wake_in(left)
        return True

    def pause(self) -> float:
        """Until when the manager tries no move of its own again."""
        return self.snapshot.wall + PACE_S

    # what is decided

    def to(self, state: ServiceState, why: str, *, clear_target: bool = False, **fields: Any) -> Decision | None:
        """The service goes to ``state``, or says something new; None when nothing changes."""
        new = replace(self.service, state=state, why=why, **fields)
        if new == self.before and not clear_target:
            return None
        return self.turn.change(new, state.value, clear_target=clear_target)

    def command(self, state: ServiceState, why: str, **fields: Any) -> Decision | None:
        """A new command to the agent."""
        return self.to(state, why, attempt=self.service.attempt + 1, **fields)

    def pick(self, barred: dict[str, str] | None = None) -> Picked | Nowhere:
        """The best node for it, counted as taken; or why there is none."""
        found = self.turn.choosing.pick(self.sid, barred)
        if isinstance(found, Picked):
            self.turn.choosing.take(self.sid, found.node)
        return found

    def barred(self, *nodes: str) -> dict[str, str]:
        """Nodes that are not to be taken because it failed there."""
        return dict.fromkeys(nodes, "failed to run it")

    def start(
        self, why: str, *, anew: bool = False, barred: dict[str, str] | None = None, **fields: Any
    ) -> Decision | None:
        """Start it where it is, if it may be there; else give it to another node by proof C; else let it wait.

        ``anew``: on the best node, even if it could stay.
        """
        own, choosing = self.node, self.turn.choosing
        if waits := self.scene.order.before(self.sid):
            return self.to(ServiceState.QUEUED, f"{why}; {waits}", **fields)
        away = own not in self.scene.open or own in (barred or {})
        if not away and not anew:
            misplaced = choosing.bound(self.sid) and choosing.misplaced(self.sid, own, failback=self.resource.failback)
            if not misplaced and not choosing.is_kept_out(self.sid, own):
                choosing.take(self.sid, own)
                return self.command(ServiceState.REQUEST_START, why, **fields)
        if not self.proof_c():
            return self.command(ServiceState.REQUEST_START, why, **fields) if own in self.scene.online else None
        if self.scene.may_come_up(own):
            return None  # its daemon has said that it is stopped, its HA daemon will follow
        found = self.pick(barred)
        if not isinstance(found, Picked):
            return self.to(ServiceState.QUEUED, f"{why}; {found.why}", **fields)
        if found.node == own:
            return self.command(ServiceState.REQUEST_START, why, **fields)
        closed = self.scene.closed(own) if own in self.scene.online else ""
        return self.move(found.node, "; ".join(filter(None, (why, closed, found.why))), **fields)

    def move(self, node: str, why: str, *, fenced: str = "", clear_target: bool = False, **fields: Any) -> Move:
        """Give the guest to ``node`` and start it there (or leave it stopped, where that is wanted)."""
        self.turn.choosing.give(self.sid, node)
        epoch = self.guest.epoch + 1
        fields = {"home": "" if self.service.home == node else self.service.home, **fields}
        fields |= {"node": node, "epoch": epoch, "attempt": self.service.attempt + 1, "why": why}
        state = ServiceState.REQUEST_START if self.wanted else ServiceState.STOPPED
        service = replace(self.service, **(fields | {"state": state, "target": "", "renew": False}))
        service = with_history(service, self.snapshot.wall, self.snapshot.term, f"{self.node} → {node}")
        runtime = Runtime(
            vmid=self.guest.vmid, node=node, epoch=epoch, state=RunState.STOPPED, reason=why, since=self.snapshot.wall
        )
        return Move(
            sid=self.sid,
            guest=replace(self.guest, node=node, epoch=epoch),
            runtime=runtime,
            service=service,
            why=f"{self.sid} → {node}: {why}",
            fenced=fenced,
            clear_target=clear_target,
        )
