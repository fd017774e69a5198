"""What is known of one task: running or ended, how far, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypedDict

if TYPE_CHECKING:
    from racimo.task.failure import Failure
    from racimo.task.upid import Upid

OK = "OK"
INTERRUPTED = "interrupted: the node's daemon ended"


class Phase(StrEnum):
    """Where a task is. ``ended`` is the last."""

    LOCK = "lock"
    PRECHECK = "precheck"
    EXECUTE = "execute"
    UNDO = "undo"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class TaskRecord:
    """One task as it stands. ``end`` is in seconds since the epoch, 0 while it runs.

    ``exitstatus`` is empty while it runs, then ``OK``, ``WARNINGS: n`` or what went wrong. ``turn`` grows by one with
    each change that a watcher should see.
    """

    upid: Upid
    phase: Phase = Phase.LOCK
    progress: float = 0.0
    doing: str = ""
    end: float = 0.0
    exitstatus: str = ""
    failure: Failure | None = None
    turn: int = 0

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.phase is not Phase.ENDED

    @property
    def succeeded(self) -> bool:
        """Whether it ended well, with or without warnings."""
        return not self.running and (self.exitstatus == OK or self.exitstatus.startswith("WARNINGS: "))


class TaskChanges(TypedDict, total=False):
    """Fields of ``TaskRecord`` that change while it runs."""

    phase: Phase
    progress: float
    doing: str
    end: float
    exitstatus: str
    failure: Failure | None
    turn: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskFilter:
    """Which tasks to list, newest first. None means any; times are seconds since the epoch of the task's start."""

    running: bool | None = None
    kind: str | None = None
    subject: str | None = None
    user: str | None = None
    since: float | None = None
    until: float | None = None
    errors: bool = False
    exitstatus: str | None = None
    start: int = 0
    limit: int = 50

    def matches(self, task: TaskRecord) -> bool:
        """Whether ``task`` belongs to the list (``start`` and ``limit`` aside)."""
        return (
            self.running in (None, task.running)
            and self.kind in (None, task.upid.kind)
            and self.subject in (None, task.upid.subject)
            and (self.user is None or self.user in task.upid.user)
            and (self.since is None or task.upid.start >= self.since)
            and (self.until is None or task.upid.start <= self.until)
            and not (self.errors and (task.running or task.succeeded))
            and self.exitstatus in (None, task.exitstatus)
        )
