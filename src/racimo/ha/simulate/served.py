"""``Store`` as a process on a simulated node has it: late, cut off, stalled or paused, as network, quorum and host are.

A request that was sent goes on when who sent it has given up, as packets do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from racimo.errors import StoreUnavailable, StoreUnknown
from racimo.store.base import Change

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence

    from racimo.ha.simulate.host import Host
    from racimo.store.base import Compare, Listing, Put, Stored

T = TypeVar("T")

ANSWER_WITHIN_S = 3.0
KEPT_S = 15.0
"""A request that could not be delivered for so long is gone."""


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that never waits."""
    try:
        work.send(None)
    except StopIteration as done:
        result: T = done.value
        return result
    raise AssertionError("it waits")


class Flight:
    """One request: to the leader, and its answer back."""

    def __init__(self, host: Host, request: Callable[[], Coroutine[Any, Any, Any]], *, writes: bool) -> None:
        self.host, self.quorum, self.writes = host, host.world.quorum, writes
        self.loop = loop = host.world.loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self._request: Callable[[], Coroutine[Any, Any, Any]] | None = request
        self._answer: Any = None
        self._sent, self._waiting = loop.time(), False
        late = host.world.network.latency(host.name)
        if late > ANSWER_WITHIN_S / 2:
            self._limit()
        self.loop.call_later(late, self._arrive)

    def _limit(self) -> None:
        if not self._waiting:
            self._waiting = True
            self.loop.call_at(self._sent + ANSWER_WITHIN_S, self._give_up)

    def _hold_up(self) -> None:
        """It cannot go on now: when something changes it is tried again."""
        self._limit()
        if self._retry not in self.quorum.changed:
            self.quorum.changed.append(self._retry)

    def _retry(self) -> None:
        if self.loop.time() - self._sent > KEPT_S:
            self.quorum.changed.remove(self._retry)
            self._request = None
        elif self._request is not None and self.quorum.serves(self.host.name):
            self.quorum.changed.remove(self._retry)
            self.loop.call_later(self.host.world.network.latency(self.host.name), self._arrive)
        elif self._request is None and self.quorum.answers(self.host.name):
            self.quorum.changed.remove(self._retry)
            self._deliver()

    def _arrive(self) -> None:
        world, request = self.host.world, self._request
        if request is None:
            return
        if not self.quorum.serves(self.host.name):
            self._hold_up()
            return
        self._request = None
        world.writer = self.host.name
        self._answer = at_once(request())
        world.writer = ""
        weather = world.network.weather[self.host.name]
        if self.writes:
            self.quorum.acknowledge()
            if weather.answers_lost and world.chance.random() < weather.answers_lost:
                world.oracle.count("answer lost after commit")
                self._limit()
                return
        late = world.network.latency(self.host.name)
        if self.loop.time() + late - self._sent > ANSWER_WITHIN_S:
            self._limit()
        self.loop.call_later(late, self._deliver)

    def _deliver(self) -> None:
        if self.future.done():
            return
        if self.quorum.answers(self.host.name):
            self.future.set_result(self._answer)
        else:
            self._hold_up()

    def _give_up(self) -> None:
        if not self.future.done():
            error = StoreUnknown if self.writes else StoreUnavailable
            self.future.set_exception(error("no answer in time"))


class ServedStore:
    """The store for one process on ``host``."""

    def __init__(self, host: Host) -> None:
        self._host, self._quorum = host, host.world.quorum

    async def _ask(self, request: Callable[[], Coroutine[Any, Any, T]], *, writes: bool) -> T:
        host = self._host
        if host.paused:
            await host.awake()
        flight = Flight(host, request, writes=writes)
        answer: T = await flight.future
        if host.paused:
            await host.awake()
        return answer

    async def get(self, key: str) -> Stored | None:
        return await self._ask(lambda: self._quorum.store.get(key), writes=False)

    async def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        return await self._ask(lambda: self._quorum.store.snapshot(keys), writes=False)

    async def list(self, prefix: str) -> Listing:
        return await self._ask(lambda: self._quorum.store.list(prefix), writes=False)

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        self._host.world.witness.asked(self._host, puts)
        return await self._ask(lambda: self._transact(compares, puts, deletes), writes=True)

    async def _transact(self, compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]) -> int | None:
        world, store = self._host.world, self._quorum.store
        puts = self._host.speaks(puts)
        revision = at_once(store.txn(compares, puts, deletes))
        repeated = world.network.weather[self._host.name].repeated
        if repeated and world.chance.random() < repeated:
            world.oracle.count("request repeated")
            at_once(store.txn(compares, puts, deletes))
        return revision

    async def watch(self, prefix: str, from_revision: int, *, progress: bool = False) -> AsyncGenerator[Change, None]:
        host, quorum = self._host, self._quorum
        subscription = quorum.subscribe(host.name)
        try:
            subscription.inbox.extend(quorum.store.since(from_revision))
            while True:
                if not subscription.inbox:
                    subscription.waiter = host.world.loop.create_future()
                    await subscription.waiter
                if host.paused:
                    await host.awake()
                while subscription.inbox:
                    change = subscription.inbox.popleft()
                    if not all(event.key.startswith(prefix) for event in change.events):
                        events = tuple(event for event in change.events if event.key.startswith(prefix))
                        change = Change(change.revision, events)
                    if change.events or progress:
                        yield change
        finally:
            quorum.unsubscribe(subscription)

    async def revision(self) -> int:
        return await self._ask(self._quorum.store.revision, writes=False)

    async def close(self) -> None:
        return
