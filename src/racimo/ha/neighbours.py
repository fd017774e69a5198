"""The HA daemons of a datacenter, speaking with each other past the store: HTTPS with certificates on both sides.

The daemon listens on the node's cluster address, port ``PORT``. A caller is who its certificate says, and so is the one
that answers. It is no part of the API: it must answer while racimo-node does not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import ssl
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import aiohttp
import structlog
from aiohttp import web
from pydantic import TypeAdapter, ValidationError

from racimo.ha.failsafe import Answer, Question

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.ha.clock import Clock
    from racimo.model.node import Node
    from racimo.model.paths import NodePaths

log = structlog.get_logger()

PORT = 8016
PATH = "/extend"
RETRY_S = 2.0
ANSWER_BYTES = 64 * 1024

_question, _answer = TypeAdapter(Question), TypeAdapter(Answer)


def context(paths: NodePaths, purpose: ssl.Purpose) -> ssl.SSLContext:
    """TLS by the datacenter's authority, which the other side must be certified by. Raises ``OSError``."""
    made = ssl.create_default_context(purpose, cafile=str(paths.etc / "ca.crt"))
    made.minimum_version = ssl.TLSVersion.TLSv1_2
    made.verify_mode = ssl.CERT_REQUIRED
    made.load_cert_chain(paths.etc / "node.crt", paths.etc / "node.key")
    return made


class TlsNeighbours:
    """``Neighbours`` over the network. Connections are kept; the certificate is read anew with each that is made."""

    def __init__(self, paths: NodePaths, port: int = PORT) -> None:
        self._paths, self._port = paths, port
        self._session: aiohttp.ClientSession | None = None
        self._stamp = 0

    async def ask(self, member: Node, question: Question) -> Answer:
        body, address = dataclasses.asdict(question), f"[{member.address}]" if ":" in member.address else member.address
        url = f"https://{address}:{self._port}{PATH}"
        try:
            session = await self._open()
            async with session.post(url, json=body, server_hostname=member.name) as response:
                content = await response.content.read(ANSWER_BYTES)
                if response.status != 200:
                    raise OSError(f"it answers {response.status} {response.reason}")
                return _answer.validate_json(content)
        except (aiohttp.ClientError, ValidationError) as error:
            raise OSError(str(error) or type(error).__name__) from error

    async def _open(self) -> aiohttp.ClientSession:
        stamp = (self._paths.etc / "node.crt").stat().st_mtime_ns
        if self._session is None or stamp != self._stamp:
            made = context(self._paths, ssl.Purpose.SERVER_AUTH)
            await self.close()
            self._session, self._stamp = aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=made)), stamp
        return self._session

    async def close(self) -> None:
        """Give the connections back."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()


class Door:
    """Where the other members' questions arrive. ``answer`` must not block."""

    def __init__(
        self, paths: NodePaths, address: str, answer: Callable[[Question], Answer], clock: Clock, port: int = PORT
    ) -> None:
        self._paths, self._address, self._answer, self._clock, self._port = paths, address, answer, clock, port
        self.opened = asyncio.Event()

    async def run(self) -> None:
        """Serve until cancelled. An address that is not there yet is waited for."""
        while True:
            try:
                await self._serve()
            except OSError as error:
                log.warning("the other members cannot reach this HA daemon now", address=self._address, why=str(error))
            await self._clock.sleep(RETRY_S)

    async def _serve(self) -> None:
        app = web.Application(client_max_size=4096)
        app.router.add_post(PATH, self._hear)
        certificate = self._paths.etc / "node.crt"
        async with AsyncExitStack() as stack:
            runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.5)
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
            stamp = certificate.stat().st_mtime_ns
            tls = context(self._paths, ssl.Purpose.CLIENT_AUTH)
            await web.TCPSite(runner, self._address, self._port, ssl_context=tls, reuse_address=True).start()
            self.opened.set()
            try:
                while certificate.stat().st_mtime_ns == stamp:
                    await self._clock.sleep(RETRY_S)
            finally:
                self.opened.clear()

    async def _hear(self, request: web.Request) -> web.Response:
        try:
            question = _question.validate_json(await request.read())
        except ValidationError as error:
            raise web.HTTPBadRequest(reason="not a question") from error
        caller = _common_name(request)
        if caller != question.node:
            raise web.HTTPForbidden(reason=f"{caller} asks for {question.node}")
        return web.json_response(dataclasses.asdict(self._answer(question)))


def _common_name(request: web.Request) -> str:
    certificate = request.get_extra_info("peercert") or {}
    subject = dict(pair for part in certificate.get("subject", ()) for pair in part)
    return str(subject.get("commonName", ""))
