"""Watches on etcd: one stream per client over all keys, shared by every watch of a prefix.

Since the stream carries every key, each revision shows in it. So its health can be proven: a read through the quorum
gives a revision, and the stream must come to it. A stream of a member that is cut off, paused or behind does not, and
is replaced by one of another member that goes on behind the last revision seen.
"""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreError, StoreUnavailable, WatchLost
from racimo.store.base import Change, Event
from racimo.store.etcd_gateway import PAUSE, Failure, Gateway, Json, unavailable
from racimo.store.etcd_txn import REQUESTS, decode

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

SILENCE = 1.0
"""Seconds without a message after which the stream must prove that it is alive and up to date."""

CATCH_UP = 1.0
"""Seconds that a stream may need to come to a revision that was read through the quorum."""

RECENT = 256
"""Changes kept, so that a watch which begins a little in the past can share the stream."""

BACKLOG = 10_000
"""Changes that may wait for the reader of one watch before it is told to list again."""

_log = structlog.get_logger()


class _Stalled(StoreError):
    """The stream's member is not up to date."""


class Subscription:
    """One watch: the changes under ``prefix`` after ``seen`` that wait for its reader."""

    def __init__(self, prefix: str, seen: int, progress: bool) -> None:
        self.prefix, self.seen, self.progress = prefix, seen, progress
        self.failure: StoreError | None = None
        self.ended = False
        self._waiting: deque[Change] = deque()
        self._ready = asyncio.Event()

    def offer(self, change: Change) -> None:
        """Take what concerns this watch of a change of the whole store."""
        if change.revision > self.seen:
            events = tuple(event for event in change.events if event.key.startswith(self.prefix))
            if events:
                self.seen = change.revision
                self._waiting.append(Change(change.revision, events))
                if len(self._waiting) > BACKLOG:
                    self.fail(WatchLost(f"{BACKLOG} changes waited for a watch's reader", todo="List again"))
        self._ready.set()

    def mark(self, revision: int) -> None:
        """Note that everything up to ``revision`` was offered. A mark that waits is replaced."""
        if self.progress and revision >= self.seen:
            if self._waiting and not self._waiting[-1].events:
                self._waiting.pop()
            self.seen = revision
            self._waiting.append(Change(revision))
            self._ready.set()

    def fail(self, failure: StoreError) -> None:
        """Raise ``failure`` in the reader once it has read what waits."""
        self.failure = self.failure or failure
        self._ready.set()

    def end(self) -> None:
        """Let the reader's iteration stop."""
        self.ended = True
        self._ready.set()

    async def changes(self) -> AsyncGenerator[Change, None]:
        """What a watch gives."""
        while not self.ended:
            if self._waiting:
                yield self._waiting.popleft()
            elif self.failure is not None:
                raise self.failure
            else:
                self._ready.clear()
                await self._ready.wait()


