"""The HA manager where it is elected: looks, decides, and commits each decision if all it was based on still stands."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import structlog

from racimo.errors import StoreError
from racimo.ha.balancing import MoveAges
from racimo.ha.commit import STATE, Commit
from racimo.ha.decide import decide
from racimo.ha.fencing.orders import fence_by_power, power_off
from racimo.ha.fencing.proofs import fenceable
from racimo.ha.fencing.returns import returning
from racimo.ha.observer import names
from racimo.ha.states import DEFAULTS, Fence, Load, PowerOff, Snapshot
from racimo.ha.wake import Wake
from racimo.model.ha import Arming, Balance, ManagerTerm
from racimo.model.record import Record
from racimo.placement.rules import RuleSet, compile_rules
from racimo.store.base import Compare

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from racimo.ha.clock import Clock
    from racimo.ha.heartbeat import Holder
    from racimo.ha.observer import Observer
    from racimo.ha.states import Decision
    from racimo.ha.view import Records, View
    from racimo.model.guest import Guest, Lock, Runtime
    from racimo.store.collection import Held

log = structlog.get_logger()

R = TypeVar("R", bound=Record)
T = TypeVar("T")

TERM = "term"
CANDIDATES = 7
IDLE_S = 1.0
"""How often a candidate looks when nothing happens and nothing is due: the election of a manager may be."""
RETRY_S = 0.3
DOUBT_AFTER = 3
"""So many decisions overtaken in a row, and it is the view that is in doubt: an event of the watch may be missing."""


class Manager:
    """Elects itself when there is none, and manages while its own lease holds."""

    def __init__(
        self,
        node: str,
        view: View,
        observer: Observer,
        holder: Holder,
        clock: Clock,
        commit: type[Commit] = Commit,
    ) -> None:
        self._commit_kind = commit
        self.node, self.view, self.observer, self.holder, self.clock = node, view, observer, holder, clock
        self._wake = Wake()
        self.can_fence = False
        """Whether somebody here carries out orders to cut a node's power."""
        self._term = 0
        self._committed = 0
        self._overtaken = 0
        self._resigned = False
        self._plain: dict[str, tuple[object, Mapping[str, Any]]] = {}
        self._candidate = (-1, False)
        self._move_ages = MoveAges()
        self._rules = RuleSet()
        self._rules_of: object = None
        self.loads: Callable[[], Mapping[str, Load]] = dict
        """What was measured last, by sid and by node."""
        self.last_turn_s = 0.0
        view.listen_to_news(self._wake.ring)

    @property
    def manages(self) -> bool:
        """Whether this node is the manager now, as far as it knows."""
        return self._standing() is not None and self.holder.holds()

    async def run(self) -> None:
        """Take turns, for ever: when something changed, and when something is due."""
        while True:
            self._wake.clear()
            try:
                due = await self.turn()
            except StoreError as error:
                log.info("a manager's turn was broken off", why=str(error))
                due = self.clock.monotonic() + RETRY_S
            wait = IDLE_S if due is None else min(IDLE_S, max(0.001, due - self.clock.monotonic()))
            await self._wake.wait(wait)

    async def turn(self) -> float | None:
        """Look once and act. Returns when the next look is due on the clock (None: at the next change)."""
        now = self.clock.monotonic()
        if not self.holder.holds() or not self.observer.in_touch(now) or self.view.revision < self._committed:
            return None
        if self._standing() is None:
            balance = self.view.balance.get(STATE)
            self._move_ages.look(balance.record.moves if balance else (), now)
            return await self._stand()
        started = time.perf_counter()
        basis = self.view.copy()
        turn = decide(self.snapshot(basis), now)
        self.last_turn_s = time.perf_counter() - started
        complete = True
        for decision in turn.decisions:
            if not self.holder.holds() or self._standing() is None:
                log.warning("the manager stops acting: its lease or its office is gone", term=self._term)
                return None
            complete &= await self._commit(decision, basis)
        return turn.next_wake if complete else self.clock.monotonic() + RETRY_S

    def snapshot(self, view: Records, term: int | None = None) -> Snapshot:
        """What ``decide`` is to look at, from one revision of the store; ``term``: of another manager than this one."""
        now, of = self.clock.monotonic(), self._made
        settings, arming, balance = view.datacenter.get("settings"), view.arming.get(STATE), view.balance.get(STATE)
        moved = balance.record if balance else Balance()
        return Snapshot(
            term=self._term if term is None else term,
            revision=view.revision,
            wall=self.clock.wall(),
            nodes=of(_records, view.nodes, "nodes"),
            heartbeats=of(_records, view.heartbeats, "heartbeats"),
            sightings=self.observer.sightings(now),
            statuses=of(_records, view.node_statuses, "statuses"),
            resources=of(_records, view.resources, "resources"),
            services=of(_records, view.services, "services"),
            outcomes=of(_records, view.outcomes, "outcomes"),
            guests=of(_guests, view.guests, "guests"),
            runtimes=of(_runtimes, view.runtimes, "runtimes"),
            locks=of(_locks, view.locks, "locks"),
            storages=of(_records, view.storages, "storages"),
            maintenance=of(_records, view.maintenance, "maintenance"),
            arming=arming.record if arming else Arming(),
            options=settings.record if settings else DEFAULTS,
            rules=self._ruleset(view),
            balance=moved,
            move_ages=self._move_ages.look(moved.moves, now),
            loads=self.loads(),
            node=self.node,
            fenceable=self._fenceable(view),
            fencings=of(_records, view.fencings, "fencings"),
            returning=self._returning(view),
            before_cut=_before_cut(view),
        )

    def _made(self, make: Callable[[T], Mapping[str, R]], table: T, name: str) -> Mapping[str, R]:
        """What ``make`` makes of a copied table, made anew only when that is another one: few change in a turn."""
        before = self._plain.get(name)
        if before is None or before[0] is not table:
            self._plain[name] = before = table, make(table)
        return before[1]

    def _fenceable(self, view: Records) -> frozenset[str]:
        if not self.can_fence:
            return frozenset()
        return fenceable(
            self._made(_records, view.fence_devices, "fence_devices"),
            self._made(_records, view.fence_checks, "fence_checks"),
        )

    def _returning(self, view: Records) -> frozenset[str]:
        if not self.can_fence or not view.fencings:
            return frozenset()
        return returning(self._made(_records, view.fence_devices, "fence_devices"))

    def _ruleset(self, view: Records) -> RuleSet:
        """The rules made ready for use, anew only when they or the members changed."""
        members = tuple(sorted(name for name, held in view.nodes.items() if not held.record.witness))
        basis = (members, tuple((name, held.revision) for name, held in view.rules.items()))
        if basis != self._rules_of:
            self._rules = compile_rules([held.record for held in view.rules.values()], members)
            self._rules_of = basis
        return self._rules

    # election

    def _standing(self) -> Held[ManagerTerm] | None:
        """The term record, if it is this manager's own."""
        held = self.view.manager.get(TERM)
        if held is None or not self._term:
            return None
        own = (self.node, self.holder.incarnation, self._term)
        return held if (held.record.node, held.record.incarnation, held.record.term) == own else None

    def _is_candidate(self) -> bool:
        """One of the first, and known to all: a heartbeat that does not name this node cannot be counted by it."""
        if self._candidate[0] != self.view.news:
            self._candidate = self.view.news, self._is_among_the_first()
        return self._candidate[1]

    def _is_among_the_first(self) -> bool:
        members = [
            held.record
            for name, held in self.view.nodes.items()
            if not held.record.witness and name in self.view.heartbeats
        ]
        members.sort(key=lambda node: (not node.voter, node.name))
        known = all(names(self.view.heartbeats[node.name].record, self.node) for node in members)
        return known and self.node in [node.name for node in members[:CANDIDATES]]

    def _vacant(self, term: ManagerTerm) -> tuple[str, list[Compare]] | None:
        """Why the term may be taken over and what the transaction has to compare; None while its manager may act."""
        if not term.node:
            return "the manager gave its office back", []
        if term.node == self.node:
            return "it was an earlier process of this node", []
        heartbeat = self.view.heartbeats.get(term.node)
        if heartbeat is None:
            return f"{term.node} has no heartbeat", [self.view.layout.heartbeats.absent(term.node)]
        if heartbeat.record.incarnation != term.incarnation:
            return f"{term.node} has begun a new incarnation since", [heartbeat.compare]
        seen = self.observer.revision(term.node)
        if seen is not None and self.observer.expired(term.node, self.clock.monotonic()):
            return f"{term.node}'s lease ran out", [Compare(heartbeat.key, seen)]
        return None

    async def _stand(self) -> float | None:
        """Become manager, if there is none and nobody is quicker. Returns when the office may be vacant, if known."""
        held, collection = self.view.manager.get(TERM), self.view.layout.manager
        if self._resigned:
            return None
        if not self._is_candidate():
            await self._give_back(held)
            return None
        compares = [held.compare if held else collection.absent(TERM)]
        why, number = "there was no manager", 1
        if held is not None:
            vacant = self._vacant(held.record)
            if vacant is None:
                return await self._depose(held)
            why, number = vacant[0], held.record.term + 1
            compares += vacant[1]
        term = ManagerTerm(node=self.node, incarnation=self.holder.incarnation, term=number)
        revision = await self.view.store.txn(compares, [collection.put(TERM, term, held)])
        if revision is None:
            if why.endswith("ran out"):
                self.view.restart("another manager than the one in view")
            return None
        self._term, self._committed = number, revision
        log.info("this node is the HA manager now", term=number, why=why)
        return None

    async def _depose(self, term: Held[ManagerTerm]) -> float | None:
        """Have the manager's node lose its power, if it shows no life; whoever is first gives the order.

        With the proof that it is off, its office is taken. Returns when the next look is due, if known.
        """
        name, now = term.record.node, self.clock.monotonic()
        sighting = self.observer.sighting(name, now)
        fencing = self.view.fencings.get(name)
        if sighting is None:
            return None
        if now < sighting.fence_from and fencing is None:
            return min(sighting.fence_from, sighting.expires)
        basis = self.view.copy()
        if basis.manager.get(TERM) != term:
            return None
        snapshot = self.snapshot(basis, term.record.term)
        if fence := fence_by_power(snapshot, name):
            return await self._succeed(fence, basis, term)
        order = power_off(snapshot, name, now)
        if order is not None and not await self._commit(order, basis):
            return self.clock.monotonic() + RETRY_S
        return sighting.expires if now >= sighting.fence_from else min(sighting.fence_from, sighting.expires)

    async def _succeed(self, fence: Fence, basis: Records, held: Held[ManagerTerm]) -> float | None:
        """Take the manager's node and its office in one transaction: only a manager says how a node is."""
        compares, puts, deletes = self._commit_kind(self.view.layout, basis, held.compare).transaction(fence)
        term = ManagerTerm(node=self.node, incarnation=self.holder.incarnation, term=held.record.term + 1)
        puts = [self.view.layout.manager.put(TERM, term, held), *puts]
        revision = await self.view.store.txn(compares, puts, deletes)
        if revision is None:
            self.view.restart(f"a newer heartbeat of {fence.node}, or another manager, than in view")
            return None
        self._term, self._committed = term.term, revision
        log.info("this node is the HA manager now", term=term.term, why=fence.why)
        return None

    async def resign(self) -> None:
        """Leave the office to whoever else is quickest. The record stays, so that no number is given twice."""
        self._resigned = True
        held = self._standing()
        if held is not None:
            await self._vacate(held)
            self._term = 0

    async def _give_back(self, held: Held[ManagerTerm] | None) -> None:
        """An earlier process of this node, which is no candidate any more, held the office, and it shows life: else
        nobody would take it."""
        if held is not None and held.record.node == self.node:
            log.info("the office of the process before is given back", term=held.record.term)
            await self._vacate(held)

    async def _vacate(self, held: Held[ManagerTerm]) -> None:
        vacant = replace(held.record, node="", incarnation="")
        await self.view.store.txn([held.compare], [self.view.layout.manager.put(TERM, vacant, held)])

    # commits

    async def _commit(self, decision: Decision, basis: Records) -> bool:
        """Write one decision, if everything it was based on still stands."""
        term = basis.manager[TERM].compare
        commit = self._commit_kind(self.view.layout, basis, term)
        revision = await self.view.store.txn(*commit.transaction(decision))
        if revision is None:
            log.info("a decision was overtaken", decision=decision.why, about=decision.subject)
            self._overtaken += 1
            if isinstance(decision, (Fence, PowerOff)):
                self.view.restart(f"a newer heartbeat of {decision.node} than the one in view")
            elif self._overtaken >= DOUBT_AFTER:
                self._overtaken = 0
                self.view.restart(f"decisions about {decision.subject} are overtaken again and again")
            return False
        self._overtaken = 0
        self._committed = max(self._committed, revision)
        log.info(decision.why, about=decision.subject, term=basis.manager[TERM].record.term)
        return True


def _records(table: Mapping[str, Held[R]]) -> dict[str, R]:
    return {name: held.record for name, held in table.items()}


def _before_cut(view: Records) -> frozenset[str]:
    """See ``Snapshot``. Looked at only where a node is off."""
    cut = {name: held.record.revision for name, held in view.fencings.items() if name not in view.heartbeats}
    if not cut:
        return frozenset()
    runtimes = view.runtimes.items()
    return frozenset(f"vm:{vmid}" for vmid, held in runtimes if held.revision < cut.get(held.record.node, 0))


def _guests(table: Mapping[str, Held[Guest]]) -> dict[str, Guest]:
    return {held.record.sid: held.record for held in table.values()}


def _runtimes(table: Mapping[str, Held[Runtime]]) -> dict[str, Runtime]:
    return {f"vm:{vmid}": held.record for vmid, held in table.items()}


def _locks(table: Mapping[str, Held[Lock]]) -> dict[str, Lock]:
    return {f"vm:{name[7:]}": held.record for name, held in table.items() if name.startswith("guests/")}
