"""The members that keep the store: who leads, what is durable where, and who can be served.

One state machine (the memory store, which holds the store's contract) stands for the replicated one. A transaction is
applied when the leader has a majority, and only then; each member remembers up to which revision it has it on disk.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from racimo.errors import WatchLost
from racimo.ha.simulate.loop import virtual_loop
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    import asyncio
    import random
    from collections.abc import Callable

    from racimo.ha.simulate.network import Network
    from racimo.store.base import Change

ELECTION_S = (0.8, 2.0)
"""How long the members are without a leader when theirs is gone."""


KEPT = 1000
"""So many changes are kept for watches that begin late."""


class Machine(Protocol):
    """What the members know of the machine that they run on."""

    name: str
    store_works: bool

    def fail(self) -> None:
        """It cannot show life from now on."""

    def serves(self) -> bool:
        """Whether a member runs there and its disk takes what it is given."""


class Replicated(MemoryStore):
    """The state machine. ``committed`` are called with each change, in the moment of its commit."""

    def __init__(self) -> None:
        super().__init__()
        self.committed: list[Callable[[Change], None]] = []
        self._told = 1

    @property
    def newest(self) -> int:
        """The newest revision."""
        return self._revision

    def _wake(self) -> None:
        super()._wake()
        if not self._changes or self._changes[-1].revision == self._told:
            return
        change = self._changes[-1]
        self._told = change.revision
        if len(self._changes) > 2 * KEPT:
            self._compacted = self._changes[-KEPT].revision - 1
            del self._changes[:-KEPT]
        for listener in self.committed:
            listener(change)

    def since(self, revision: int) -> list[Change]:
        """The changes after ``revision``. ``WatchLost`` when they are no longer kept."""
        if revision < self._compacted:
            raise WatchLost(f"Changes since revision {revision} are no longer kept", todo="List again")
        return self._changes[bisect_right(self._changes, revision, key=lambda change: change.revision) :]


@dataclass(eq=False)
class Subscription:
    """One watch of a process on a node: changes reach it in order, each when the network has brought it."""

    node: str
    inbox: deque[Change] = field(default_factory=deque)
    under_way: deque[tuple[float, Change]] = field(default_factory=deque)
    waiter: asyncio.Future[None] | None = None

    def arrive(self, until: float) -> None:
        """Whatever was to arrive by ``until`` has."""
        while self.under_way and self.under_way[0][0] <= until:
            self.inbox.append(self.under_way.popleft()[1])
        if self.inbox and self.waiter is not None and not self.waiter.done():
            self.waiter.set_result(None)


class Quorum:
    """The members on ``voters``. ``machines`` gives what is known of each host."""

    def __init__(
        self,
        voters: list[str],
        machines: dict[str, Machine],
        network: Network,
        chance: random.Random,
        acknowledges_early: bool = False,
    ) -> None:
        self.loop = virtual_loop()
        self.voters, self.machines, self.network, self.chance = voters, machines, network, chance
        self.store = Replicated()
        self.store.committed.append(self._spread)
        self.leader = ""
        self.durable = dict.fromkeys(voters, 1)
        self.acknowledged = 1
        self.lost: Callable[[str], None] = lambda text: None
        """Told when an acknowledged change is on no member that could lead."""
        self.changed: list[Callable[[], None]] = []
        self.acknowledges_early = acknowledges_early
        self.needs_majority = True
        """False only where it is broken on purpose."""
        self.stalled = False
        self._working: list[str] = []
        self.led_since = self.outage_s = self._lost_at = 0.0
        """Since when there is this leader, and how long there was none before."""
        self._election: asyncio.TimerHandle | None = None
        self._subscriptions: list[Subscription] = []
        network.changed.append(self.refresh)

    @property
    def majority(self) -> int:
        """How many members make one."""
        return len(self.voters) // 2 + 1 if self.needs_majority else 1

    def group_of(self, member: str) -> list[str]:
        """The members that ``member`` can work with now, itself included; none when it does not run."""
        if not self.machines[member].serves():
            return []
        return [
            other
            for other in self.voters
            if other == member or (self.machines[other].serves() and self.network.talk(member, other))
        ]

    def possible(self) -> bool:
        """Whether some member could lead a majority now."""
        return any(len(self.group_of(member)) >= self.majority for member in self.voters)

    def refresh(self) -> None:
        """Machines or the network changed: keep the leader, or elect one after a while."""
        self._working = self.group_of(self.leader) if self.leader else []
        if len(self._working) < self.majority:
            if self.leader:
                self._lost_at = self.loop.time()
            self.leader, self._working = "", []
        if not self.leader and self.possible():
            if self._election is None:
                self._election = self.loop.call_later(self._election_s(), self._elect)
        elif self._election is not None:
            self._election.cancel()
            self._election = None
        if self.leader:
            self._catch_up()
        self._tell()

    def tear(self, member: str) -> None:
        """What the member had begun to write and not agreed to is lost; there is nothing else that could be."""
        if member in self.durable and self.acknowledges_early:
            self.durable[member] = min(self.durable[member], self.acknowledged - 1)

    def reaches(self, node: str) -> bool:
        """Whether the node can ask and hear answers now."""
        return self._reached(node, requests=True) and self.answers(node)

    def lose_reach(self) -> list[str]:
        """The nodes whose requests or answers do not get through now."""
        return [node for node in self.machines if not self.reaches(node)]

    def begin(self) -> None:
        """All members have what stands in the store now."""
        self.acknowledged = self.store.newest
        self.durable = dict.fromkeys(self.voters, self.acknowledged)

    def elect_now(self) -> None:
        """At the beginning of a simulation: no waiting."""
        if self._election is not None:
            self._election.cancel()
        self._elect()

    def step_down(self) -> None:
        """The leader loses its office though nothing is wrong with its machine."""
        self._lost_at = self.loop.time()
        self.leader = ""
        self.refresh()

    def _election_s(self) -> float:
        return sum(ELECTION_S) / 2 if self.network.calm else self.chance.uniform(*ELECTION_S)

    def _elect(self) -> None:
        self._election = None
        able = [member for member in self.voters if len(self.group_of(member)) >= self.majority]
        if able and not self.leader:
            newest = max(self.durable[member] for member in able)
            up_to_date = [member for member in able if self.durable[member] == newest]
            self.leader = up_to_date[0] if self.network.calm else self.chance.choice(up_to_date)
            if newest < self.acknowledged:
                self.lost(
                    f"revision {self.acknowledged} was acknowledged, but {self.leader} leads with no more than {newest}"
                )
            self._working = self.group_of(self.leader)
            self.led_since = self.loop.time()
            self.outage_s = self.led_since - self._lost_at
            self._catch_up()
        self._tell()

    def _catch_up(self) -> None:
        for member in self._working:
            self.durable[member] = self.store.newest

    def serves(self, node: str) -> bool:
        """Whether a request of ``node`` gets to the leader now."""
        return not self.stalled and self._reached(node, requests=True)

    def answers(self, node: str) -> bool:
        """Whether an answer gets to ``node`` now."""
        return self._reached(node, requests=False)

    def _reached(self, node: str, *, requests: bool) -> bool:
        """Whether some member that works passes messages to or from the node; one whose own store fails has none."""
        if not self.leader or not self.machines[node].store_works:
            return False
        network = self.network
        if not network.cut and not network.off:
            return True
        passes = network.passes
        return any(passes(node, member) if requests else passes(member, node) for member in self._working)

    def acknowledge(self) -> None:
        """What was committed so far is told to who asked for it. A member has it on disk before it agrees."""
        if self.leader and not self.acknowledges_early:
            self._catch_up()
        elif self.leader:
            self.durable[self.leader] = self.store.newest
        self.acknowledged = self.store.newest

    def subscribe(self, node: str) -> Subscription:
        """Follow the changes from now on, as a process on ``node``."""
        subscription = Subscription(node)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Follow no longer."""
        self._subscriptions.remove(subscription)

    def _spread(self, change: Change) -> None:
        loop = self.loop
        now = loop.time()
        for subscription in self._subscriptions:
            late = self.network.latency(subscription.node)
            if subscription.under_way:
                late = max(late, subscription.under_way[-1][0] - now)
            at = now + late
            subscription.under_way.append((at, change))
            loop.call_at(at, self._bring, subscription)

    def _bring(self, subscription: Subscription) -> None:
        if self.answers(subscription.node):
            subscription.arrive(self.loop.time())

    def _tell(self) -> None:
        now = self.loop.time()
        if self.leader:
            for node in self.lose_reach():
                self.machines[node].fail()
        for subscription in self._subscriptions:
            if subscription.under_way and self.answers(subscription.node):
                subscription.arrive(now)
        for listener in list(self.changed):
            listener()
