"""Real servers with certificates of a private authority: SMTP by aiosmtpd, on a port of loopback."""

from __future__ import annotations

import asyncio
import ssl
import time
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from racimo.datacenter.authority import Subject, new_authority, new_key, sign, signing_request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiosmtpd.smtp import Envelope, Session

    from racimo.model.datacenter import Authority


class PrivateAuthority:
    """An authority that no system trusts, and the files of what it signed."""

    def __init__(self, folder: Path, name: str = "grapes") -> None:
        self.folder, self.name = folder, name
        self.authority: Authority = new_authority(name, name, time.time())
        self.file = folder / f"{name}.crt"
        self.file.write_text(self.authority.certificate)

    def server(self, host: str = "mail", *addresses: str, now: float | None = None) -> ssl.SSLContext:
        """A server's context with a certificate for ``host``, 127.0.0.1 and ``addresses``."""
        key = new_key()
        subject, request = Subject(host, "id", self.name), signing_request(key, host)
        certificate = sign(self.authority, request, subject, addresses, time.time() if now is None else now)
        cert_file, key_file = self.folder / f"{self.name}-{host}.crt", self.folder / f"{self.name}-{host}.key"
        cert_file.write_text(certificate)
        key_file.write_text(key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(cert_file, key_file)
        return context


@dataclass
class RealMailServer:
    """What it took: the envelopes, and over which TLS version each came. ``login``: whom it lets in."""

    login: tuple[bytes, bytes] = (b"racimo", b"hush")
    port: int = 0
    taken: list[Envelope] = field(default_factory=list)
    secured: list[str] = field(default_factory=list)

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        transport: Any = server.transport
        secure = transport.get_extra_info("ssl_object")
        self.secured.append(secure.version() if secure else "")
        self.taken.append(envelope)
        return "250 taken"

    def let_in(self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, given: Any) -> AuthResult:
        right = isinstance(given, LoginPassword) and (given.login, given.password) == self.login
        return AuthResult(success=right, handled=False)


@asynccontextmanager
async def real_mail_server(
    starttls: ssl.SSLContext | None = None, implicit: ssl.SSLContext | None = None, address: str = "127.0.0.1"
) -> AsyncIterator[RealMailServer]:
    """Mail is taken only after a login; with ``starttls`` only after that, with ``implicit`` only inside TLS."""
    mails, loop = RealMailServer(), asyncio.get_running_loop()
    sessions: list[SMTP] = []

    def session() -> SMTP:
        sessions.append(SMTP(
            mails, hostname="mail", tls_context=starttls, require_starttls=starttls is not None, auth_required=True,
            auth_require_tls=starttls is not None, authenticator=mails.let_in, loop=loop,
        ))  # fmt: skip
        return sessions[-1]

    server = await loop.create_server(session, address, 0, ssl=implicit)
    mails.port = server.sockets[0].getsockname()[1]
    try:
        yield mails
    finally:
        server.close()
        for each in sessions:
            if each.transport is not None and not each.transport.is_closing():
                each.transport.abort()
        await server.wait_closed()
