"""Runs operations as tasks: validate → authorise → lock → precheck → execute → report.

``submit`` refuses at once what is malformed or forbidden; from then on the task has a UPID, a log and an end with a
reason. Cancelling a task undoes what it had begun; the undo itself is not cancelled, but bounded in time.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import structlog

from racimo.errors import Cancelled, Conflict, NotFound, OperationFailed, RacimoError
from racimo.task.archive import KEEP, TaskArchive
from racimo.task.failure import Failure
from racimo.task.log import LogLine, TaskLog, read_log
from racimo.task.record import OK, Phase, TaskFilter, TaskRecord
from racimo.task.settle import settled
from racimo.task.subscription import Subscription
from racimo.task.upid import Upid, UpidSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from racimo.model.paths import NodePaths
    from racimo.task.lock import Locks
    from racimo.task.operation import Operation
    from racimo.task.record import TaskChanges

ROOT = "root@pam"
"""The user of what the node itself asks for."""
UNDO_LIMIT = 120.0
"""Seconds that the undo of one task may take in all."""

ServiceT = TypeVar("ServiceT")
_log = structlog.get_logger()


async def _nothing() -> None:
    """Nothing has to be awaited before a task's end."""


def allow(operation: Operation[ServiceT], user: str) -> None:
    """The authorisation of a node without users: everybody who got in may do everything."""


class _Task:
    """A running task: its record, log and asyncio tasks. What an operation reports comes in here."""

    def __init__(self, upid: Upid, log: TaskLog, publish: Callable[[TaskRecord], None]) -> None:
        self.record, self._log, self._publish = TaskRecord(upid), log, publish
        self.warnings, self.error = 0, None  # type: int, BaseException | None
        self.cancelled_by = ""
        self.changed, self.ended = asyncio.Event(), asyncio.Event()
        self.work: asyncio.Task[None] | None = None
        self.supervisor: asyncio.Task[None] | None = None

    def log(self, text: str) -> None:
        self._log.write(text)
        self.update(turn=self.record.turn + 1)

    def warn(self, text: str) -> None:
        self.warnings += 1
        self.log(f"WARN: {text}")

    def progress(self, fraction: float, text: str = "") -> None:
        self.update(progress=min(max(fraction, 0.0), 1.0), doing=text, turn=self.record.turn + 1)

    def enter(self, phase: Phase) -> None:
        self.update(phase=phase, turn=self.record.turn + 1)

    def end(self, exitstatus: str, failure: Failure | None, at: float) -> None:
        self._log.end(f"TASK {exitstatus}" if failure is None else f"TASK ERROR: {exitstatus}")
        self.update(
            phase=Phase.ENDED, exitstatus=exitstatus, failure=failure, end=at, turn=self.record.turn + 1,
            progress=1.0 if failure is None else self.record.progress,
        )  # fmt: skip
        self.ended.set()

    def update(self, **changes: Unpack[TaskChanges]) -> None:
        self.record = replace(self.record, **changes)
        self.changed.set()
        self.changed = asyncio.Event()
        self._publish(self.record)


