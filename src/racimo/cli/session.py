"""A command's conversation with one node: requests, and the few look-ups that every command needs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from racimo.cli.answer import Json, Row, row, rows
from racimo.errors import NotFound, Unreachable
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from racimo.api.client import ApiClient

SOCKET_VARIABLE = "RACIMO_SOCKET"


def default_socket() -> Path:
    """The node that is asked when nothing else is said: ``RACIMO_SOCKET``, else the one on this machine."""
    named = os.environ.get(SOCKET_VARIABLE)
    return Path(named) if named else NodePaths().node_socket


def part(text: str | int) -> str:
    """One element of a path, escaped."""
    return quote(str(text), safe=":")


def is_upid(answer: Json) -> bool:
    """Whether an answer names a task."""
    return isinstance(answer, str) and answer.startswith("UPID:")


def task_path(upid: str) -> str:
    """Where a task is found. Raises ``NotFound`` for a text that is no UPID."""
    pieces = upid.split(":")
    if not is_upid(upid) or len(pieces) < 3 or not pieces[1]:
        raise NotFound(f"There is no task {upid!r}", why="a task's name starts with UPID:", todo="racimo task list")
    return f"/nodes/{part(pieces[1])}/tasks/{part(upid)}"


@dataclass(frozen=True, slots=True)
class Session:
    """The client of one node, with the socket it was reached by."""

    client: ApiClient
    socket: Path

    async def get(self, path: str, /, **parameters: Json) -> Json:
        """Read ``path``; parameters that are None are left out."""
        return await self.client.get(path, parameters)

    async def post(self, path: str, /, **parameters: Json) -> Json:
        """Have something done at ``path``."""
        return await self.client.post(path, parameters)

    async def put(self, path: str, /, **parameters: Json) -> Json:
        """Change what is at ``path``."""
        return await self.client.put(path, parameters)

    async def delete(self, path: str, /, **parameters: Json) -> Json:
        """Remove what is at ``path``."""
        return await self.client.delete(path, parameters)

    async def local_node(self) -> str:
        """The name of the node that answers."""
        for entry in rows(await self.get("/cluster/status")):
            if entry.text("type") == "node" and entry.flag("local"):
                return entry.text("name")
        raise Unreachable(
            "The node asked does not say which one it is",
            why="/cluster/status has no local entry",
            todo="Name the node with --node",
        )

    async def guests(self) -> list[Row]:
        """Every guest of the datacenter, by vmid."""
        entries = rows(await self.get("/cluster/resources", type="vm"))
        return sorted(entries, key=lambda guest: guest.number("vmid") or 0)

    async def guest(self, vmid: int) -> Row:
        """One guest as the datacenter lists it. Raises ``NotFound``."""
        found = next((guest for guest in await self.guests() if guest.number("vmid") == vmid), None)
        if found is None:
            raise NotFound(
                f"Guest {vmid} does not exist", why="no node of the datacenter has it", todo="racimo guest list"
            )
        return found

    async def guest_path(self, vmid: int) -> str:
        """The API path of a guest on the node that owns it. Raises ``NotFound``."""
        return f"/nodes/{part((await self.guest(vmid)).text('node'))}/qemu/{vmid}"

    async def task_status(self, upid: str, *, wait: float | None = None) -> Row:
        """A task's status; with ``wait``, held back up to so many seconds while it runs on unchanged."""
        return row(await self.get(task_path(upid) + "/status", wait=wait))
