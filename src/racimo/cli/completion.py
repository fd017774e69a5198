"""Completion of names by asking the node: guests, nodes, storages, tasks.

A shell waits for it at each press of Tab: it is bounded in time, and an error completes to nothing.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import typer

from racimo.cli.answer import Json, rows
from racimo.errors import RacimoError

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.cli.answer import Row

LIMIT = 1.5
"""Seconds that a press of Tab may take."""

Found = list[tuple[str, str]]


def complete_guests(context: typer.Context, incomplete: str) -> Found:
    """Vmids, with the guests' names and nodes as help."""
    return _matching(context, incomplete, "/cluster/resources", _guest)


def complete_sids(context: typer.Context, incomplete: str) -> Found:
    """HA resource ids, such as ``vm:100``."""
    return _matching(context, incomplete, "/cluster/resources", _sid)


def complete_nodes(context: typer.Context, incomplete: str) -> Found:
    """Names of nodes."""
    return _matching(context, incomplete, "/nodes", lambda entry: (entry.text("node"), entry.text("status")))


def complete_storages(context: typer.Context, incomplete: str) -> Found:
    """Names of storages."""
    return _matching(context, incomplete, "/storage", lambda entry: (entry.text("storage"), entry.text("type")))


def complete_tasks(context: typer.Context, incomplete: str) -> Found:
    """UPIDs of the tasks that the datacenter still lists."""
    return _matching(
        context, incomplete, "/cluster/tasks", lambda entry: (entry.text("upid"), entry.text("status", "running"))
    )


def _guest(entry: Row) -> tuple[str, str]:
    return entry.text("vmid"), f"{entry.text('name')} on {entry.text('node')}"


def _sid(entry: Row) -> tuple[str, str]:
    vmid, text = _guest(entry)
    return f"vm:{vmid}" if vmid else "", text


def _matching(context: typer.Context, incomplete: str, path: str, read: Callable[[Row], tuple[str, str]]) -> Found:
    try:
        answer = asyncio.run(_ask(context, path))
    except (RacimoError, OSError, TimeoutError):
        return []
    found = [read(entry) for entry in rows(answer)]
    return [(word, text) for word, text in found if word and word.startswith(incomplete)]


async def _ask(context: typer.Context, path: str) -> Json:
    from racimo.cli.connection import connected
    from racimo.cli.session import default_socket

    socket = context.find_root().params.get("socket") or default_socket()
    async with asyncio.timeout(LIMIT), connected(socket) as session:
        return await session.client.get(path)
