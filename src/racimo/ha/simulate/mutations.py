"""Deliberate breaks of the safety rules. Each must make the simulation red: else it proves nothing.

A mutation is a part of HA of another kind, or something that the world lets pass. They are for the check of the
simulation alone, and reachable from nothing else.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from racimo.ha import scene
from racimo.ha.commit import Commit
from racimo.ha.observer import Observer
from racimo.ha.simulate.fences import SimulatedFences
from racimo.ha.simulate.generate import draw
from racimo.ha.simulate.history import play
from racimo.ha.simulate.lease_mutations import (
    AnothersClock,
    ManagerWithoutLease,
    MoveOfAnyRevision,
    NoGrace,
    always_fed,
    fenced_though_disarmed,
    lease_not_looked_at_again,
    old_marks,
    resumed_uncommitted,
    silence_is_refusal,
)
from racimo.ha.simulate.parts import SimulatedHa, SimulatedHolder
from racimo.ha.simulate.policy_mutations import (
    BalanceUnbounded,
    DevicesAtOnce,
    EndsItsGuests,
    MaintenanceIgnored,
    MemoryIgnored,
    NeverExtended,
    RulesIgnored,
    SlowFailover,
)
from racimo.ha.simulate.power_mutations import OffWithoutWords, old_confirmations
from racimo.ha.simulate.rest import kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from racimo.ha.commit import Transaction
    from racimo.ha.heartbeat import Holder
    from racimo.ha.simulate.history import Result
    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.setup import Setup
    from racimo.ha.simulate.world import World
    from racimo.ha.states import Decision, Fence, Move, Sighting
    from racimo.model.fence import DeviceAnswer, FenceDevice
    from racimo.store.base import Compare


def _as_it_is(world: World) -> None:
    """The world is not touched."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """One break: of the HA code (``make_ha``), or of what it stands on (``prepare``)."""

    name: str
    kinds: tuple[str, ...]
    """The faults that show it best: the seeds are drawn with these alone."""
    make_ha: type[SimulatedHa] = SimulatedHa
    prepare: Callable[[World], None] = _as_it_is
    around: Callable[[], AbstractContextManager[None]] = nullcontext
    """What is bent while it is played."""
    arranged: bool = False
    """Whether rules, sizes and policies are drawn too."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """What the datacenter's options have to be for it."""
    breaks: str = ""
    """The number of the invariant that it has to be seen by; empty: any."""

    def drawn(self, seed: int) -> Setup:
        """The setup of ``seed`` that may show it."""
        setup = draw(seed, self.kinds, arrange=self.arranged)
        return replace(setup, options=replace(setup.options, **self.options))


class _CredulousFences(SimulatedFences):
    async def ask(self, device: FenceDevice, action: str) -> DeviceAnswer:
        """A device that was told to cut the power surely has."""
        answer = await super().ask(device, action)
        silent = self.world.hosts[device.node].failed_at is not None
        return replace(answer, ok=True, power="off") if silent else answer


class CredulousFencing(SimulatedHa):
    """Believes that the power is off though the device never said so."""

    fences_kind: ClassVar[type[SimulatedFences]] = _CredulousFences


class _Impatient(Observer):
    def sighting(self, node: str, now: float) -> Sighting | None:
        """Takes a node for dead before its lease has run out."""
        seen = super().sighting(node, now)
        return replace(seen, expires=seen.suspect + 1.0) if seen else None


class NoObserverMargin(SimulatedHa):
    """Its observer does not wait for the whole lease."""

    observer_kind: ClassVar[type[Observer]] = _Impatient


class _LateHolder(SimulatedHolder):
    def _acknowledge(self, sequence: int, revision: int) -> None:
        """Counts the lease from when the answer came."""
        if sequence in self._sent:
            self._sent[sequence] = (self.clock.boottime_ns(), self._sent[sequence][1])
        super()._acknowledge(sequence, revision)


class LeaseFromReply(SimulatedHa):
    """Its lease is counted from the reply."""

    holder_kind: ClassVar[type[Holder]] = _LateHolder


class _TermlessCommit(Commit):
    def transaction(self, decision: Decision) -> Transaction:
        """Whoever was manager once may write."""
        compares, puts, deletes = super().transaction(decision)
        return [compare for compare in compares if compare != self.term], puts, deletes


