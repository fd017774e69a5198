"""Deliberate breaks of the rules of leases, offices and nodes' daemons. See ``mutations``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from racimo.ha import decide
from racimo.ha.commit import Commit
from racimo.ha.observer import Observer
from racimo.ha.simulate.keeper import HostGuard
from racimo.ha.simulate.parts import SimulatedHa
from racimo.ha.step import Step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.ha.commit import Transaction
    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.world import World
    from racimo.ha.states import Move, Sighting
    from racimo.model.lease import Lease


class _TermCommit(Commit):
    def _move(self, decision: Move) -> Transaction:
        """Nothing but the office has to stand still."""
        _, puts, deletes = super()._move(decision)
        return [self.term], puts, deletes


class MoveOfAnyRevision(SimulatedHa):
    """Its manager moves a guest whatever has become of the guest since it looked."""

    commit_kind: ClassVar[type[Commit]] = _TermCommit


class _Leaseless:
    """The holder, as a manager sees it who does not ask for the lease."""

    def __init__(self, host_ha: SimulatedHa) -> None:
        self._holder = host_ha.holder

    def holds(self) -> bool:
        return True

    @property
    def incarnation(self) -> str:
        return self._holder.incarnation


class ManagerWithoutLease(SimulatedHa):
    """Its manager acts when its lease is gone.

    A manager that is out of touch with the store takes no turn either, and is so long before its lease ends: that
    second rule is broken too. The third, that all it writes compares its term, still holds: so no guest is harmed, and
    what is seen is that it gave orders.
    """

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.manager.holder = _Leaseless(self)  # type: ignore[assignment] # this is the break

        self.observer.in_touch = lambda now: True  # type: ignore[method-assign] # this is the break


class _Graceless(Observer):
    def contact(self, now: float) -> None:
        """No node is given time to come back."""
        super().contact(now)
        self._gap = 0.0


class NoGrace(SimulatedHa):
    """Its observer fences nodes for an outage of the store that struck all.

    Behind this rule stand the promises by which leases go on without the store: who promised counts anew. They are
    gone when the outage lasts for longer than a lease and a promise, and a node is off so that no lease is extended.
    """

    observer_kind: ClassVar[type[Observer]] = _Graceless


class _ByTheOthersClock(Observer):
    """Counts from the wall clock's time that the other machine had when it wrote its heartbeat."""

    host: Host

    def see(self, node: str, revision: int, profile: str, now: float, *, counts: bool = True) -> None:
        super().see(node, revision, profile, now, counts=counts)
        if not hasattr(self, "said"):
            self.said: dict[str, float] = {}
        other = self.host.world.hosts[node]
        if other.powered:
            self.said[node] = other.clock.wall()

    def sighting(self, node: str, now: float) -> Sighting | None:
        seen = super().sighting(node, now)
        if seen is None or node not in self.said:
            return seen
        age = self.host.clock.wall() - self.said[node]
        return replace(seen, expires=min(seen.expires, now - age + self._seen[node].profile.expiry))


class AnothersClock(SimulatedHa):
    """Its observer believes the time on another machine."""

    observer_kind: ClassVar[type[Observer]] = _ByTheOthersClock

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        if isinstance(self.observer, _ByTheOthersClock):
            self.observer.host = host


class _FeedingGuard(HostGuard):
    def _may_feed(self, lease: Lease | None, vmids: set[int], now_ns: int) -> bool:
        """The watchdog has to be fed, whatever is so."""
        return True


def always_fed(world: World) -> None:
    """The guards feed the watchdog though guests are left that cannot be killed."""
    world.guard_kind = _FeedingGuard


def lease_not_looked_at_again(world: World) -> None:
    """A guest's process is started by the lease of the moment in which its start was begun.

    The guard, which kills what it finds without a lease, stands behind it; it is some ticks too late.
    """
    world.looks_at_lease = False


def silence_is_refusal(world: World) -> None:
    """A move whose transaction got no answer is taken for one that was not committed: the guest goes on here."""
    world.doubts_silence = False


def resumed_uncommitted(world: World) -> None:
    """A guest goes on at its target once it is halted, before it is written whose it is."""
    world.waits_for_commit = False


@contextmanager
def old_marks() -> Iterator[None]:
    """A mark that was confirmed before HA was disarmed counts when it is armed again."""
    of_guest, of_node = Step.guarded, decide.guarded  # type: ignore[attr-defined]
    Step.guarded = property(lambda step: step.service.guarded)  # type: ignore[method-assign, assignment]
    decide.guarded = lambda snapshot, node: True  # type: ignore[attr-defined]
    try:
        yield
    finally:
        Step.guarded, decide.guarded = of_guest, of_node  # type: ignore[method-assign, attr-defined]


@contextmanager
def fenced_though_disarmed() -> Iterator[None]:
    """Nodes are fenced while HA is disarmed, when no guard kills their guests."""
    real = decide._can_be_fenced
    decide._can_be_fenced = lambda scene, name: name in scene.snapshot.heartbeats
    try:
        yield
    finally:
        decide._can_be_fenced = real