class WatchStream:
    """The stream of all changes after ``from_revision``. Runs from its first subscription to its last."""

    def __init__(self, gateway: Gateway, from_revision: int) -> None:
        self._gateway = gateway
        self._oldest = from_revision
        self.seen = max(from_revision, 1)  # an empty etcd is at revision 1, which no event shows
        self._recent: deque[Change] = deque()
        self._subscriptions: list[Subscription] = []
        self._fragments: list[Json] = []
        self._heard = asyncio.Event()
        self._heard_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self.over = False

    def reaches_back_to(self, revision: int) -> bool:
        """Whether a watch from this revision can share the stream."""
        return not self.over and revision >= self._oldest

    def subscribe(self, prefix: str, from_revision: int, progress: bool) -> Subscription:
        """A new watch; its revision must be one that ``reaches_back_to`` allows."""
        subscription = Subscription(prefix, from_revision, progress)
        for change in self._recent:
            subscription.offer(change)
        self._subscriptions.append(subscription)
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="etcd watch")
        return subscription

    async def unsubscribe(self, subscription: Subscription) -> None:
        """End one watch; the stream ends with its last."""
        self._subscriptions.remove(subscription)
        if not self._subscriptions:
            await self.close()

    async def close(self) -> None:
        """End every watch and the stream."""
        self.over = True
        for subscription in self._subscriptions:
            subscription.end()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._follow()
        except StoreError as error:
            self._fail(error)
        except Exception as error:
            _log.exception("the watch on the store failed")
            self._fail(StoreUnavailable("The watch on the store failed", why=repr(error)))
            raise
        finally:
            self.over = True

    def _fail(self, error: StoreError) -> None:
        self.over = True
        for subscription in self._subscriptions:
            subscription.fail(error)

    async def _follow(self) -> None:
        """Stream from one member after the other; give up when none has streamed for request_timeout."""
        loop = asyncio.get_running_loop()
        failures: dict[str, str] = {}
        self._heard_at = tried_at = loop.time()
        endpoint = self._gateway.endpoints[0]
        while loop.time() < self._heard_at + self._gateway.request_timeout:
            if self._heard_at > tried_at:
                failures.clear()
            tried_at = loop.time()
            try:
                await self._stream(endpoint)
            except ExceptionGroup as group:
                error = _first(group)
                if not isinstance(error, (Failure, _Stalled)):
                    raise error from None
                reason = error.reason if isinstance(error, Failure) else error.what
                if endpoint not in failures:
                    _log.info("the watch moves to another member", member=endpoint, reason=reason)
                failures[endpoint] = reason
            endpoint = self._next(endpoint)
            await asyncio.sleep(PAUSE)
        raise unavailable(failures)

    def _next(self, endpoint: str) -> str:
        order = self._gateway.endpoints
        return order[(order.index(endpoint) + 1) % len(order)] if endpoint in order else order[0]

    async def _stream(self, endpoint: str) -> None:
        """Follow one member's stream until it fails."""
        self._fragments = []
        async with asyncio.TaskGroup() as group:
            group.create_task(self._read(endpoint), name="etcd watch: read")
            group.create_task(self._prove(), name="etcd watch: prove")

    async def _read(self, endpoint: str) -> None:
        body: Json = {
            "create_request": {
                "key": "AA==",
                "range_end": "AA==",
                "start_revision": str(self.seen + 1),
                "fragment": True,
            }
        }
        messages = self._gateway.stream(endpoint, "/v3/watch", body)
        try:
            async for message in messages:
                self._take(message)
        finally:
            await messages.aclose()

    def _take(self, message: Json) -> None:
        if message.get("canceled"):
            reason = message.get("cancel_reason") or "the history was compacted"
            compacted = message.get("compact_revision", "0")
            raise WatchLost(
                f"The watch from revision {self.seen} cannot go on",
                why=f"{reason}, up to revision {compacted}",
                todo="List again",
            )
        self._fragments.append(message)
        if message.get("fragment"):
            return
        events = [entry for part in self._fragments for entry in part.get("events", ())]
        self._fragments = []
        for revision, entries in groupby(events, key=lambda entry: int(entry["kv"]["mod_revision"])):
            self._publish(revision, [_event(entry, revision) for entry in entries])
        for subscription in self._subscriptions:
            if subscription.seen < self.seen:
                subscription.mark(self.seen)
        self._heard_at = asyncio.get_running_loop().time()
        self._heard.set()

    def _publish(self, revision: int, events: list[Event]) -> None:
        if revision <= self.seen:
            return
        self.seen = revision
        change = Change(revision, tuple(event for event in events if not event.key.startswith(REQUESTS)))
        if not change.events:
            return
        self._recent.append(change)
        if len(self._recent) > RECENT:
            self._oldest = self._recent.popleft().revision
        for subscription in self._subscriptions:
            subscription.offer(change)

    async def _prove(self) -> None:
        """Whenever the stream is silent, hold it against a read through the quorum."""
        while True:
            if await self._heard_within(SILENCE):
                continue
            before = self.seen
            revision = await self._gateway.revision()
            if revision < before:
                raise WatchLost(
                    f"The store is at revision {revision}, but a watch has seen revision {before}",
                    why="it was restored from an older state",
                    todo="List again",
                )
            loop = asyncio.get_running_loop()
            deadline = loop.time() + CATCH_UP
            while self.seen < revision:
                if not await self._heard_within(deadline - loop.time()):
                    raise _Stalled(f"its watch stopped at revision {self.seen} while the store is at {revision}")
            for subscription in self._subscriptions:
                subscription.mark(self.seen)

    async def _heard_within(self, seconds: float) -> bool:
        self._heard.clear()
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._heard.wait()
        except TimeoutError:
            return False
        return True


def _event(entry: Json, revision: int) -> Event:
    record = entry["kv"]
    value = None if entry.get("type") == "DELETE" else decode(record.get("value", ""))
    return Event(decode(record["key"]).decode(), value, revision)


def _first(group: ExceptionGroup[Exception]) -> Exception:
    """The exception that ended a stream's task group: of several, one that ends the watch for good."""
    errors = [error for error in group.exceptions if not isinstance(error, (Failure, _Stalled))]
    return (errors or list(group.exceptions))[0]