class TermNotCompared(SimulatedHa):
    """Its manager writes under a term that is over."""

    commit_kind: ClassVar[type[Commit]] = _TermlessCommit


class _BeatlessCommit(Commit):
    def _fence(self, decision: Fence) -> Transaction:
        """A heartbeat that came meanwhile does not matter."""
        compares, puts, deletes = super()._fence(decision)
        return [compare for compare in compares if compare.key not in deletes], puts, deletes


class HeartbeatNotCompared(SimulatedHa):
    """Its manager fences a node that has shown life since."""

    commit_kind: ClassVar[type[Commit]] = _BeatlessCommit


class _UnfencedHolder(SimulatedHolder):
    async def _settle(self) -> None:
        """Believes that any heartbeat that stands there, or none, is its own."""
        held = await self._heartbeats.find(self.node)
        self._acknowledge(self.sequence, held.revision if held else 0)


class FencingNotNoticed(SimulatedHa):
    """Its heartbeat goes on when it was fenced."""

    holder_kind: ClassVar[type[Holder]] = _UnfencedHolder


class MajorityPromises(SimulatedHa):
    """Its lease is extended without the store when only some of the others have promised."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)

        async def nobody_refuses(*_: object) -> str:
            return ""

        self.failsafe._refused = nobody_refuses  # type: ignore[assignment, method-assign] # this is the break


def _without_guard(world: World) -> None:
    """A guard that feeds the watchdog and kills nothing, and no second killer."""
    for host in world.hosts.values():
        host.guard_kills = host.second_killer = False


def _without_epochs(world: World) -> None:
    """The nodes' daemons carry out commands of an older epoch, and do not compare the guest's record."""
    world.checks_epochs = False


def _without_marks(world: World) -> None:
    """The agents confirm marks that they do not keep."""
    world.keeps_marks = False


def _hasty_store(world: World) -> None:
    """Members agree to what they have not written down yet."""
    world.quorum.acknowledges_early = True


def _minority_leads(world: World) -> None:
    """One member is enough for the store."""
    world.quorum.needs_majority = False


def _without_lease(world: World) -> None:
    """The nodes' daemons do not look at the lease again when a guest's process, at last, is about to begin."""
    world.looks_at_lease = False
    durations = replace(world.setup.durations, start=1.5 * world.profile.lease)
    world.setup = replace(world.setup, durations=durations)


def _hasty_migration(world: World) -> None:
    """A guest goes on at its target before it is halted at its source."""
    world.halts_first = False


@contextmanager
def _no_proof() -> Iterator[None]:
    """A node that is not online is as good as fenced."""
    real = scene.taken

    def believed(snapshot: Any, node: str) -> bool:
        status = snapshot.statuses.get(node)
        return real(snapshot, node) or (status is not None and status.health.value == "unknown")

    scene.taken = believed
    try:
        yield
    finally:
        scene.taken = real


class _ProoflessCommit(Commit):
    def _move(self, decision: Move) -> Transaction:
        compares, puts, deletes = super()._move(decision)
        return [compare for compare in compares if not self._is_beat(compare)], puts, deletes

    def _is_beat(self, compare: Compare) -> bool:
        return compare.key.startswith(self.layout.heartbeats.prefix)


class ProofSkipped(SimulatedHa):
    """Its manager moves guests of nodes that it merely does not hear."""

    commit_kind: ClassVar[type[Commit]] = _ProoflessCommit


MOVING = {"auto_rebalance": True, "threshold": 0.1, "hold": 1, "moves_per_hour": 1}

MUTATIONS = (
    Mutation("no observer margin", ("isolation",), NoObserverMargin),
    Mutation("lease counted from the reply", ("late-answer-then-isolation",), LeaseFromReply),
    Mutation("term not compared", ("isolation", "pause", "delay", "reordering", "leader-stall"), TermNotCompared),
    Mutation("heartbeat not compared", ("delay", "flap", "isolation", "leader-stall"), HeartbeatNotCompared),
    Mutation("fencing not noticed", ("isolation", "flap", "pause"), FencingNotNoticed),
    Mutation("extended without all promises", ("isolation", "split", "crash", "disk-stall"), MajorityPromises),
    Mutation("guard off", ("isolation",), prepare=_without_guard),
    Mutation("stale epoch accepted", ("repeated-commands", "crash", "isolation"), prepare=_without_epochs),
    Mutation("mark not kept", ("isolation",), prepare=_without_marks),
    Mutation("acknowledged before it is durable", ("crash", "isolation", "ask-to-move"), prepare=_hasty_store),
    Mutation("migrated before the halt", ("ask-to-move",), prepare=_hasty_migration),
    Mutation("fence unconfirmed believed", ("fence-hangs", "fence-lies", "isolation"), CredulousFencing),
    Mutation("proof skipped", ("isolation", "pause"), ProofSkipped, around=_no_proof),
    Mutation("move of any revision", ("start-while-moved",), MoveOfAnyRevision),
    Mutation("manager without a lease", ("isolation", "pause", "leader-stall"), ManagerWithoutLease, breaks="3"),
    Mutation("no grace after an outage", ("outage-with-one-late",), NoGrace, breaks="11"),
    Mutation("lease not looked at again", ("daemon-halted",), prepare=lease_not_looked_at_again, breaks="2"),
    Mutation("clock of another machine believed", ("clock-jump",), AnothersClock),
    Mutation("watchdog always fed", ("cut-off-from-all",), prepare=always_fed),
    Mutation("lost answer taken for a refusal", ("move-unanswered",), prepare=silence_is_refusal),
    Mutation("resumed before the commit", ("migration-cut-halted", "move-unanswered"), prepare=resumed_uncommitted),
    Mutation("old marks believed", ("cut-off-while-disarmed",), around=old_marks),
    Mutation("fenced though disarmed", ("cut-off-while-disarmed",), around=fenced_though_disarmed),
    Mutation("off without words believed", ("fence-says-nothing",), OffWithoutWords),
    Mutation("old confirmation believed", ("fence-slow", "isolation"), around=old_confirmations, breaks="2"),
    Mutation("off believed though on since", ("fence-answers-late",), around=old_confirmations),
    Mutation("rules ignored", ("isolation", "maintenance"), RulesIgnored, arranged=True, breaks="7"),
    Mutation("memory ignored", ("isolation", "maintenance", "crash"), MemoryIgnored, arranged=True, breaks="7"),
    Mutation("maintenance ignored", ("maintenance", "isolation"), MaintenanceIgnored, arranged=True, breaks="7"),
    Mutation(
        "balance unbounded", ("isolation", "ask-to-move"), BalanceUnbounded, arranged=True, options=MOVING, breaks="10"
    ),
    Mutation("recovery half a minute late", ("isolation", "crash"), SlowFailover, breaks="9"),
    Mutation("daemon's end ends its guests", ("ha-restart", "control-plane-killed"), EndsItsGuests, breaks="11"),
    Mutation("lease never extended", ("store-away", "daemon-away"), NeverExtended, breaks="11"),
    Mutation("led by a minority", ("split", "crash"), prepare=_minority_leads, breaks="6"),
    Mutation("power cut without an order", ("isolation", "fence-slow"), DevicesAtOnce, breaks="6"),
    Mutation("started without a lease", ("isolation", "guest-crash"), prepare=_without_lease, breaks="6"),
)


def play_broken(mutation: Mutation, seed: int) -> Result:
    """The history of ``seed`` with the rule broken, until that is seen."""
    with mutation.around():
        return play(mutation.drawn(seed), mutation.make_ha, mutation.prepare, partial(_shows, mutation))


def first_seed(mutation: Mutation, seeds: Iterable[int]) -> int | None:
    """The first of ``seeds`` whose history shows the break; None if none does."""
    return next((seed for seed in seeds if is_seen(mutation, play_broken(mutation, seed))), None)


def is_seen(mutation: Mutation, result: Result) -> bool:
    """Whether an oracle that ought to see the break did."""
    return _shows(mutation, result.violations)


def _shows(mutation: Mutation, violations: tuple[str, ...]) -> bool:
    found = kinds_of(violations)
    return mutation.breaks in found if mutation.breaks else bool(found)
