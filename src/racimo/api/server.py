"""The HTTP server: the unix socket for root of this node, TLS on port 8006 for everybody else."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from racimo.api.body import MAX_BODY, Bodies
from racimo.api.context import Origin, Who
from racimo.api.credentials import asker, credentials
from racimo.api.dispatch import Dispatcher
from racimo.api.incoming import Incoming
from racimo.api.listen import tcp_socket, unix_socket
from racimo.api.peers import FORWARDED_HEADER, USER_HEADER
from racimo.api.responses import Reply, failure
from racimo.api.schema import openapi
from racimo.api.upload import MULTIPART, Upload
from racimo.errors import NotImplementedHere, RacimoError
from racimo.task.runner import ROOT
from racimo.task.settle import settled

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from racimo.api.endpoint import Table
    from racimo.api.services import Services
    from racimo.api.tls import TlsFiles

PORT = 8006
IDLE_TIMEOUT = 75.0
"""Seconds that a connection may stand without a whole request."""
CLOSE_TIMEOUT = 10.0
"""Seconds that changes under way have to end when the server closes."""
_FORMATS = ("/api2/json", "/api2/extjs")

_log = structlog.get_logger()


class ApiServer:
    """Serves ``table``. ``is_peer(name, node_id)`` says whether a certificate's subject is a node of today.

    Make it inside the event loop, then ``serve_unix`` and ``serve_tls``; the latter again after certificates changed.
    """

    def __init__(
        self,
        table: Table,
        services: Services,
        is_peer: Callable[[str, str], bool] = lambda name, node_id: False,
        *,
        idle_timeout: float = IDLE_TIMEOUT,
    ) -> None:
        self._dispatcher, self._services, self._is_peer = Dispatcher(table, services), services, is_peer
        self._idle_timeout = idle_timeout
        self._bodies = Bodies()
        self._schema = openapi(table)
        self._runner: web.AppRunner | None = None
        self._unix: tuple[web.SockSite, Path] | None = None
        self._tls: web.SockSite | None = None
        self._listener: socket.socket | None = None
        self._reads: set[asyncio.Task[Reply]] = set()
        self._writes: set[asyncio.Task[Reply]] = set()

    @property
    def port(self) -> int:
        """The TCP port served, 0 while there is none."""
        return int(self._listener.getsockname()[1]) if self._listener else 0

    async def serve_unix(self, path: Path) -> None:
        """Serve root of this node at ``path``. Raises ``Conflict`` when somebody serves there already."""
        listener = unix_socket(path)
        site = web.SockSite(await self._started(), listener)
        await site.start()
        self._unix = (site, path)

    async def serve_tls(self, tls: TlsFiles, host: str | None = None, port: int = PORT) -> None:
        """Serve over TLS; called again, use these certificates for new connections. Raises ``OperationFailed``.

        The address is bound once: later calls keep it. ``host`` None is every address, IPv4 and IPv6.
        """
        context = tls.server_context()
        if self._listener is None:
            self._listener = tcp_socket(host, port)
        site = web.SockSite(await self._started(), self._listener.dup(), ssl_context=context)
        if self._tls is not None:
            await self._tls.stop()
        await site.start()
        self._tls = site

    async def stop_tls(self) -> None:
        """Serve over TLS no more; the unix socket stays."""
        if self._tls is not None:
            await self._tls.stop()
            self._tls = None
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def close(self) -> None:
        """Take no more requests; break off reads, let changes end, close."""
        await self.stop_tls()
        if self._unix is not None:
            site, path = self._unix
            with suppress(FileNotFoundError):
                path.unlink()
            await site.stop()
            self._unix = None
        for task in self._reads:
            task.cancel()
        if self._writes:
            await asyncio.wait(self._writes, timeout=CLOSE_TIMEOUT)
        for task in self._writes:
            task.cancel()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _started(self) -> web.AppRunner:
        if self._runner is None:
            app = web.Application(client_max_size=MAX_BODY)
            app.router.add_route("*", "/{path:(?s:.*)}", self._handle)  # a line break in a path is a character too
            self._runner = web.AppRunner(
                app, handle_signals=False, access_log=None, handler_cancellation=True, shutdown_timeout=2.0,
                keepalive_timeout=self._idle_timeout, max_line_size=16384, max_field_size=16384,
            )  # fmt: skip
            await self._runner.setup()
        return self._runner

    async def _handle(self, request: web.Request) -> web.Response:
        begun, who = time.monotonic(), Who(Origin.NETWORK)
        try:
            who = self._who(request)
            reply = await self._reply(request, who)
        except RacimoError as error:
            reply = failure(error)
        took = round((time.monotonic() - begun) * 1000, 1)
        log = _log.debug if request.method == "GET" and reply.status < 400 else _log.info
        log("request", method=request.method, path=request.rel_url.raw_path, status=reply.status, ms=took,
            origin=str(who.origin), user=who.user, node=who.node, address=who.address, reason=reply.reason)  # fmt: skip
        return web.Response(
            status=reply.status, reason=reply.reason, body=reply.body,
            headers={"Content-Type": reply.content_type, "Cache-Control": "no-store"},
        )  # fmt: skip

    async def _reply(self, request: web.Request, who: Who) -> Reply:
        path = request.rel_url.raw_path
        if path == "/api2/openapi.json":
            return Reply(200, "OK", self._schema)
        prefix = next((prefix for prefix in _FORMATS if path == prefix or path.startswith(prefix + "/")), None)
        if prefix is None:
            raise NotImplementedHere(f"No such path '{path[:200]}'", why="the API is served under /api2/json")
        upload = self._upload(request, who, path.removeprefix(prefix))
        if upload is not None:
            incoming = Incoming(
                who=who, method=request.method, path=path.removeprefix(prefix),
                query=request.rel_url.raw_query_string, content_type=request.headers.get("Content-Type", ""),
                extjs=prefix.endswith("extjs"), upload=upload,
                forwarded_by=request.headers.get(FORWARDED_HEADER, "") if who.origin is Origin.PEER else "",
            )  # fmt: skip
            return await _to_the_end(asyncio.create_task(self._dispatcher.answer(incoming)), self._writes)
        async with self._bodies.of(request, stranger=not who.user) as body:
            incoming = Incoming(
                who=who,
                method=request.method,
                path=path.removeprefix(prefix),
                query=request.rel_url.raw_query_string,
                content_type=request.headers.get("Content-Type", ""),
                body=body,
                extjs=prefix.endswith("extjs"),
                forwarded_by=request.headers.get(FORWARDED_HEADER, "") if who.origin is Origin.PEER else "",
            )
            task = asyncio.create_task(self._dispatcher.answer(incoming))
            if request.method == "GET":
                return await _until_gone(task, self._reads)
            return await _to_the_end(task, self._writes)

    def _upload(self, request: web.Request, who: Who, path: str) -> Upload | None:
        """The body as a file that comes, for somebody who is logged in and a row that takes one."""
        if request.method != "POST" or request.content_type != MULTIPART or not who.user:
            return None
        try:
            match = self._dispatcher.table.match(request.method, path)
        except NotImplementedHere:
            return None
        return Upload(request) if match.endpoint.upload else None

    def _who(self, request: web.Request) -> Who:
        transport = request.transport
        if transport is None:
            return Who(Origin.NETWORK)
        connection: socket.socket = transport.get_extra_info("socket")
        if connection.family == socket.AF_UNIX:
            return _local(connection)
        address = request.remote or ""
        names = _subject(transport.get_extra_info("peercert") or {})
        name, node_id = names.get("commonName", ""), names.get("organizationalUnitName", "")
        if not name or not self._is_peer(name, node_id):
            return asker(credentials(request.headers, request.method), address, self._services)
        return Who(Origin.PEER, user=request.headers.get(USER_HEADER, ROOT), node=name, address=address)


async def _until_gone(task: asyncio.Task[Reply], registry: set[asyncio.Task[Reply]]) -> Reply:
    """A read: broken off when who asked is gone, also where it was forwarded to."""
    registry.add(task)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.cancel()
        await settled(task)
        raise
    finally:
        registry.discard(task)


async def _to_the_end(task: asyncio.Task[Reply], registry: set[asyncio.Task[Reply]]) -> Reply:
    """A change: goes on to its end though who asked be gone; its row's time-out bounds it."""
    registry.add(task)
    task.add_done_callback(registry.discard)
    return await asyncio.shield(task)


def _local(connection: socket.socket) -> Who:
    """Who is at the other end of a unix socket: root, or the user that the daemon runs as (unix(7), SO_PEERCRED)."""
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, uid, _ = struct.unpack("3i", credentials)
    return Who(Origin.LOCAL, user=ROOT if uid in (0, os.geteuid()) else "", address=f"pid {pid}")


def _subject(certificate: dict[str, object]) -> dict[str, str]:
    """The subject's attributes, by name, of a certificate as ``ssl`` shows it."""
    subject = certificate.get("subject", ())
    parts = subject if isinstance(subject, tuple) else ()
    return {str(name): str(value) for part in parts for name, value in part}
