"""Tasks: lists, status, log, cancelling."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

import structlog
from pydantic import Field, JsonValue

from racimo.access.names import parse_asker
from racimo.api.endpoint import LOGGED_IN, Answers, Routes, privilege
from racimo.api.parameters import OfNode, Parameters
from racimo.api.responses import Page, json_value
from racimo.errors import RacimoError
from racimo.task.record import TaskFilter

if TYPE_CHECKING:
    from racimo.api.context import Context
    from racimo.task.record import TaskRecord
    from racimo.task.upid import Upid

MAX_WAIT = 30.0
"""Seconds that a status is held back at most."""
COALESCE = 0.2
"""Seconds in which the changes of a running task are told together."""
PEER_TIMEOUT = 3.0
"""Seconds that one node may take for its part of the list of all tasks."""
CLUSTER_LIMIT = 50
AUDIT = privilege("/nodes/{node}", "Sys.Audit", own="upid")
MODIFY = privilege("/nodes/{node}", "Sys.Modify", own="upid")

routes = Routes()
_log = structlog.get_logger()


class ListTasks(OfNode):
    """Which tasks of a node to list."""

    source: Annotated[Literal["archive", "active", "all"], Field(description="Ended ones, running ones, or both.")] = (
        "archive"
    )
    vmid: Annotated[int | None, Field(ge=0, description="Only tasks about this guest.")] = None
    typefilter: Annotated[str | None, Field(description="Only tasks of this type, such as qmstart.")] = None
    userfilter: Annotated[str | None, Field(description="Only tasks whose user contains this.")] = None
    statusfilter: Annotated[tuple[str, ...], Field(description="ok, error, warning, unknown.")] = ()
    since: Annotated[int | None, Field(ge=0, description="Begun at or after; seconds since the epoch.")] = None
    until: Annotated[int | None, Field(ge=0, description="Begun at or before; seconds since the epoch.")] = None
    errors: Annotated[bool, Field(description="Only those that failed.")] = False
    start: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=0, description="0: all.")] = 50


class OfTask(OfNode):
    """One task."""

    upid: str


class TaskStatus(OfTask):
    """How to wait for news of a task."""

    wait: Annotated[
        float, Field(ge=0, description="Seconds to hold the answer back until there is news, or the task ended.")
    ] = 0.0
    seen: Annotated[int | None, Field(description="The turn that is known; news is any later one.")] = None


class TaskLogPage(OfTask):
    """Which lines of a log."""

    start: Annotated[int, Field(ge=0, description="Lines to leave out at the beginning.")] = 0
    limit: Annotated[int, Field(ge=0, description="0: all.")] = 50


class ClusterLog(Parameters):
    """How much."""

    max: Annotated[int, Field(ge=1, le=1000, description="Entries.")] = 50


@routes.add(
    "GET", "/nodes/{node}/tasks", permission=LOGGED_IN, answers=Answers.NODE, parameters=ListTasks,
    summary="Tasks of a node, newest first",
)  # fmt: skip
async def list_tasks(context: Context, parameters: ListTasks) -> Page:
    """Ended tasks by default, as clients of the Proxmox VE API expect."""
    wanted = TaskFilter(
        running={"archive": False, "active": True, "all": None}[parameters.source],
        kind=parameters.typefilter,
        subject=None if parameters.vmid is None else str(parameters.vmid),
        user=parameters.userfilter,
        since=parameters.since,
        until=parameters.until,
        errors=parameters.errors,
        limit=0,
    )
    tasks = seen_tasks(context, context.services.tasks.list(wanted))
    if parameters.statusfilter:
        tasks = [task for task in tasks if _outcome(task) in parameters.statusfilter]
    end = parameters.start + parameters.limit if parameters.limit else None
    return Page([_listed(task) for task in tasks[parameters.start : end]], len(tasks))


@routes.add(
    "GET", "/nodes/{node}/tasks/{upid}/status", permission=AUDIT, answers=Answers.NODE, parameters=TaskStatus,
    summary="State of a task; with wait, once there is news of it",
)  # fmt: skip
async def task_status(context: Context, parameters: TaskStatus) -> dict[str, JsonValue]:
    """Held back while nothing changes, so that who watches a task need not ask again and again."""
    tasks, wait = context.services.tasks, min(parameters.wait, MAX_WAIT)
    task = tasks.status(parameters.upid)
    if wait and task.running:
        seen = task.turn if parameters.seen is None else parameters.seen
        task = await tasks.wait(task.upid, wait, seen=seen)
        if task.running:
            task = await tasks.wait(task.upid, min(COALESCE, wait))
    shown: dict[str, JsonValue] = {
        **_names(task.upid),
        "status": "running" if task.running else "stopped",
        "progress": round(task.progress, 4),
        "doing": task.doing,
        "phase": str(task.phase),
        "turn": task.turn,
    }
    if not task.running:
        shown |= {"exitstatus": task.exitstatus, "endtime": int(task.end)}
    if task.failure is not None:
        shown["failure"] = json_value(task.failure)
    return shown


@routes.add(
    "GET", "/nodes/{node}/tasks/{upid}/log", permission=AUDIT, answers=Answers.NODE, parameters=TaskLogPage,
    summary="Lines of a task's log",
)  # fmt: skip
async def task_log(context: Context, parameters: TaskLogPage) -> Page:
    """Lines are counted from 1. A task without a word shows one line that says so."""
    lines, total = await context.services.tasks.log(parameters.upid, parameters.start, parameters.limit)
    if total == 0:
        return Page([{"n": 1, "t": "no content"}], 1)
    return Page([{"n": line.n, "t": line.t} for line in lines], total)


@routes.add(
    "DELETE", "/nodes/{node}/tasks/{upid}", permission=MODIFY, answers=Answers.NODE,
    parameters=OfTask, summary="Cancel a task; it undoes what it had begun",
)  # fmt: skip
async def cancel_task(context: Context, parameters: OfTask) -> None:
    """Returns at once; the task's status says when it ended."""
    context.services.tasks.cancel(parameters.upid, context.who.user)


