from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

import pytest

from racimo.errors import BadParameter, Cancelled, Conflict, NotFound, Refused
from racimo.model.paths import NodePaths
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore
from racimo.task.lock import Locks
from racimo.task.log import TaskLog, read_log
from racimo.task.operation import Operation, Report
from racimo.task.record import Phase, TaskFilter
from racimo.task.runner import TaskRunner
from racimo.task.upid import Upid

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from contextlib import AsyncExitStack
    from pathlib import Path


@dataclass
class Site:
    """What the test operation works on: gates to stop it at, and what it did."""

    done: list[str] = field(default_factory=list)
    reached: dict[str, asyncio.Event] = field(default_factory=dict)
    stop_at: str = ""

    async def gate(self, name: str) -> None:
        self.reached.setdefault(name, asyncio.Event()).set()
        if name == self.stop_at:
            await asyncio.Event().wait()

    async def wait_for(self, name: str) -> None:
        async with asyncio.timeout(5):
            await self.reached.setdefault(name, asyncio.Event()).wait()


@dataclass(frozen=True)
class Build(Operation[Site]):
    """Makes a disk, then a guest on it."""

    kind: ClassVar[str] = "qmcreate"
    vmid: int = 100
    bad: bool = False
    fails_with: Exception | None = None
    warns: int = 0
    locked: bool = False

    @property
    def subject(self) -> str:
        return str(self.vmid)

    @property
    def locks(self) -> tuple[str, ...]:
        return (f"guests/{self.vmid}",) if self.locked else ()

    def validate(self) -> None:
        if self.bad:
            raise BadParameter({"vmid": "is bad"})

    async def precheck(self, services: Site) -> None:
        await services.gate("precheck")

    async def execute(self, services: Site, report: Report, undo: AsyncExitStack) -> None:
        report.log("making a disk\nof 8 GiB")
        services.done.append("disk")
        undo.callback(services.done.append, "no disk")
        report.progress(0.5, "half way")
        await services.gate("disk")
        services.done.append("guest")
        undo.callback(services.done.append, "no guest")
        for n in range(self.warns):
            report.warn(f"warning {n}")
        if self.fails_with:
            raise self.fails_with
        await services.gate("guest")
        undo.pop_all()
        await services.gate("committed")


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    return NodePaths(tmp_path)


@pytest.fixture
async def locks() -> AsyncIterator[Locks]:
    locks = Locks(Layout(MemoryStore()), "n1", "boot-1", lambda node, incarnation: False)
    yield locks
    await locks.close()


@pytest.fixture
async def tasks(paths: NodePaths, locks: Locks) -> AsyncIterator[TaskRunner]:
    runner = TaskRunner("n1", paths, locks)
    yield runner
    await runner.close()


async def test_a_task_ends_with_ok_and_its_log(tasks: TaskRunner) -> None:
    upid = tasks.submit(Build(), Site(), "ana@pve")
    assert tasks.status(str(upid)).running
    ended = await tasks.wait(upid, 5)
    assert (ended.exitstatus, ended.progress, ended.succeeded) == ("OK", 1.0, True)
    lines, total = await tasks.log(upid)
    assert [(line.n, line.t) for line in lines] == [(1, "making a disk"), (2, "of 8 GiB"), (3, "TASK OK")]
    assert total == 3
    assert [line.t for line in (await tasks.log(upid, start=1, limit=1))[0]] == ["of 8 GiB"]
    assert (upid.kind, upid.subject, upid.user) == ("qmcreate", "100", "ana@pve")
    assert Upid.parse(str(upid)) == upid


async def test_warnings_are_counted_in_the_exit_status(tasks: TaskRunner) -> None:
    ended = await tasks.run(Build(warns=2), Site())
    assert ended.exitstatus == "WARNINGS: 2"
    assert ended.succeeded


async def test_a_malformed_operation_is_refused_before_there_is_a_task(tasks: TaskRunner) -> None:
    with pytest.raises(BadParameter):
        tasks.submit(Build(bad=True), Site())
    assert tasks.list() == []


async def test_a_failure_is_undone_newest_first_and_says_why(tasks: TaskRunner) -> None:
    site, error = Site(), Refused("No space", why="3 GiB are free", todo="Choose another storage")
    with pytest.raises(Refused) as raised:
        await tasks.run(Build(fails_with=error), site)
    assert raised.value is error
    assert site.done == ["disk", "guest", "no guest", "no disk"]
    [ended] = tasks.list(TaskFilter(errors=True))
    assert ended.exitstatus == "No space: 3 GiB are free. Choose another storage."
    assert (await tasks.log(ended.upid))[0][-1].t.startswith("TASK ERROR: No space")


@pytest.mark.filterwarnings("ignore")
async def test_an_error_nobody_foresaw_is_undone_too_and_names_itself(tasks: TaskRunner) -> None:
    site = Site()
    ended = await tasks.wait(tasks.submit(Build(fails_with=ZeroDivisionError("by zero")), site), 5)
    assert "ZeroDivisionError: by zero" in ended.exitstatus
    assert site.done[-1] == "no disk"


