"""What a node does about a guest when it is in doubt: after a restart, a lost store, a broken migration.

Pure: records and process in, verdict out. **The record says who owns: the owner resumes, the other destroys.**
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from racimo.guest.host import UNRESPONSIVE
from racimo.model.guest import RunState

if TYPE_CHECKING:
    from racimo.guest.host import GuestStatus
    from racimo.model.guest import Guest, Lock, Runtime

MIGRATE = "qmigrate"
"""The reason that stands in a guest's lock during a migration: the task type."""

HANDED_OVER = frozenset({"postmigrate", "finish-migrate", "pre-switchover"})
"""Run states of a QEMU that stopped in order to hand its guest over."""
LOADING = frozenset({"inmigrate"})
LOAD_TIMEOUT = 20.0
"""Seconds until the last of a guest's state has to be read, once all was sent and the guest is ours."""


class Verdict(StrEnum):
    """What to do."""

    LEAVE = "leave"
    WAIT = "wait"
    """Nothing can be said yet: look again soon."""
    DESTROY = "destroy"
    """End the process. Its end is written down when the guest is ours."""
    RESUME = "resume"
    """Cancel a migration that nobody follows any more, and let the guest run."""
    NOTE_STOPPED = "note stopped"
    NOTE_RUNNING = "note running"


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with its reason, one sentence for the log."""

    verdict: Verdict
    why: str
    patience: float | None = None
    """Of ``WAIT``: seconds until waiting ends; None: it may last."""

    def after(self, seconds: float) -> Judgement:
        """What it is when it has been the same for so long."""
        if self.patience is None or seconds < self.patience:
            return self
        return Judgement(Verdict.DESTROY, f"{self.why}, for {self.patience:g} s and more")


def judge(
    node: str,
    guest: Guest | None,
    runtime: Runtime | None,
    process: GuestStatus | None,
    *,
    lock: Lock | None = None,
    migrating: bool = False,
) -> Judgement:
    """What ``node`` does about a guest that has ``process`` here (None: no process).

    ``lock`` is the guest's lock, if its holder may live; ``migrating`` says that the process sends its guest to another
    node just now.
    """
    if process is None:
        return _without_process(node, guest, runtime)
    if guest is None:
        return Judgement(Verdict.DESTROY, "there is no guest with this number")
    if guest.node != node:
        return _foreign(guest, process, lock)
    if runtime is None or runtime.state is RunState.STOPPED:
        return Judgement(Verdict.DESTROY, "its record says that it is stopped")
    if runtime.node != node or runtime.epoch != guest.epoch:
        return Judgement(Verdict.DESTROY, f"its record speaks of {runtime.node}, epoch {runtime.epoch}")
    if process.epoch not in (0, guest.epoch):
        return Judgement(Verdict.DESTROY, f"the process is of epoch {process.epoch}, the guest of {guest.epoch}")
    return _own(runtime, process, migrating)


def _without_process(node: str, guest: Guest | None, runtime: Runtime | None) -> Judgement:
    if guest is None or guest.node != node:
        return Judgement(Verdict.LEAVE, "it is not ours, and has no process here")
    if runtime is None or runtime.state is RunState.STOPPED or runtime.node != node:
        return Judgement(Verdict.LEAVE, "it is stopped")
    return Judgement(Verdict.NOTE_STOPPED, f"its record says {runtime.state}, but it has no process")


def _foreign(guest: Guest, process: GuestStatus, lock: Lock | None) -> Judgement:
    moving = lock is not None and lock.node == guest.node and lock.reason == MIGRATE
    # A request of an earlier migration, which came late, prepared for one that nobody will send.
    if lock is not None and process.migration not in ("", lock.task):
        moving = False
    if moving and process.incoming and process.epoch == guest.epoch + 1:
        return Judgement(Verdict.WAIT, f"node {guest.node} is migrating it to us")
    return Judgement(Verdict.DESTROY, f"it belongs to node {guest.node}")


def _own(runtime: Runtime, process: GuestStatus, migrating: bool) -> Judgement:
    if process.state == UNRESPONSIVE:
        return Judgement(Verdict.WAIT, "its QEMU does not answer")
    match runtime.state:
        case RunState.STARTING if process.state == "running":
            return Judgement(Verdict.NOTE_RUNNING, "it was let run before that could be written down")
        case RunState.STARTING:
            return Judgement(Verdict.DESTROY, "its start was interrupted")
        case RunState.STOPPING:
            return Judgement(Verdict.DESTROY, "its stop was interrupted")
    if process.state in LOADING:
        # All was sent before it became ours. If it was sent to another process, or got lost, this one waits for ever.
        return Judgement(Verdict.WAIT, "the last of its state is being loaded", LOAD_TIMEOUT)
    if runtime.state is RunState.PAUSED:
        return Judgement(Verdict.LEAVE, "it is paused, as somebody wished")
    if migrating or process.state in HANDED_OVER or (process.incoming and process.state == "paused"):
        return Judgement(Verdict.RESUME, "it is ours, and nobody follows its migration")
    return Judgement(Verdict.LEAVE, "it runs here, as it should")
