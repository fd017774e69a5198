"""The record says who owns: the owner resumes, the other destroys."""

from __future__ import annotations

from dataclasses import replace

import pytest

from racimo.guest.host import UNRESPONSIVE, GuestStatus
from racimo.guest.reconcile import LOAD_TIMEOUT, Verdict, judge
from racimo.model.guest import Guest, Lock, RunState, Runtime

GUEST = Guest(vmid=100, node="n1", epoch=3)
THEIRS = replace(GUEST, node="n2")
LOCK = Lock(subject="guests/100", node="n2", incarnation="i", task="t", reason="qmigrate")


def runtime(state: RunState, node: str = "n1", epoch: int = 3) -> Runtime:
    return Runtime(vmid=100, node=node, epoch=epoch, state=state)


def process(state: str = "running", epoch: int = 3, *, incoming: bool = False) -> GuestStatus:
    return GuestStatus(vmid=100, pid=1, state=state, epoch=epoch, incoming=incoming, usage=None)


RUNNING = runtime(RunState.RUNNING)


@pytest.mark.parametrize(
    ("guest", "record", "found", "verdict"),
    [
        (GUEST, RUNNING, process(), Verdict.LEAVE),
        (GUEST, runtime(RunState.PAUSED), process("paused"), Verdict.LEAVE),
        (GUEST, RUNNING, process("io-error"), Verdict.LEAVE),
        (GUEST, RUNNING, None, Verdict.NOTE_STOPPED),
        (GUEST, runtime(RunState.STARTING), None, Verdict.NOTE_STOPPED),
        (GUEST, runtime(RunState.STOPPED), None, Verdict.LEAVE),
        (GUEST, None, None, Verdict.LEAVE),
        (GUEST, runtime(RunState.STOPPED), process(), Verdict.DESTROY),
        (GUEST, None, process(), Verdict.DESTROY),
        (GUEST, RUNNING, process(epoch=2), Verdict.DESTROY),
        (GUEST, RUNNING, process(epoch=0), Verdict.LEAVE),
        (GUEST, runtime(RunState.RUNNING, epoch=2), process(), Verdict.DESTROY),
        (GUEST, runtime(RunState.STARTING), process("prelaunch"), Verdict.DESTROY),
        (GUEST, runtime(RunState.STARTING), process(), Verdict.NOTE_RUNNING),
        (GUEST, runtime(RunState.STOPPING), process(), Verdict.DESTROY),
        (GUEST, RUNNING, process(UNRESPONSIVE), Verdict.WAIT),
        (GUEST, RUNNING, process("postmigrate"), Verdict.RESUME),
        (GUEST, RUNNING, process("paused", incoming=True), Verdict.RESUME),
        (GUEST, RUNNING, process("inmigrate", incoming=True), Verdict.WAIT),
        (GUEST, runtime(RunState.PAUSED), process("inmigrate", incoming=True), Verdict.WAIT),
        (None, None, process(), Verdict.DESTROY),
        (None, None, None, Verdict.LEAVE),
        (THEIRS, RUNNING, process(), Verdict.DESTROY),
        (THEIRS, RUNNING, process("postmigrate"), Verdict.DESTROY),
        (THEIRS, RUNNING, None, Verdict.LEAVE),
    ],
)
def test_what_a_node_does_follows_from_the_records(
    guest: Guest | None, record: Runtime | None, found: GuestStatus | None, verdict: Verdict
) -> None:
    assert judge("n1", guest, record, found).verdict is verdict


def test_an_incoming_guest_waits_while_its_owner_migrates_it() -> None:
    incoming = process("inmigrate", epoch=4, incoming=True)
    assert judge("n1", THEIRS, None, incoming, lock=LOCK).verdict is Verdict.WAIT


@pytest.mark.parametrize("lock", [None, replace(LOCK, reason="qmstop"), replace(LOCK, node="n3")])
def test_an_incoming_guest_that_nobody_migrates_is_destroyed(lock: Lock | None) -> None:
    incoming = process("paused", epoch=4, incoming=True)
    assert judge("n1", THEIRS, None, incoming, lock=lock).verdict is Verdict.DESTROY


def test_an_incoming_guest_of_an_earlier_migration_is_destroyed_during_the_next_one() -> None:
    late = replace(process("inmigrate", epoch=4, incoming=True), migration="another")
    assert judge("n1", THEIRS, None, late, lock=LOCK).verdict is Verdict.DESTROY
    assert judge("n1", THEIRS, None, replace(late, migration="t"), lock=LOCK).verdict is Verdict.WAIT


def test_a_guest_of_ours_does_not_wait_for_ever_for_the_last_of_its_state() -> None:
    waiting = judge("n1", GUEST, RUNNING, process("inmigrate", incoming=True))
    assert waiting.after(LOAD_TIMEOUT - 1) == waiting
    assert waiting.after(LOAD_TIMEOUT).verdict is Verdict.DESTROY


def test_a_guest_whose_monitor_is_silent_is_never_destroyed_for_that() -> None:
    waiting = judge("n1", GUEST, RUNNING, process(UNRESPONSIVE))
    assert waiting.after(1e9).verdict is Verdict.WAIT


def test_a_migration_that_nobody_follows_is_ended_by_its_owner() -> None:
    assert judge("n1", GUEST, RUNNING, process(), migrating=True).verdict is Verdict.RESUME
