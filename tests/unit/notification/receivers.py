"""A mail server and a webhook's receiver, on loopback: they take what comes, or what a test has them do."""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiohttp import web

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from email.message import EmailMessage


@dataclass
class MailServer:
    """What it got. ``refuses``: recipients that it does not know. ``silent``: it never answers a word."""

    port: int = 0
    mails: list[EmailMessage] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    refuses: set[str] = field(default_factory=set)
    wants: str = ""
    silent: bool = False
    news: asyncio.Event = field(default_factory=asyncio.Event)

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if self.silent:
                await reader.read()
                return
            writer.write(b"220 here\r\n")
            async for line in reader:
                writer.write(await self._answer(line.decode().strip(), reader))
                await writer.drain()
        finally:
            writer.close()

    async def _answer(self, line: str, reader: asyncio.StreamReader) -> bytes:
        verb = line.upper()
        if verb.startswith("EHLO"):
            return b"250-here\r\n250 AUTH PLAIN\r\n"
        if verb.startswith("AUTH PLAIN "):
            login = base64.b64decode(line.split()[2]).decode().strip("\0").replace("\0", ":")
            self.logins.append(login)
            return b"235 in\r\n" if login == self.wants else f"535 not {login}\r\n".encode()
        if verb.startswith("RCPT") and any(name in line for name in self.refuses):
            return b"550 unknown here\r\n"
        if verb == "DATA":
            return b"354 go on\r\n"
        if verb.startswith(("MAIL", "RCPT", "RSET", "QUIT")):
            return b"250 well\r\n"
        text = [line.encode() + b"\r\n"]
        while (more := await reader.readline()) != b".\r\n":
            text.append(more)
        mail = email.message_from_bytes(b"".join(text), policy=email.policy.default)
        self.mails.append(mail)
        self.news.set()
        return b"250 taken\r\n"


@asynccontextmanager
async def mail_server(**what: Any) -> AsyncIterator[MailServer]:
    """Plain SMTP on a port of loopback."""
    mails = MailServer(**what)
    server = await asyncio.start_server(mails.talk, "127.0.0.1", mails.port)
    mails.port = server.sockets[0].getsockname()[1]
    try:
        yield mails
    finally:
        server.close()
        server.close_clients() if hasattr(server, "close_clients") else None
        await server.wait_closed()


@dataclass
class Hook:
    """What was posted to it, and what it answers."""

    url: str = ""
    status: int = 200
    got: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    calls: int = 0
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def hear(self, request: web.Request) -> web.Response:
        self.calls += 1
        if self.status == 200:
            self.got.append(await request.json())
            self.headers.append(dict(request.headers))
        async with self.changed:
            self.changed.notify_all()
        return web.Response(status=self.status, text=f"answer to {request.headers.get('Authorization')}")

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.got]

    async def has(self, count: int) -> list[str]:
        """The titles, once there are ``count``."""
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: len(self.got) >= count)
        return self.titles

    async def was_called(self, count: int) -> None:
        async with asyncio.timeout(10), self.changed:
            await self.changed.wait_for(lambda: self.calls >= count)


@asynccontextmanager
async def hook(status: int = 200, port: int = 0) -> AsyncIterator[Hook]:
    """A webhook's receiver on loopback."""
    heard = Hook(status=status)
    app = web.Application()
    app.router.add_post("/hook", heard.hear)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", port, reuse_address=True)
    await site.start()
    heard.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield heard
    finally:
        await runner.cleanup()
