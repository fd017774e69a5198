"""``racimo task``: what was done, what is being done, and how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

import typer

from racimo.cli.answer import Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.parameters import Follow, OnNode, TaskId
from racimo.cli.run import Item
from racimo.cli.session import Session, part, task_path
from racimo.cli.units import moment, span
from racimo.cli.view import Column, Done, Facts, Table

app = group("task", "Tasks: everything that takes longer than a moment, with its log and its end.")

PAGE = 500
"""Lines of a log asked for at once."""
SHOWN = 70
"""Characters of a task's end that a list shows; ``task show`` has all of it."""
HELD = 1.0
"""Seconds that a follower's question may be held back while nothing is new."""


def outcome(task: Row) -> str:
    """How a task stands: ``running``, ``OK``, or what went wrong. Lists tell it in ``status``, as clients expect."""
    end = task.text("exitstatus") or task.text("status")
    return "running" if end.lower() == "running" else end


def took(task: Row) -> str:
    """How long an ended task ran."""
    start, end = task.number("starttime"), task.number("endtime")
    return span(end - start) if start is not None and end else "-"


def _end(task: Row) -> str:
    text = outcome(task)
    return text if len(text) <= SHOWN else text[: SHOWN - 2] + " …"


COLUMNS = (
    Column("Started", lambda task: moment(task.number("starttime"))),
    Column("Took", took, number=True),
    Column("Node", lambda task: task.text("node")),
    Column("Task", lambda task: task.text("type")),
    Column("About", lambda task: task.text("id")),
    Column("End", _end),
    Column("UPID", lambda task: task.text("upid")),
)


@command(app, "list", example="racimo task list\nracimo task list --node n2 --limit 100", then="racimo task log UPID")
async def list_tasks(
    session: Session,
    node: OnNode = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many, newest first.")] = 50,
) -> Table:
    """List tasks, newest first: the datacenter's recent ones, or those of one node."""
    if node:
        found = rows(await session.get(f"/nodes/{part(node)}/tasks", source="all", limit=limit))
    else:
        found = rows(await session.get("/cluster/tasks"))
    newest = sorted(found, key=lambda task: -(task.number("starttime") or 0))
    return Table(COLUMNS, newest[:limit], "No task has run yet.")


@command(app, "show", example="racimo task show UPID", then="racimo task log UPID")
async def show(session: Session, upid: TaskId) -> Facts:
    """Show how one task stands, or how it ended."""
    task = await session.task_status(upid)
    lines = [
        ("Task", f"{task.text('type')} {task.text('id')}".strip()),
        ("Node", task.text("node")),
        ("By", task.text("user")),
        ("Started", moment(task.number("starttime"))),
        ("State", task.text("status")),
        ("End", outcome(task)),
        ("Doing", task.text("doing")),
    ]
    return Facts([(name, text) for name, text in lines if text], task.fields)


@command(app, "log", example="racimo task log UPID\nracimo task log UPID --follow", then="racimo task show UPID")
async def log(session: Session, upid: TaskId, follow: Follow = False) -> AsyncIterator[Item]:
    """Print a task's log, line by line; with --json one object per line."""
    start = 0
    while True:
        ended = not follow or (await session.task_status(upid)).text("status") != "running"
        found = rows(await session.get(task_path(upid) + "/log", start=start, limit=PAGE))
        lines = [line for line in found if (line.number("n") or 0) > start and not (follow and _blank(line))]
        for line in lines:
            yield Item(line.text("t"), line.fields)
        start += len(lines)
        if ended and len(lines) < PAGE:
            return
        if not lines:
            await session.task_status(upid, wait=HELD)


def _blank(line: Row) -> bool:
    """Whether it is the line that stands for a log without one."""
    return line.number("n") == 1 and line.text("t") == "no content"


@command(app, "cancel", example="racimo task cancel UPID", then="racimo task show UPID")
async def cancel(session: Session, upid: TaskId) -> Done:
    """Cancel a running task. What it had begun is undone."""
    answer = await session.delete(task_path(upid))
    return Done("The task was asked to end.", row(answer).fields or {"upid": upid}, f"racimo task show {upid}")
