"""The holder's side of the lease: show life in the store, and let HA guests run only while that was acknowledged.

The lease is counted from before the acknowledged heartbeat was *sent*. A heartbeat is a compare-and-set on the node's
own last one; when that fails for another reason than an own write whose answer was lost, this incarnation was fenced.

While the store has no quorum, the other members can take its place (``racimo.ha.failsafe``): a lease that still holds
is extended by what all of them have promised.
"""

from __future__ import annotations

import asyncio
import math
import uuid
from bisect import insort
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

import structlog

from racimo.errors import StoreError
from racimo.ha.timing import GUARD_SILENT_S, LONGEST, SECOND_NS, shorter
from racimo.model.ha import Heartbeat
from racimo.model.lease import Lease
from racimo.store.base import ABSENT, Compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.ha.clock import Clock
    from racimo.ha.timing import Profile
    from racimo.store.layout import Layout

log = structlog.get_logger()

KILLER_LOOK_S = 0.25
"""How often the second killer looks."""

MILLISECOND_NS = 1_000_000
COMMITS_KEPT, COMMITS_NEEDED = 200, 20
"""How many heartbeats tell how quick the store is, and how many it takes at least."""

UNDER_WAY = 100
"""Numbers that a process passes over which carries on with the incarnation of the one before: heartbeats of that one
may still be on their way to the store, and one of those must not be taken for an own one that was sent later."""

REMOVED = "this machine is not that node of the datacenter any more: it was removed"
AFTER_REMOVAL = "run here 'racimo cluster leave --force', then join again"


class Fenced(Exception):
    """The store holds another heartbeat than ours, or none: another node may have our guests."""


class LeaseKeeper(Protocol):
    """Where the lease is written, and the guests that run by it."""

    def read(self) -> Lease | None:
        """The lease as it was last written, by an earlier process too."""

    def write(self, lease: Lease) -> None:
        """From now on this is the lease."""

    def remove(self) -> None:
        """From now on there is none."""

    def begin(self, incarnation: str) -> None:
        """A new incarnation begins."""

    def guests(self) -> int:
        """How many processes of HA guests are on this node."""

    def kill(self) -> int:
        """Kill them too, in case the guard does not; returns how many were killed."""

    def guard_seen_ns(self) -> int:
        """When the guard last reported, on CLOCK_BOOTTIME; 0 if never."""


