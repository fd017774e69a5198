"""``racimo status``: the screen for three in the morning.

Is there quorum, who is missing, what is not running that should, what failed.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import typer

from racimo.cli.answer import Json, Row, rows
from racimo.cli.command import command
from racimo.cli.commands.cluster import members, quorum
from racimo.cli.commands.ha import troubled
from racimo.cli.commands.task import COLUMNS, outcome
from racimo.cli.parameters import vmid_of
from racimo.cli.session import Session
from racimo.cli.view import Column, Facts, Page, Table, View
from racimo.errors import NotClustered, NotImplementedHere, StoreError, Unreachable

if TYPE_CHECKING:
    from collections.abc import Awaitable

RECENT = 86400.0
"""Seconds back in which a failed task is still worth a line."""
FAILED_SHOWN = 5


def register(app: typer.Typer) -> None:
    """Add the command to the top of ``app``."""
    command(
        app, "status", example="racimo status",
        then="racimo ha status for what HA does about it, racimo task log UPID for a failure",
    )(status)  # fmt: skip


async def status(session: Session) -> Page:
    """Show how the datacenter is: quorum, nodes, guests that should run and do not, tasks that failed."""
    whole = rows(await session.get("/cluster/status"))
    resources = rows(await _or_nothing(session.get("/cluster/resources")))
    services = [entry for entry in rows(await _or_nothing(session.get("/cluster/ha/status/current"))) if "sid" in entry]
    tasks = rows(await _or_nothing(session.get("/cluster/tasks")))
    guests = [entry for entry in resources if entry.text("type") in ("qemu", "vm")]
    down = missing_guests(guests, services)
    failed = failed_tasks(tasks, time.time())
    return _page(whole, guests, down, failed)


def missing_guests(guests: list[Row], services: list[Row]) -> list[Row]:
    """Guests that should run and do not: those under HA that are not as wanted, with the reason."""
    running = {guest.number("vmid") for guest in guests if guest.text("status") == "running"}
    found = []
    for service in services:
        vmid = vmid_of(service.text("sid"))
        wanted = service.text("request_state") == "started"
        if troubled(service) or (wanted and vmid not in running):
            found.append(service)
    return found


def failed_tasks(tasks: list[Row], now: float) -> list[Row]:
    """Tasks of the last day that ended badly, newest first."""
    bad = [
        task
        for task in tasks
        if (task.number("endtime") or 0) > now - RECENT
        and outcome(task) not in ("OK", "running")
        and not outcome(task).startswith("WARNINGS")
    ]
    return sorted(bad, key=lambda task: -(task.number("endtime") or 0))


def _page(whole: list[Row], guests: list[Row], down: list[Row], failed: list[Row]) -> Page:
    cluster = next((entry for entry in whole if entry.text("type") == "cluster"), Row({}))
    nodes = [entry for entry in whole if entry.text("type") == "node"]
    quorate = cluster.flag("quorate") or not cluster.fields
    online = [node for node in nodes if node.flag("online")]
    running = [guest for guest in guests if guest.text("status") == "running"]
    lines = [
        ("Datacenter", cluster.text("name") or "this node stands alone"),
        ("Quorum", quorum(cluster)),
        ("Nodes", f"{len(online)} of {len(nodes)} online"),
        ("Guests", f"{len(running)} of {len(guests)} running"),
        ("Not as wanted", str(len(down)) if down else "none"),
        ("Failed tasks", f"{len(failed)} in the last day" if failed else "none in the last day"),
    ]
    parts: list[View] = [Facts(lines, None)]
    if len(online) < len(nodes):
        parts.append(members(nodes))
    if down:
        columns = [
            Column("Guest", lambda entry: entry.text("sid")),
            Column("State", lambda entry: entry.text("state")),
            Column("Wanted", lambda entry: entry.text("request_state")),
            Column("Node", lambda entry: entry.text("node")),
            Column("Why", lambda entry: entry.text("why") or entry.text("status")),
        ]
        parts.append(Table(columns, down, "", title="Not as wanted"))
    if failed:
        parts.append(Table(COLUMNS, failed[:FAILED_SHOWN], "", title="Failed tasks"))
    document: dict[str, Json] = {
        "quorate": quorate,
        "datacenter": cluster.text("name"),
        "nodes": [node.fields for node in nodes],
        "guests": {"total": len(guests), "running": len(running)},
        "not_as_wanted": [entry.fields for entry in down],
        "failed_tasks": [task.fields for task in failed],
    }
    return Page(parts, document)


async def _or_nothing(question: Awaitable[Json]) -> Json:
    """The answer; nothing when the datacenter cannot give it just now. The page is worth most then."""
    try:
        return await question
    except (StoreError, Unreachable, NotClustered, NotImplementedHere):
        return []