@pytest.mark.parametrize(
    ("stop_at", "done"),
    [
        ("precheck", []),
        ("disk", ["disk", "no disk"]),
        ("guest", ["disk", "guest", "no guest", "no disk"]),
        ("committed", ["disk", "guest"]),
    ],
)
async def test_cancelling_in_any_phase_undoes_what_was_begun(tasks: TaskRunner, stop_at: str, done: list[str]) -> None:
    site = Site(stop_at=stop_at)
    upid = tasks.submit(Build(locked=True), site)
    await site.wait_for(stop_at)
    tasks.cancel(upid, "ana@pve")
    ended = await tasks.wait(upid, 5)
    assert ended.exitstatus == "Cancelled: by ana@pve"
    assert site.done == done
    assert (await tasks.run(Build(locked=True), Site())).exitstatus == "OK", "the lock was given back"


async def test_a_task_cancelled_before_its_first_step_ends_with_a_reason(tasks: TaskRunner) -> None:
    site = Site()
    upid = tasks.submit(Build(), site)
    tasks.cancel(upid)
    assert (await tasks.wait(upid, 5)).exitstatus == "Cancelled: by root@pam"
    assert site.done == []


async def test_a_task_cancelled_while_it_waits_for_a_lock_leaves_the_queue(tasks: TaskRunner) -> None:
    first, second = Site(stop_at="disk"), Site()
    holder = tasks.submit(Build(locked=True), first)
    await first.wait_for("disk")
    waiting = tasks.submit(Build(locked=True), second)
    while not (said := (await tasks.log(waiting))[0]):
        await tasks.wait(waiting, 5, seen=tasks.status(waiting).turn)
    assert f"waiting for the lock on guests/100: task {holder} (qmcreate) on node n1 holds it" in said[0].t
    tasks.cancel(waiting)
    assert (await tasks.wait(waiting, 5)).phase is Phase.ENDED
    assert second.done == []
    assert tasks.status(holder).running


async def test_cancelling_twice_does_not_cancel_the_undo(tasks: TaskRunner) -> None:
    @dataclass(frozen=True)
    class SlowUndo(Build):
        async def execute(self, services: Site, report: Report, undo: AsyncExitStack) -> None:
            async def slowly() -> None:
                await services.gate("undoing")
                await go_on.wait()
                services.done.append("undone")

            undo.push_async_callback(slowly)
            await services.gate("disk")

    site, go_on = Site(stop_at="disk"), asyncio.Event()
    upid = tasks.submit(SlowUndo(), site)
    await site.wait_for("disk")
    tasks.cancel(upid)
    await site.wait_for("undoing")
    tasks.cancel(upid)
    assert tasks.status(upid).phase is Phase.UNDO
    go_on.set()
    await tasks.wait(upid, 5)
    assert site.done == ["undone"]


async def test_an_undo_that_hangs_is_broken_off_and_the_rest_of_it_runs(paths: NodePaths) -> None:
    @dataclass(frozen=True)
    class HangingUndo(Build):
        async def execute(self, services: Site, report: Report, undo: AsyncExitStack) -> None:
            undo.callback(services.done.append, "oldest step undone")
            undo.push_async_callback(asyncio.Event().wait)
            raise Refused("No")

    site, tasks = Site(), TaskRunner("n1", paths, undo_limit=0.05)
    ended = await tasks.wait(tasks.submit(HangingUndo(), site), 5)
    assert ended.exitstatus == "No"
    assert site.done == ["oldest step undone"]
    assert any("broken off" in line.t for line in (await tasks.log(ended.upid))[0])
    await tasks.close()


async def test_a_failing_step_of_the_undo_does_not_hide_the_reason(tasks: TaskRunner) -> None:
    @dataclass(frozen=True)
    class BrokenUndo(Build):
        async def execute(self, services: Site, report: Report, undo: AsyncExitStack) -> None:
            async def fails() -> None:
                raise Conflict("The disk is busy")

            undo.callback(services.done.append, "oldest step undone")
            undo.push_async_callback(fails)
            raise Refused("No")

    site = Site()
    ended = await tasks.wait(tasks.submit(BrokenUndo(), site), 5)
    assert ended.exitstatus == "No"
    assert site.done == ["oldest step undone"]
    assert any("The disk is busy" in line.t for line in (await tasks.log(ended.upid))[0])


async def test_who_awaits_a_task_and_is_cancelled_cancels_and_undoes_it(tasks: TaskRunner) -> None:
    site = Site(stop_at="disk")
    caller = asyncio.create_task(tasks.run(Build(), site))
    await site.wait_for("disk")
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert site.done == ["disk", "no disk"]


async def test_shutting_down_cancels_and_undoes_every_task(paths: NodePaths) -> None:
    tasks, sites = TaskRunner("n1", paths), [Site(stop_at="disk"), Site(stop_at="guest")]
    upids = [tasks.submit(Build(), site) for site in sites]
    await sites[0].wait_for("disk")
    await sites[1].wait_for("guest")
    await tasks.close()
    assert [site.done[-1] for site in sites] == ["no disk", "no disk"]
    assert "shutting down" in tasks.status(upids[0]).exitstatus
    with pytest.raises(Conflict):
        tasks.submit(Build(), Site())