class Holder:
    """Keeps the heartbeat and the lease of one node. ``profile`` gives the times in force."""

    def __init__(
        self, node: str, layout: Layout, keeper: LeaseKeeper, clock: Clock, profile: Callable[[], Profile]
    ) -> None:
        self.node, self.keeper, self.clock, self.profile = node, keeper, clock, profile
        self._heartbeats, self._nodes = layout.heartbeats, layout.nodes
        self._store, self._key = layout.store, layout.heartbeats.key(node)
        self.incarnation, self.sequence = "", 0
        self.lease: Lease | None = None
        self.leaving = False
        self.mode, self.gave_up = "active", False
        """What the heartbeat announces; see ``Heartbeat``."""
        self.armed = 0
        """The generation of ``Arming`` by which the agent has marked the guests."""
        self.marked = 0
        """The revision by which it has; see ``Heartbeat``."""
        self.away = False
        self.node_id = ""
        """This machine's own id, if it knows it: one that was removed shows no life in the name of its successor."""
        self.acknowledged: Callable[[int], None] = lambda revision: None
        """Called with the revision of each heartbeat that was acknowledged."""
        self.peers: Callable[[], tuple[str, ...]] = tuple
        """The members that are asked before the lease is extended without the store; none: it never is."""
        self.watchdog: Callable[[], str] = str
        """The node's watchdog, for people."""
        self._took_ms: deque[int] = deque()
        self._took_in_order: list[int] = []
        self._standing: tuple[Profile, frozenset[str]] | None = None
        self._named: dict[int, frozenset[str]] = {}
        self._renewed_ns = 0
        self._revision, self._acked = ABSENT, 0
        self._own: Compare | None = None
        self._sent: dict[int, tuple[int, Profile]] = {}

    def new_incarnation(self) -> str:
        """A name that no incarnation of any node had before."""
        return uuid.uuid4().hex[:16]

    def holds(self) -> bool:
        """Whether HA guests may run here now, and whether the manager here may write."""
        return self.lease is not None and self.lease.holds(self.clock.boottime_ns())

    def left_s(self) -> float:
        """Seconds until the guests are killed unless the lease is renewed; 0 without one."""
        if self.lease is None:
            return 0.0
        left = self.lease.deadline_ns - self.lease.kill_margin_ns - self.clock.boottime_ns()
        return max(0.0, left / SECOND_NS)

    def commit_ms(self) -> int:
        """The 99th percentile of how long the last heartbeats took to be committed; 0 while too few were."""
        if len(self._took_ms) < COMMITS_NEEDED:
            return 0
        return self._took_in_order[math.ceil(len(self._took_ms) * 0.99) - 1]

    def _took(self, milliseconds: int) -> None:
        """Remember how long the newest heartbeat took."""
        self._took_ms.append(milliseconds)
        insort(self._took_in_order, milliseconds)
        if len(self._took_ms) > COMMITS_KEPT:
            self._took_in_order.remove(self._took_ms.popleft())

    def renewed_ns(self) -> int:
        """When the heartbeat was sent that was acknowledged last, on CLOCK_BOOTTIME; 0 if none was by this process."""
        return self._renewed_ns

    def extendable(self) -> tuple[Profile, frozenset[str]] | None:
        """By what the lease may be extended: the shortest profile and all peers of the heartbeats that may stand in the
        store. None where it may not be: it does not hold, the guard is silent, or this process has none there yet.
        """
        if not self.holds() or not self._guarded() or self._standing is None or not self._standing[1]:
            return None
        return self._standing

    def extend(self, sent_ns: int, profile: Profile) -> bool:
        """Every peer has promised, after ``sent_ns`` (CLOCK_BOOTTIME), to count a lease of ``profile`` from then on.

        A lease that has run out stays so: a transaction decided upon since may still be on its way to the store.
        Whether it was extended.
        """
        standing = self.extendable()
        if standing is None or self.lease is None:
            return False
        profile = shorter(profile, standing[0])
        deadline = sent_ns + profile.lease_ns
        if deadline > self.lease.deadline_ns:
            self._write(deadline, profile, self.lease.sequence)
        return True

    async def run(self) -> None:
        """Beat for ever; begin anew after having been fenced."""
        while True:
            await self._begin()
            try:
                while True:
                    started = self.clock.boottime_ns()
                    await self.beat()
                    spent = (self.clock.boottime_ns() - started) / SECOND_NS
                    await self.clock.sleep(max(0.0, self.profile().beat - spent))
            except Fenced as error:
                self.lease = None
                self.keeper.remove()
                log.warning(
                    "this node was fenced: its HA guests are killed", why=str(error), incarnation=self.incarnation
                )

    async def beat(self) -> None:
        """Show life once. Raises ``Fenced``. That the store does not answer is logged, and the lease runs on."""
        if not self._guarded():
            log.warning("no heartbeat: the guard does not report", silent_s=self._guard_silence())
            return
        profile, sent = self.profile(), self.clock.boottime_ns()
        self.sequence += 1
        self._sent = {number: write for number, write in self._sent.items() if sent - write[0] < LONGEST.lease_ns}
        self._sent[self.sequence] = (sent, profile)
        peers = self.peers()
        self._named = {number: named for number, named in self._named.items() if number in self._sent}
        self._named[self.sequence] = frozenset(peers)
        if self._standing is not None:
            both = shorter(self._standing[0], profile), self._standing[1] | frozenset(peers)
            self._standing = both if peers else None
        self._cap(sent, profile)
        record = Heartbeat(
            node=self.node,
            incarnation=self.incarnation,
            sequence=self.sequence,
            profile=profile.name,
            leaving=self.leaving,
            away=self.away,
            peers=peers,
            watchdog=self.watchdog(),
            commit_ms=self.commit_ms(),
            mode=self.mode,
            gave_up=self.gave_up,
            armed=self.armed,
            marked=self.marked,
        )
        try:
            async with asyncio.timeout(profile.write_timeout):
                compares = [Compare(self._key, self._revision), *([self._own] if self._own else [])]
                revision = await self._store.txn(compares, [self._heartbeats.put(self.node, record)])
                if revision is None:
                    await self._settle()
                    return
                self._took((self.clock.boottime_ns() - sent) // MILLISECOND_NS + 1)
                self._acknowledge(record.sequence, revision)
        except StoreError as error:
            log.info("a heartbeat was not acknowledged", why=str(error), lease_left_s=round(self.left_s(), 2))
            return
        except TimeoutError:
            log.info("a heartbeat was not acknowledged in time", lease_left_s=round(self.left_s(), 2))

    async def farewell(self) -> None:
        """Say that this process ends in order, so that no fence device is used if its successor takes a moment.

        ``run`` must have ended. The lease lasts as long as any, and the successor carries on with it.
        """
        if not self.incarnation or self.lease is None:
            return
        self.away = True
        for _ in range(2):  # the first may only find out what became of one that was broken off
            with suppress(Fenced):
                await self.beat()
            if self._acked == self.sequence:
                return

    async def go(self) -> None:
        """End this incarnation: the node shuts down, and none of its HA guests is left. ``run`` must have ended.

        Without a heartbeat the node need not be fenced. When the store does not take it, it is fenced in time.
        """
        self.lease = None
        self.keeper.remove()
        try:
            held = await self._heartbeats.find(self.node)
            if held is not None and held.record.incarnation == self.incarnation:
                await self._store.txn([held.compare], deletes=[self._key])
        except StoreError as error:
            log.info("the heartbeat of a node that shuts down was left behind", why=str(error))

    async def _settle(self) -> None:
        """Our compare failed: was an own write committed whose answer was lost, or were we fenced?"""
        held = await self._heartbeats.find(self.node)
        if held is None:
            raise Fenced("the heartbeat was deleted from the store")
        if held.record.incarnation != self.incarnation:
            raise Fenced(f"the heartbeat is now that of incarnation {held.record.incarnation}")
        if held.revision == self._revision and self._own is not None:
            if not await self._is_member():
                raise Fenced(REMOVED)
            return  # only the node's record was written, as when it becomes a voter: the next heartbeat compares anew
        if held.record.sequence <= self._acked:
            # A write that was under way for long and came after the deletion: its incarnation is over all the same.
            raise Fenced(f"the heartbeat went back to sequence {held.record.sequence}")
        self._acknowledge(held.record.sequence, held.revision)

    def _acknowledge(self, sequence: int, revision: int) -> None:
        """``sequence`` stands in the store, and none sent until now will any more: the lease lasts from its sending."""
        self._revision, self._acked = revision, sequence
        if write := self._sent.get(sequence):
            sent, profile = write
            self._standing, self._renewed_ns = (profile, self._named.get(sequence, frozenset())), sent
            extended = self.lease.deadline_ns if self.lease is not None else 0
            self._write(max(sent + profile.lease_ns, extended), profile, sequence)
        self._sent = {number: write for number, write in self._sent.items() if number > sequence}
        self.acknowledged(revision)

    def _write(self, deadline_ns: int, profile: Profile, sequence: int) -> None:
        self.lease = Lease(
            deadline_ns=deadline_ns,
            kill_margin_ns=profile.kill_margin_ns,
            watchdog_ns=profile.watchdog_ns,
            incarnation=self.incarnation,
            sequence=sequence,
        )
        self.keeper.write(self.lease)

    def _cap(self, sent_ns: int, profile: Profile) -> None:
        """Observers may count by a shorter lease from now on, whether we hear of it or not."""
        deadline_ns, lease = sent_ns + profile.lease_ns, self.lease
        if lease is not None and lease.deadline_ns > deadline_ns:
            margin = min(lease.kill_margin_ns, profile.kill_margin_ns)
            self.lease = Lease(deadline_ns, margin, lease.watchdog_ns, lease.incarnation, lease.sequence)
            self.keeper.write(self.lease)

    async def _begin(self) -> None:
        """Carry on with the incarnation of an earlier process of this boot, or begin anew once no guest is left."""
        self._sent.clear()
        told = False
        self._standing = None
        while True:
            try:
                async with asyncio.timeout(self.profile().write_timeout):
                    held = await self._heartbeats.find(self.node)
                    member = await self._is_member()  # in this order: a successor's heartbeat fails our compare
            except (StoreError, TimeoutError) as error:
                log.info("no heartbeat yet: the store does not answer", why=str(error))
                await self.clock.sleep(self.profile().beat)
                continue
            lease = self.keeper.read()
            if member and held is not None and lease is not None and self._goes_on(held.record, lease):
                self.incarnation, self.lease = lease.incarnation, lease
                self.sequence = max(held.record.sequence, lease.sequence) + UNDER_WAY
                self._acked = lease.sequence
                self._revision = held.revision
                log.info("carrying on with the lease of the process before", incarnation=self.incarnation)
                return
            self.lease = None
            self.keeper.remove()
            if not member:
                if not told:
                    log.error("no heartbeat: " + REMOVED, node=self.node, todo=AFTER_REMOVAL)
                told = True
                await self.clock.sleep(self.profile().beat)
                continue
            if self._guarded() and not self.keeper.guests():
                self.incarnation, self.sequence, self._acked = self.new_incarnation(), 0, 0
                self._revision = held.revision if held else ABSENT
                self.keeper.begin(self.incarnation)
                log.info("a new incarnation begins", incarnation=self.incarnation)
                return
            log.warning(
                "no heartbeat until no HA guest is left and the guard reports",
                guests=self.keeper.guests(),
                guard_silent_s=self._guard_silence(),
            )
            await self.clock.sleep(0.2)

    async def _is_member(self) -> bool:
        """Whether the datacenter's node of this name is this very machine; from now on heartbeats compare its record.

        So none is written after the node was removed, or replaced by another of its name.
        """
        if not self.node_id:
            return True
        node = await self._nodes.find(self.node)
        member = node is not None and node.record.id == self.node_id
        self._own = node.compare if node is not None and member else None
        return member

    @staticmethod
    def _goes_on(heartbeat: Heartbeat, lease: Lease) -> bool:
        """Nobody fenced the incarnation that the lease file speaks of."""
        return heartbeat.incarnation == lease.incarnation and heartbeat.sequence >= lease.sequence

    def _guard_silence(self) -> float:
        seen = self.keeper.guard_seen_ns()
        return round((self.clock.boottime_ns() - seen) / SECOND_NS, 2)

    def _guarded(self) -> bool:
        seen = self.keeper.guard_seen_ns()
        return seen > 0 and round((self.clock.boottime_ns() - seen) / SECOND_NS, 2) < GUARD_SILENT_S

    async def kill_in_time(self) -> None:
        """The second killer: should the guard not do it, kill the HA guests when the margin is reached. For ever."""
        while True:
            await self.clock.sleep(KILLER_LOOK_S)
            self.kill_unleased()

    def kill_unleased(self) -> None:
        """Kill the HA guests if there is no lease for them now."""
        # Before this process has settled it, what an earlier one left in the file counts.
        lease = self.lease if self.incarnation else self.keeper.read()
        holds = lease is not None and lease.holds(self.clock.boottime_ns())
        if not holds and (killed := self.keeper.kill()):
            log.warning("killed HA guests without a lease, before the guard did", processes=killed)
