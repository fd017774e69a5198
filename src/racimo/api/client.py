"""A small client of the API: for the command line, the lab and tests.

Errors of the node are raised again as they were raised there.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, Self
from urllib.parse import quote

import aiohttp
from pydantic import JsonValue, TypeAdapter
from yarl import URL

from racimo.api.exchange import exchange, pairs
from racimo.api.responses import read_answer
from racimo.errors import OperationFailed, Unreachable
from racimo.task.failure import Failure  # noqa: TC001 - read by pydantic
from racimo.task.record import OK
from racimo.task.upid import Upid

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from types import TracebackType

PREFIX = "/api2/json"
LONG_POLL = 20.0
"""Seconds that the node holds a task's status back while nothing changes."""
PATIENCE = 30.0
"""Seconds that a node may be away (its daemon restarting) while a task is waited for."""


@dataclass(frozen=True, slots=True)
class TaskView:
    """A task as the API shows it. ``progress`` from 0 to 1; ``doing`` for people; ``exitstatus`` once it ended."""

    upid: str
    status: str
    exitstatus: str = ""
    progress: float = 0.0
    doing: str = ""
    phase: str = ""
    turn: int = 0
    failure: Failure | None = None


_VIEW: TypeAdapter[TaskView] = TypeAdapter(TaskView)


class ApiClient:
    """Requests to one node. An async context manager; the connection is made with the first request.

    ``timeout`` in seconds bounds each request.
    """

    def __init__(
        self,
        base: URL,
        *,
        whom: str,
        socket: Path | None = None,
        tls: ssl.SSLContext | None = None,
        server_name: str = "",
        timeout: float = 120.0,
    ) -> None:
        self._base, self._whom, self._socket, self._tls = base, whom, socket, tls
        self._server_name, self._timeout = server_name or None, timeout
        self._session: aiohttp.ClientSession | None = None

    @classmethod
    def unix(cls, socket: Path, *, timeout: float = 120.0) -> ApiClient:
        """The daemon of this machine, over its socket."""
        return cls(URL("http://localhost"), whom=f"The node's daemon at {socket}", socket=socket, timeout=timeout)

    @classmethod
    def tls(
        cls, address: str, port: int, context: ssl.SSLContext, *, server_name: str = "", timeout: float = 120.0
    ) -> ApiClient:
        """A node over TLS; ``server_name`` is the node's name where ``address`` is not what its certificate says."""
        base = URL.build(scheme="https", host=address, port=port)
        return cls(base, whom=f"{address}:{port}", tls=context, server_name=server_name, timeout=timeout)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def get(self, path: str, parameters: Mapping[str, JsonValue] | None = None, **more: JsonValue) -> JsonValue:
        """Read. ``path`` is below ``/api2/json``; parameters that are None are left out."""
        return await self.request("GET", path, {**(parameters or {}), **more})

    async def post(self, path: str, parameters: Mapping[str, JsonValue] | None = None, **more: JsonValue) -> JsonValue:
        """Create, or have something done."""
        return await self.request("POST", path, {**(parameters or {}), **more})

    async def put(self, path: str, parameters: Mapping[str, JsonValue] | None = None, **more: JsonValue) -> JsonValue:
        """Change."""
        return await self.request("PUT", path, {**(parameters or {}), **more})

    async def delete(
        self, path: str, parameters: Mapping[str, JsonValue] | None = None, **more: JsonValue
    ) -> JsonValue:
        """Remove."""
        return await self.request("DELETE", path, {**(parameters or {}), **more})

    async def request(
        self, method: str, path: str, parameters: Mapping[str, JsonValue], *, timeout: float | None = None
    ) -> JsonValue:
        """Any method. Raises what the node raised, or ``Unreachable``."""
        given = {name: value for name, value in parameters.items() if value is not None}
        url, body = self._base.join(URL(PREFIX + path, encoded=True)), None
        headers = {}
        if method in ("POST", "PUT"):
            body, headers = json.dumps(given).encode(), {"Content-Type": "application/json"}
        elif given:
            url = url.with_query(pairs(given))
        received = await exchange(
            self._opened(), self._whom, method, url, timeout=timeout or self._timeout, headers=headers, body=body,
            server_hostname=self._server_name,
        )  # fmt: skip
        answer = read_answer(received.status, received.reason, received.body)
        if answer.error is not None:
            raise answer.error
        return answer.data

    async def upload(
        self, path: str, fields: Mapping[str, str], file: BinaryIO, *, name: str, timeout: float
    ) -> JsonValue:
        """Send a file as the part ``filename`` of a form, after ``fields``. Raises what the node raised."""
        form = aiohttp.MultipartWriter("form-data")
        for field, value in fields.items():
            form.append(value).set_content_disposition("form-data", name=field)
        part = form.append(file, {"Content-Type": "application/octet-stream"})
        part.set_content_disposition("form-data", name="filename", filename=name)
        received = await exchange(
            self._opened(), self._whom, "POST", self._base.join(URL(PREFIX + path, encoded=True)), timeout=timeout,
            body=form, server_hostname=self._server_name,
        )  # fmt: skip
        answer = read_answer(received.status, received.reason, received.body)
        if answer.error is not None:
            raise answer.error
        return answer.data

    async def task(self, upid: str, *, wait: float | None = None, seen: int | None = None) -> TaskView:
        """A task's status; with ``wait``, held back up to so many seconds until there is news since ``seen``."""
        path = f"/nodes/{quote(Upid.parse(upid).node)}/tasks/{quote(upid, safe='')}/status"
        return _VIEW.validate_python(await self.get(path, wait=wait, seen=seen))

    async def wait_task(
        self, upid: JsonValue, on_progress: Callable[[TaskView], None] | None = None, *, timeout: float = 3600.0
    ) -> TaskView:
        """Wait until the task ended; raises what it failed with. ``upid`` is what the call that began it returned.

        Raises ``Unreachable`` when its node is away for longer than ``PATIENCE`` or the task takes over ``timeout`` s.
        """
        if not isinstance(upid, str):
            raise OperationFailed("The answer names no task", why=f"it is {upid!r}")
        loop, seen, lost_since = asyncio.get_running_loop(), -1, 0.0
        deadline = loop.time() + timeout
        while loop.time() < deadline:
            try:
                view = await self.task(upid, wait=min(LONG_POLL, max(deadline - loop.time(), 0.1)), seen=seen)
            except Unreachable:
                lost_since = lost_since or loop.time()
                if loop.time() - lost_since > PATIENCE:
                    raise
                await asyncio.sleep(0.5)
                continue
            lost_since, seen = 0.0, view.turn
            if on_progress is not None:
                on_progress(view)
            if view.status != "running":
                return _succeeded(view)
        raise Unreachable(
            f"Task {upid} did not end within {timeout:g} s", why="it still runs", todo="Look at its log, or cancel it",
            may_have_acted=True,
        )  # fmt: skip

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._socket is not None:
                connector = aiohttp.UnixConnector(str(self._socket))
            else:
                connector = aiohttp.TCPConnector(ssl=self._tls or True)
            self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        return self._session


def _succeeded(view: TaskView) -> TaskView:
    if view.exitstatus == OK or view.exitstatus.startswith("WARNINGS: "):
        return view
    if view.failure is not None:
        raise view.failure.error()
    raise OperationFailed(view.exitstatus or "The task ended without a reason")
