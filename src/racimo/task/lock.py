"""Locks of the whole datacenter: one record per subject, held by one task of one boot of a node's daemon.

Within a daemon those who wait stand in a queue, first come first served. Its head takes the record by compare-and-set;
while another node holds it, the head watches the record. A record whose holder is dead, or which this daemon left
behind itself, is taken over and that is logged.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, ClassVar

import structlog

from racimo.errors import Conflict, StoreError, StoreUnavailable, StoreUnknown, WatchLost
from racimo.model.guest import Lock
from racimo.task.holder import proven_dead
from racimo.task.settle import settled

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from racimo.store.collection import Held
    from racimo.store.layout import Layout

WAIT = 60.0
"""Seconds that a task waits for a lock if nothing else is said."""
RECHECK = 1.0
"""Seconds after which one who waits asks again whether the holder is dead: that is no change of the lock's record."""
RELEASE_WAIT = 5.0
"""Seconds that the end of a task waits for its locks to be given back; after that it goes on in the background."""
READ_BACK = 1.0
"""Seconds that are waited to read a lock back whose answer was lost."""

_log = structlog.get_logger()


@dataclass(slots=True)
class _Queue:
    """Who waits for one subject in this daemon. asyncio's lock is first come, first served."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    users: int = 0
    holder: Lock | None = None


class Locks:
    """The locks as one daemon takes them.

    ``incarnation`` names this boot of the daemon. ``is_dead(node, incarnation)`` is a cheap first guess whether
    a holder is dead (from a copy of the records, which may be old); before a lock is broken, ``proven_dead`` asks the
    store.
    """

    _living: ClassVar[set[Lock]] = set()
    """What tasks of this process hold, also by another ``Locks``: a daemon that goes over to another store has two."""

    def __init__(
        self,
        layout: Layout,
        node_name: str,
        incarnation: str,
        is_dead: Callable[[str, str], bool],
        *,
        clock: Callable[[], float] = time.time,
        wait: float = WAIT,
        recheck: float = RECHECK,
    ) -> None:
        self._layout, self._records = layout, layout.locks
        self._node, self._incarnation = node_name, incarnation
        self._is_dead, self._clock, self._wait, self._recheck = is_dead, clock, wait, recheck
        self.release_wait = RELEASE_WAIT
        self._queues: dict[str, _Queue] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._closed = False

    @asynccontextmanager
    async def hold(
        self,
        subject: str,
        *,
        task: str,
        reason: str = "",
        wait: float | None = None,
        told: Callable[[str], None] = lambda text: None,
    ) -> AsyncIterator[None]:
        """Hold the lock on ``subject`` for the body; ``task`` is the UPID of who asks; ``told`` hears whom it
        waits for.

        Raises ``Conflict`` naming the holder when it cannot be had in ``wait`` seconds, ``StoreUnavailable`` when the
        store cannot be asked.
        """
        seconds = self._wait if wait is None else wait
        deadline = asyncio.get_running_loop().time() + seconds
        lock = Lock(
            subject=subject, node=self._node, incarnation=self._incarnation, task=task, reason=reason,
            since=self._clock(),
        )  # fmt: skip
        queue = self._queues.setdefault(subject, _Queue())
        queue.users += 1
        try:
            if queue.lock.locked() and queue.holder is not None:
                told(f"waiting for the lock on {subject}: {_holds(queue.holder)}")
            try:
                async with asyncio.timeout_at(deadline):
                    await queue.lock.acquire()
            except TimeoutError:
                raise _too_long(subject, seconds, queue.holder) from None
            try:
                await self._take(queue, lock, deadline, seconds, told)
                queue.holder = lock
                self._living.add(lock)
                try:
                    yield
                finally:
                    self._living.discard(lock)
                    await self._release(subject, lock)
            finally:
                queue.holder = None
                queue.lock.release()
        finally:
            queue.users -= 1
            if queue.users == 0:
                self._queues.pop(subject, None)

    async def idle(self) -> None:
        """Wait until nothing is being given back in the background."""
        while self._background:
            await asyncio.wait(self._background)

    async def close(self) -> None:
        """Stop giving back what could not be given back; the next boot's incarnation breaks those locks."""
        self._closed = True
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)

    async def _take(
        self, queue: _Queue, lock: Lock, deadline: float, seconds: float, told: Callable[[str], None]
    ) -> None:
        """Write our record, waiting for others' to go. When cancelled, whatever was written is taken back."""
        subject = lock.subject
        try:
            async with asyncio.timeout_at(deadline):
                while True:
                    attempt = asyncio.create_task(self._attempt(subject, lock))
                    try:
                        held = await asyncio.shield(attempt)
                    except asyncio.CancelledError:
                        self._later(self._abandon(attempt, subject, lock))
                        raise
                    if held is None:
                        return
                    if queue.holder != held.record:
                        told(f"waiting for the lock on {subject}: {_holds(held.record)}")
                    queue.holder = held.record
                    await self._changed(held)
        except TimeoutError:
            raise _too_long(subject, seconds, queue.holder) from None
        except StoreError:
            self._later(self._give_back(subject, lock, taken=False))
            raise

    async def _attempt(self, subject: str, lock: Lock) -> Held[Lock] | None:
        """Take the record if it is free, ours or a dead holder's. Returns the living holder's record otherwise."""
        held: Held[Lock] | None = None
        while True:
            compare = held.compare if held else self._records.absent(subject)
            try:
                if await self._records.store.txn([compare], [self._records.put(subject, lock, held)]) is not None:
                    if held is not None:
                        _log.warning("broke the lock of a dead holder", subject=subject, holder=held.record.task,
                                     node=held.record.node, taken_by=lock.task)  # fmt: skip
                    return None
                held = await self._records.find(subject)
            except StoreUnknown as error:
                held = await self._read_back(subject, error)
            if held is not None and held.record == lock:
                return None
            if held is not None and not await self._breakable(held.record):
                return held

    async def _read_back(self, subject: str, lost: StoreUnknown) -> Held[Lock] | None:
        """The record after a write whose answer was lost. Whoever asks has waited long for that: if the store goes on
        being silent, ``lost`` is raised, and what was written is taken back later.
        """
        _log.info("reading back whether a lock was taken", subject=subject, error=str(lost))
        try:
            async with asyncio.timeout(READ_BACK):
                return await self._records.find(subject)
        except TimeoutError:
            raise lost from None

    async def _breakable(self, lock: Lock) -> bool:
        """Held by a dead node, by an earlier boot of this daemon, or left over by a task of it that is gone."""
        if lock.node == self._node:
            return lock not in self._living
        if not self._is_dead(lock.node, lock.incarnation):
            return False
        return await proven_dead(self._layout, lock.node, lock.incarnation)

    async def _changed(self, held: Held[Lock]) -> None:
        """Wait until the record is written or deleted, or its holder is found dead."""
        watch = asyncio.create_task(self._next_change(held))
        try:
            while not (await asyncio.wait({watch}, timeout=self._recheck))[0]:
                if await self._breakable(held.record):
                    return
            watch.result()
        finally:
            watch.cancel()
            await settled(watch)

    async def _next_change(self, held: Held[Lock]) -> None:
        changes = self._records.store.watch(held.key, held.revision)
        try:
            async for change in changes:
                if any(event.key == held.key for event in change.events):
                    return
        except WatchLost:
            return
        finally:
            close = getattr(changes, "aclose", None)
            if close is not None:
                await close()
        raise StoreUnavailable("The store was closed while waiting for a lock", why=held.record.subject)

    async def _release(self, subject: str, lock: Lock) -> None:
        """Give the record back, not to be cancelled; in the background if the store does not answer soon."""
        work = self._later(self._give_back(subject, lock))
        await settled(asyncio.create_task(_bounded(work, self.release_wait)))

    async def _give_back(self, subject: str, lock: Lock, *, taken: bool = True) -> None:
        """Delete our record, again and again until the store says what became of it."""
        pause = 0.05
        while True:
            try:
                held = await self._records.find(subject)
                if held is None or held.record != lock:
                    if taken:
                        _log.warning("a lock was gone before it was given back", subject=subject, task=lock.task)
                    return
                if await self._records.store.txn([held.compare], deletes=[held.key]) is not None:
                    return
            except StoreError as error:
                _log.warning("a lock could not be given back yet", subject=subject, task=lock.task, error=str(error))
                taken = False
                if self._closed:
                    return
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)

    async def _abandon(self, attempt: asyncio.Task[Held[Lock] | None], subject: str, lock: Lock) -> None:
        """Whoever wanted the lock is gone; if the attempt under way got it, give it back."""
        await asyncio.wait({attempt})
        if attempt.cancelled() or attempt.exception() is not None or attempt.result() is None:
            await self._give_back(subject, lock, taken=False)

    def _later(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)
        return task


async def _bounded(task: asyncio.Task[None], seconds: float) -> None:
    await asyncio.wait({task}, timeout=seconds)


def _too_long(subject: str, seconds: float, holder: Lock | None) -> Conflict:
    if holder is None:
        return Conflict(
            f"No lock on {subject}, got timeout after {seconds:g} s",
            why="the store did not answer in time",
            todo="See whether it has its quorum: racimo cluster status",
        )
    return Conflict(
        f"No lock on {subject}, got timeout after {seconds:g} s",
        why=_holds(holder),
        todo="Wait until that task ends, or cancel it",
    )


def _holds(holder: Lock) -> str:
    since = datetime.fromtimestamp(holder.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    purpose = f" ({holder.reason})" if holder.reason else ""
    return f"task {holder.task}{purpose} on node {holder.node} holds it since {since}"