@routes.add("GET", "/cluster/tasks", permission=LOGGED_IN, summary="Recent tasks of all nodes that answer")
async def cluster_tasks(context: Context, parameters: Parameters) -> list[JsonValue]:
    """A node that does not answer in time is left out: its tasks come back with it."""
    return await _recent(context)


async def _recent(context: Context) -> list[JsonValue]:
    services = context.services
    found = seen_tasks(context, services.tasks.list(TaskFilter(limit=0)))[:CLUSTER_LIMIT]
    own: list[JsonValue] = [_listed(task) for task in found]
    async with asyncio.TaskGroup() as group:
        asked = [group.create_task(_tasks_of(context, node)) for node in services.peers.names]
    shown = own + [entry for part in asked for entry in part.result()]
    return sorted(shown, key=_begun, reverse=True)


@routes.add(
    "GET", "/cluster/log", permission=LOGGED_IN, parameters=ClusterLog, summary="What was done lately, newest first"
)
async def cluster_log(context: Context, parameters: ClusterLog) -> list[JsonValue]:
    """The ends of recent tasks of all nodes that answer; of others' tasks only for who may see them."""
    found = await _recent(context)
    ended = [entry for entry in found if isinstance(entry, dict) and "endtime" in entry]
    return [
        {
            "uid": entry["upid"], "id": entry["upid"], "node": entry["node"], "pid": entry["pid"],
            "user": entry["user"], "tag": entry["type"], "time": entry["endtime"],
            "pri": 6 if entry["status"] == "OK" else 4,
            "msg": f"end task {entry['upid']} {entry['status']}",
        }
        for entry in sorted(ended, key=_ended, reverse=True)[: parameters.max]
    ]  # fmt: skip


def _ended(entry: dict[str, JsonValue]) -> int:
    ended = entry["endtime"]
    return ended if isinstance(ended, int) else 0


def seen_tasks(context: Context, tasks: list[TaskRecord]) -> list[TaskRecord]:
    """All with Sys.Audit on the node, else one's own; a user's are those of the user's tokens too."""
    if context.may(f"/nodes/{context.services.node_name}", "Sys.Audit"):
        return tasks
    asker = context.who.asker
    own = [(task, parse_asker(task.upid.user)) for task in tasks]
    return [task for task, by in own if by == asker or (not asker.token and by.user == asker.user)]


async def _tasks_of(context: Context, node: str) -> list[JsonValue]:
    parameters: dict[str, JsonValue] = {"source": "all", "limit": CLUSTER_LIMIT}
    user = context.who.user
    try:
        peers = context.services.peers
        answer = await peers.call(node, "GET", f"/nodes/{node}/tasks", parameters, user=user, timeout=PEER_TIMEOUT)
    except RacimoError as error:
        _log.info("a node's tasks are left out of the list", node=node, error=str(error))
        return []
    return answer if isinstance(answer, list) else []


def _begun(entry: JsonValue) -> int:
    begun = entry.get("starttime") if isinstance(entry, dict) else 0
    return begun if isinstance(begun, int) else 0


def _names(upid: Upid) -> dict[str, JsonValue]:
    return {
        "upid": str(upid), "node": upid.node, "pid": upid.pid, "pstart": upid.serial, "starttime": upid.start,
        "type": upid.kind, "id": upid.subject, "user": upid.user,
    }  # fmt: skip


def _listed(task: TaskRecord) -> dict[str, JsonValue]:
    shown = _names(task.upid)
    if task.running:
        return {**shown, "status": "RUNNING", "progress": round(task.progress, 4), "doing": task.doing}
    return {**shown, "endtime": int(task.end), "status": task.exitstatus}


def _outcome(task: TaskRecord) -> str:
    if task.running:
        return "unknown"
    if not task.succeeded:
        return "error"
    return "ok" if task.exitstatus == "OK" else "warning"