class TaskRunner:
    """The tasks of one node. Make it inside the event loop; ``close`` it before the loop ends.

    ``locks`` may be None where no operation asks for locks (tests). ``authorise(operation, user)`` raises
    ``Unauthorised``. Times are seconds.
    """

    def __init__(
        self,
        node_name: str,
        paths: NodePaths,
        locks: Locks | None = None,
        *,
        clock: Callable[[], float] = time.time,
        authorise: Callable[[Operation[Any], str], None] = allow,
        undo_limit: float = UNDO_LIMIT,
        keep: int = KEEP,
    ) -> None:
        self.node_name, self.locks = node_name, locks
        self.before_end: Callable[[], Awaitable[None]] = _nothing
        """Awaited before a task's end is told, so that who reads next sees what it did. Must not raise; short."""
        self._clock, self._authorise, self._undo_limit = clock, authorise, undo_limit
        self._archive = TaskArchive(paths.state / "tasks", clock, keep)
        self._upids = UpidSource(node_name, clock)
        self._running: dict[str, _Task] = {}
        self._subscriptions: set[Subscription] = set()
        self._closing = False

    def submit(self, operation: Operation[ServiceT], services: ServiceT, user: str = ROOT) -> Upid:
        """Begin ``operation`` as a task; it can be asked for at once.

        Raises ``BadParameter`` and ``Unauthorised`` before there is a task, ``Conflict`` when the daemon is ending.
        """
        return self._begin(operation, services, user).record.upid

    async def run(self, operation: Operation[ServiceT], services: ServiceT, user: str = ROOT) -> TaskRecord:
        """Run ``operation`` as a task and wait for its end; raises what it raised.

        When the caller is cancelled, the task is cancelled and undone before this returns.
        """
        task = self._begin(operation, services, user)
        try:
            await task.ended.wait()
        except asyncio.CancelledError:
            self._cancel(task, "who asked for it is gone")
            if task.supervisor is not None:
                await settled(task.supervisor)
            raise
        if task.record.failure is not None:
            raise task.error if isinstance(task.error, RacimoError) else task.record.failure.error()
        return task.record

    def status(self, upid: Upid | str) -> TaskRecord:
        """The task as it stands. Raises ``NotFound``."""
        upid = Upid.parse(upid) if isinstance(upid, str) else upid
        running = self._running.get(str(upid))
        record = running.record if running else self._archive.find(upid)
        if record is None:
            raise NotFound(
                f"no such task '{upid}'", why="it was never started on this node, or is no longer kept",
                todo="Look it up in the list of tasks",
            )  # fmt: skip
        return record

    async def wait(self, upid: Upid | str, timeout: float | None = None, *, seen: int | None = None) -> TaskRecord:
        """The task once it ended, or as it stands after ``timeout`` seconds.

        With ``seen``, the ``turn`` that the caller knows, also returns as soon as there is a newer one.
        """
        record = self.status(upid)
        try:
            async with asyncio.timeout(timeout):
                while record.running and (seen is None or record.turn <= seen):
                    task = self._running[str(record.upid)]
                    await (task.ended if seen is None else task.changed).wait()
                    record = task.record
        except TimeoutError:
            return self.status(upid)
        return record

    def cancel(self, upid: Upid | str, by: str = ROOT) -> None:
        """Ask the task to end; it undoes what it had begun. An ended task is left as it is. Raises ``NotFound``."""
        task = self._running.get(str(self.status(upid).upid))
        if task is not None:
            self._cancel(task, f"cancelled by {by}")

    async def log(self, upid: Upid | str, start: int = 0, limit: int = 50) -> tuple[list[LogLine], int]:
        """Up to ``limit`` lines (0: all) of the task's log after the first ``start``, and how many there are in all."""
        record = self.status(upid)
        return await asyncio.to_thread(read_log, self._archive.log_path(record.upid), start, limit)

    def list(self, wanted: TaskFilter | None = None) -> list[TaskRecord]:
        """The tasks that ``wanted`` describes: running ones first, each kind newest first."""
        wanted = wanted or TaskFilter()
        found = [task for task in self._newest_first() if wanted.matches(task)]
        return found[wanted.start : wanted.start + wanted.limit if wanted.limit > 0 else None]

    def count(self, wanted: TaskFilter) -> int:
        """How many tasks ``wanted`` describes, were there no limit."""
        return sum(1 for task in self._newest_first() if wanted.matches(task))

    def subscribe(self) -> Subscription:
        """Each change of each task from now on; a context manager and an async iterator of ``TaskRecord``."""
        return Subscription(self._subscriptions)

    async def close(self) -> None:
        """Take no more tasks; cancel those that run, and wait until they are undone."""
        self._closing = True
        for task in list(self._running.values()):
            self._cancel(task, "the node's daemon is shutting down")
        supervisors = {task.supervisor for task in self._running.values() if task.supervisor}
        if supervisors:
            await settled(asyncio.ensure_future(_all(supervisors)))
        self._archive.close()
        for subscription in list(self._subscriptions):
            subscription.close()

    def _newest_first(self) -> Iterator[TaskRecord]:
        yield from reversed([task.record for task in self._running.values()])
        yield from sorted(self._archive.ended, key=lambda task: (task.upid.start, task.upid.serial), reverse=True)

    def _begin(self, operation: Operation[ServiceT], services: ServiceT, user: str) -> _Task:
        if self._closing:
            raise Conflict("No task can be started", why="the node's daemon is shutting down", todo="Try again shortly")
        operation.validate()
        self._authorise(operation, user)
        upid = self._upids.draw(operation.kind, operation.subject, user)
        task = _Task(upid, TaskLog(self._archive.log_path(upid)), self._publish)
        self._running[str(upid)] = task
        self._archive.started(upid)
        task.supervisor = asyncio.create_task(self._supervise(task, operation, services), name=str(upid))
        return task

    async def _supervise(self, task: _Task, operation: Operation[ServiceT], services: ServiceT) -> None:
        """Carry the operation out, undo it where it failed, give the locks back, note the end. Is never cancelled."""
        _log.info("task begins", upid=str(task.record.upid))
        undo, held = AsyncExitStack(), AsyncExitStack()
        work = task.work = asyncio.create_task(self._carry_out(task, operation, services, held, undo))
        if task.cancelled_by:
            work.cancel()
        while not work.done():
            try:
                await asyncio.wait({work})
            except asyncio.CancelledError:  # the loop is being torn down without close(): undo all the same
                self._cancel(task, "the node's daemon is ending")
        task.error = _outcome(work)
        if task.error is not None:
            await self._undo(task, undo, task.error)
        else:
            undo.pop_all()
        try:
            await held.aclose()
            await self.before_end()
        finally:
            self._finish(task)

    async def _carry_out(
        self,
        task: _Task,
        operation: Operation[ServiceT],
        services: ServiceT,
        held: AsyncExitStack,
        undo: AsyncExitStack,
    ) -> None:
        for subject in sorted(set(operation.locks)):
            if self.locks is None:
                raise OperationFailed(f"No lock on {subject}", why="this daemon was started without a lock service")
            upid = str(task.record.upid)
            lock = self.locks.hold(subject, task=upid, reason=operation.kind, told=task.log)
            await held.enter_async_context(lock)
        task.enter(Phase.PRECHECK)
        await operation.precheck(services)
        task.enter(Phase.EXECUTE)
        await operation.execute(services, task, undo)

    async def _undo(self, task: _Task, undo: AsyncExitStack, error: BaseException) -> None:
        """Run what is left on ``undo``, newest first; what fails is told in the log, and the rest goes on."""
        task.enter(Phase.UNDO)
        work = asyncio.create_task(_exit(undo, error))
        done, _ = await asyncio.wait({work}, timeout=self._undo_limit)
        if not done:
            work.cancel()
            await asyncio.wait({work}, timeout=self._undo_limit / 10)
            task.warn(f"the undo did not end within {self._undo_limit:g} s and was broken off")
            _log.error("the undo of a task was broken off", upid=str(task.record.upid), after_s=self._undo_limit)
            return
        failed = _outcome(work)
        if failed is not None and failed is not error:
            task.warn(f"a step of the undo failed: {failed}")
            _log.error("the undo of a task failed", upid=str(task.record.upid), error=repr(failed))

    def _finish(self, task: _Task) -> None:
        upid = str(task.record.upid)
        failure = _failure(task)
        exitstatus = failure.text if failure else f"WARNINGS: {task.warnings}" if task.warnings else OK
        if failure is not None and not isinstance(task.error, RacimoError | asyncio.CancelledError):
            _log.error("a task failed in a way nobody foresaw", upid=upid, exc_info=task.error)
        task.end(exitstatus, failure, self._clock())
        self._archive.finished(task.record)
        del self._running[upid]
        _log.info("task ended", upid=upid, exitstatus=exitstatus)

    def _cancel(self, task: _Task, why: str) -> None:
        task.cancelled_by = task.cancelled_by or why
        if task.work is not None:
            task.work.cancel()

    def _publish(self, record: TaskRecord) -> None:
        for subscription in self._subscriptions:
            subscription.push(record)


def _failure(task: _Task) -> Failure | None:
    error = task.error
    if error is None:
        return None
    if isinstance(error, RacimoError):
        return Failure.of(error)
    if isinstance(error, asyncio.CancelledError):
        why = task.cancelled_by or "a part of it was cancelled"
        return Failure.of(Cancelled("Cancelled", why=why.removeprefix("cancelled "), todo=""))
    why = f"{type(error).__name__}: {error}"
    return Failure.of(OperationFailed("An error nobody foresaw", why=why, todo="Report it with the daemon's journal"))


def _outcome(work: asyncio.Task[None]) -> BaseException | None:
    return asyncio.CancelledError() if work.cancelled() else work.exception()


async def _exit(stack: AsyncExitStack, error: BaseException) -> None:
    await stack.__aexit__(type(error), error, error.__traceback__)


async def _all(tasks: set[asyncio.Task[None]]) -> None:
    await asyncio.wait(tasks)
