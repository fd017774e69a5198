"""A watched copy of the records under a prefix, in memory: reading it costs the store nothing."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, insort
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Generic, Self, TypeVar

import structlog

from racimo.errors import NotFound, StoreError, StoreUnavailable, WatchLost
from racimo.model.record import Record
from racimo.store.base import Change, Event, Stored

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence
    from types import TracebackType

    from racimo.store.base import Listing, Store
    from racimo.store.collection import Collection, Held

R = TypeVar("R", bound=Record)

SILENCE = 2.0
"""Seconds without word from the store after which the copy asks for the newest revision, to prove itself current."""

CATCH_UP = 2.0
"""Seconds within which the watch must tell of a revision that the store gave."""

STALE_AFTER = SILENCE + CATCH_UP
"""Seconds without proof after which the copy counts as stale even before anything has failed."""

PAUSE = 0.2
"""Seconds before the store is asked again after it failed; doubled each time up to ``MAX_PAUSE``."""

MAX_PAUSE = 2.0

BACKLOG = 10_000
"""Changes that may wait for one subscriber; one that falls behind further gets ``WatchLost``."""

_log = structlog.get_logger()


class Mirror:
    """The records under ``prefix`` as the store had them a moment ago. ``async with``, or ``start`` and ``stop``.

    While the store cannot be reached the copy stays readable; ``stale_since`` then tells since when it may be out of
    date. Afterwards it lists again by itself and tells its subscribers the difference as one change. ``clock`` gives
    monotonic seconds.
    """

    def __init__(self, store: Store, prefix: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.store, self.prefix = store, prefix
        self._clock = clock
        self._begun = clock()
        self._records: dict[str, Stored] = {}
        self._keys: list[str] = []
        self._revision = 0
        self._confirmed: float | None = None
        self._lost = False
        self._grown = asyncio.Event()
        self._subscribers: set[asyncio.Queue[Change | None]] = set()
        self._task: asyncio.Task[None] | None = None

    @property
    def revision(self) -> int:
        """Everything that happened under the prefix up to this revision is in the copy."""
        return self._revision

    @property
    def stale_since(self) -> float | None:
        """None while in touch with the store; else the reading of the clock when the copy was last known current."""
        if self._confirmed is None or self._lost or self._clock() - self._confirmed > STALE_AFTER:
            return self._confirmed if self._confirmed is not None else self._begun
        return None

    @property
    def confirmed_at(self) -> float | None:
        """The reading of the clock when the copy was last known to be current; None before the first listing."""
        return self._confirmed

    def demand_read(self, what: str) -> None:
        """Raise ``StoreUnavailable``, "``what`` not known here yet", before the first listing: empty is not unread."""
        if self._confirmed is None:
            raise StoreUnavailable(
                f"{what} not known here yet",
                why="the store has not answered since this node's daemon started",
                todo="Try again, and see which members are missing: racimo cluster status",
            )

    def get(self, key: str) -> Stored | None:
        """The record under ``key``, or None."""
        return self._records.get(key)

    def list(self, prefix: str | None = None) -> list[Stored]:
        """The records whose keys start with ``prefix`` (default: all), in key order."""
        prefix = self.prefix if prefix is None else prefix
        found: list[Stored] = []
        for key in self._keys[bisect_left(self._keys, prefix) :]:
            if not key.startswith(prefix):
                break
            found.append(self._records[key])
        return found

    def holds(self, revision: int) -> bool:
        """Whether the copy holds everything up to ``revision``."""
        return self._revision >= revision

    async def wait_for(self, revision: int, timeout: float) -> None:
        """Until the copy holds everything up to ``revision``. ``StoreUnavailable`` after ``timeout`` seconds."""
        try:
            async with asyncio.timeout(timeout):
                while self._revision < revision:
                    await self._grown.wait()
        except TimeoutError as error:
            raise StoreUnavailable(
                f"The copy of {self.prefix} did not come to revision {revision}",
                why=f"it is at {self._revision} after {timeout:g} s",
                todo="Check the store (racimo cluster status)",
            ) from error

    def changes(self) -> AsyncGenerator[Change, None]:
        """What changes in the copy from this call on, each subscriber for itself; ends at ``stop``.

        After an outage, one change holds the whole difference. Raises ``WatchLost`` when the reader is far behind.
        """
        queue: asyncio.Queue[Change | None] = asyncio.Queue()
        self._subscribers.add(queue)
        return self._read(queue)

    async def start(self) -> None:
        """Take the first listing, then follow. Raises ``StoreUnavailable`` when the store does not answer."""
        if self._task is not None:
            raise RuntimeError("The mirror has been started already")
        await self._take_listing()
        self._task = asyncio.create_task(self._run(), name=f"mirror of {self.prefix}")

    async def stop(self) -> None:
        """Stop following; subscribers' iterations end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None
        self._lost = True
        self._end_subscriptions()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()

    async def _read(self, queue: asyncio.Queue[Change | None]) -> AsyncGenerator[Change, None]:
        try:
            while (change := await queue.get()) is not None:
                yield change
                if queue not in self._subscribers:
                    why = f"{BACKLOG} changes of {self.prefix} waited for it"
                    raise WatchLost("A reader of changes is far behind", why=why, todo="Read the copy anew")
        finally:
            self._subscribers.discard(queue)

    async def _run(self) -> None:
        try:
            await self._follow()
        except Exception:
            _log.exception("the copy of the store has ended", prefix=self.prefix)
            self._lost = True
            self._end_subscriptions()
            raise

    def _end_subscriptions(self) -> None:
        for queue in self._subscribers:
            queue.put_nowait(None)

    async def _follow(self) -> None:
        """Watch; after any doubt list again, for as long as it takes."""
        pause = PAUSE
        listed = True
        while True:
            try:
                if not listed:
                    await self._take_listing()
                    pause = PAUSE
                listed = False
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._watch())
                    group.create_task(self._prove())
            except* StoreError as error:
                _log.warning("the copy of the store is out of touch", prefix=self.prefix, why=_words(error))
            self._lost = True
            await asyncio.sleep(pause)
            pause = min(MAX_PAUSE, pause * 2)

    async def _watch(self) -> None:
        async with aclosing(self.store.watch(self.prefix, self._revision, progress=True)) as changes:
            async for change in changes:
                self._apply(change)
        raise StoreUnavailable("The watch has ended", why="the store was closed")

    async def _prove(self) -> None:
        """Whenever the watch is silent, ask for the newest revision and see that the watch comes to it."""
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(SILENCE):
                    await self._grown.wait()
                continue
            asked = self._clock()
            await self.wait_for(await self.store.revision(), CATCH_UP)
            self._confirm(asked)

    async def _take_listing(self) -> None:
        asked = self._clock()
        listing = await self.store.list(self.prefix)
        difference = self._difference(listing)
        self._records = {record.key: record for record in listing.records}
        self._keys = [record.key for record in listing.records]
        first, self._revision = self._revision == 0, listing.revision
        self._confirm(asked)
        if difference and not first:
            self._publish(Change(listing.revision, tuple(difference)))
        self._wake()

    def _difference(self, listing: Listing) -> Sequence[Event]:
        """What a listing has that the copy has not, as events."""
        kept = {record.key for record in listing.records}
        events = [Event(key, None, listing.revision) for key in self._keys if key not in kept]
        for record in listing.records:
            known = self._records.get(record.key)
            if known is None or known.revision != record.revision or known.value != record.value:
                events.append(Event(record.key, record.value, record.revision))
        return events

    def _apply(self, change: Change) -> None:
        for event in change.events:
            if event.value is not None:
                if event.key not in self._records:
                    insort(self._keys, event.key)
                self._records[event.key] = _stored(event)
            elif self._records.pop(event.key, None) is not None:
                del self._keys[bisect_left(self._keys, event.key)]
        self._revision = max(self._revision, change.revision)
        self._confirm(self._clock())
        if change.events:
            self._publish(change)
        self._wake()

    def _publish(self, change: Change) -> None:
        for queue in tuple(self._subscribers):
            queue.put_nowait(change)
            if queue.qsize() > BACKLOG:
                self._subscribers.discard(queue)

    def _confirm(self, at: float) -> None:
        self._confirmed, self._lost = at, False

    def _wake(self) -> None:
        self._grown.set()
        self._grown = asyncio.Event()