async def test_the_list_survives_a_restart_and_shows_what_was_interrupted(paths: NodePaths) -> None:
    before = TaskRunner("n1", paths)
    ended = (await before.run(Build(vmid=101), Site())).upid
    with pytest.raises(Refused):
        await before.run(Build(vmid=102, fails_with=Refused("No", why="because", todo="Do it")), Site())
    site = Site(stop_at="disk")
    killed = before.submit(Build(vmid=103), site)
    await site.wait_for("disk")

    after = TaskRunner("n1", paths)  # the first daemon is as if killed: it notes nothing any more
    assert after.status(ended).exitstatus == "OK"
    assert [task.upid.subject for task in after.list()] == ["103", "102", "101"]
    lost = after.status(killed)
    assert (lost.running, lost.exitstatus) == (False, "interrupted: the node's daemon ended")
    failure = after.list(TaskFilter(subject="102"))[0].failure
    assert failure is not None
    assert (failure.kind, failure.why, failure.todo) == ("Refused", "because", "Do it")
    assert (await after.log(ended))[0][-1].t == "TASK OK"
    await after.close()
    await before.close()


async def test_only_the_newest_tasks_are_kept_with_their_logs(paths: NodePaths) -> None:
    tasks = TaskRunner("n1", paths, keep=4)
    upids = [(await tasks.run(Build(vmid=100 + n), Site())).upid for n in range(20)]
    assert 4 <= len(tasks.list()) <= 5
    with pytest.raises(NotFound, match="no such task"):
        tasks.status(upids[0])
    assert 4 <= len([*(paths.state / "tasks").glob("*/UPID*")]) <= 5
    assert tasks.status(upids[-1]).exitstatus == "OK"
    await tasks.close()
    again = TaskRunner("n1", paths, keep=4)
    assert [task.upid.subject for task in again.list(TaskFilter(limit=2))] == ["119", "118"]
    await again.close()


async def test_a_torn_journal_line_costs_one_line(paths: NodePaths) -> None:
    tasks = TaskRunner("n1", paths)
    upid = (await tasks.run(Build(), Site())).upid
    await tasks.close()
    with (paths.state / "tasks/journal").open("a") as journal:
        journal.write('{"upid": "UPID:n1:0000')
    again = TaskRunner("n1", paths)
    assert again.status(upid).exitstatus == "OK"
    await again.close()


async def test_waiting_ends_at_the_next_turn_or_at_the_time_out(tasks: TaskRunner) -> None:
    site = Site(stop_at="disk")
    upid = tasks.submit(Build(), site)
    record = tasks.status(upid)
    while record.doing != "half way":
        newer = await tasks.wait(upid, 5, seen=record.turn)
        assert newer.turn > record.turn
        record = newer
    assert record.progress == 0.5
    assert (await tasks.wait(upid, 0.02)).running
    tasks.cancel(upid)


async def test_subscribers_see_each_change_until_the_runner_closes(paths: NodePaths) -> None:
    tasks = TaskRunner("n1", paths)
    with tasks.subscribe() as changes:
        await tasks.run(Build(), Site())
        await tasks.close()
        seen = [task async for task in changes]
    assert [*dict.fromkeys(task.phase for task in seen)] == [Phase.PRECHECK, Phase.EXECUTE, Phase.ENDED]


async def test_awaiting_a_cancelled_task_raises_cancelled(tasks: TaskRunner) -> None:
    site = Site(stop_at="disk")
    caller = asyncio.create_task(tasks.run(Build(), site))
    await site.wait_for("disk")
    tasks.cancel(tasks.list()[0].upid)
    with pytest.raises(Cancelled, match="root@pam"):
        await caller


def test_a_loop_that_ends_without_closing_the_runner_undoes_its_tasks(tmp_path: Path) -> None:
    site = Site(stop_at="disk")

    async def forgetful() -> TaskRunner:
        tasks = TaskRunner("n1", NodePaths(tmp_path))
        tasks.submit(Build(), site)
        await site.wait_for("disk")
        return tasks

    tasks = asyncio.run(forgetful())
    assert site.done == ["disk", "no disk"]
    asyncio.run(tasks.close())


async def test_a_task_runs_though_its_log_cannot_be_written(paths: NodePaths) -> None:
    paths.state.mkdir(parents=True)
    (paths.state / "tasks").write_text("in the way")
    tasks = TaskRunner("n1", paths)
    assert (await tasks.run(Build(), Site())).exitstatus == "OK"
    await tasks.close()


async def test_a_log_is_bounded_and_keeps_its_last_line(tmp_path: Path) -> None:
    log = TaskLog(tmp_path / "log", max_bytes=100)
    for n in range(100):
        log.write(f"line {n}\n\x1b[31m")
    log.end("TASK OK")
    lines, total = read_log(tmp_path / "log", 0, 0)
    assert total < 20
    assert [line.t for line in lines[-2:]] == ["… the log is full, further lines are left out", "TASK OK"]
    assert lines[1].t == "\N{REPLACEMENT CHARACTER}[31m"