def _stored(event: Event) -> Stored:
    assert event.value is not None  # noqa: S101 - the caller looked
    return Stored(event.key, event.value, event.revision)


def _words(group: ExceptionGroup[StoreError]) -> str:
    return "; ".join(str(error) for error in group.exceptions)


class MirroredCollection(Generic[R]):
    """Typed reading of a mirror: the records of ``collection``, decoded once each and never asked of the store."""

    def __init__(self, mirror: Mirror, collection: Collection[R]) -> None:
        if not collection.prefix.startswith(mirror.prefix):
            raise ValueError(f"The mirror of {mirror.prefix} holds nothing of {collection.prefix}")
        self.mirror, self.collection = mirror, collection
        self._decoded: dict[str, tuple[Stored, Held[R]]] = {}

    def find(self, name: str | int) -> Held[R] | None:
        """The record with what is needed to write it back, or None. ``StoreError`` when it cannot be read."""
        key = self.collection.key(name)
        stored = self.mirror.get(key)
        if stored is None:
            self._decoded.pop(key, None)
            return None
        return self._held(stored)

    def hold(self, name: str | int) -> Held[R]:
        """Like ``find``, but raises ``NotFound``."""
        held = self.find(name)
        if held is None:
            raise NotFound(f"{self.collection.kind.__name__} '{name}' does not exist")
        return held

    def get(self, name: str | int) -> R:
        """The record, or ``NotFound``."""
        return self.hold(name).record

    def all(self) -> dict[str, Held[R]]:
        """Every record by name, in key order."""
        records = self.mirror.list(self.collection.prefix)
        if len(self._decoded) > len(records):
            present = {stored.key for stored in records}
            self._decoded = {key: entry for key, entry in self._decoded.items() if key in present}
        return {stored.key.removeprefix(self.collection.prefix): self._held(stored) for stored in records}

    def records(self) -> list[R]:
        """Every record, in key order."""
        return [held.record for held in self.all().values()]

    def _held(self, stored: Stored) -> Held[R]:
        known = self._decoded.get(stored.key)
        if known is not None and known[0] is stored:
            return known[1]
        held = self.collection.decode(stored.key, stored.value, stored.revision)
        self._decoded[stored.key] = (stored, held)
        return held
