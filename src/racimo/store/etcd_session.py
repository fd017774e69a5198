"""The HTTP connections to etcd: kept alive, with a client certificate that may be renewed while they are in use."""

from __future__ import annotations

import asyncio
import ssl
import weakref
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import structlog

from racimo.errors import StoreError, StoreUnavailable

if TYPE_CHECKING:
    from pathlib import Path

LOOK_EVERY = 60.0
"""Seconds between two looks at whether the certificate files were replaced."""

KEEP_ALIVE = 60.0
"""Seconds that an idle connection is kept."""


_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files: the authority that must have signed the members' certificates, and this client's own pair."""

    ca: Path
    cert: Path
    key: Path

    def context(self) -> ssl.SSLContext:
        """A client's TLS 1.2+ context. Raises ``StoreError`` when a file is missing or unfit."""
        try:
            context = ssl.create_default_context(cafile=str(self.ca))
            context.load_cert_chain(self.cert, self.key)
        except (OSError, ssl.SSLError) as error:
            raise StoreError(
                "The certificates for the store cannot be read",
                why=f"{self.ca}, {self.cert}, {self.key}: {error}",
                todo="Renew this node's certificate",
            ) from error
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        return context

    def stamp(self) -> tuple[int, ...]:
        """Changes when one of the files is replaced."""
        try:
            return tuple(path.stat().st_mtime_ns for path in (self.ca, self.cert, self.key))
        except OSError:
            return ()


class Connector(aiohttp.TCPConnector):
    """Remembers its connections: one whose peer fell silent waits for the peer's goodbye for 30 s after it is closed.

    It hooks into a method that aiohttp does not promise to keep; without it they merely linger.
    """

    def __init__(self, *, ssl: ssl.SSLContext | bool, keepalive_timeout: float) -> None:
        super().__init__(ssl=ssl, limit=0, keepalive_timeout=keepalive_timeout)
        self._made: weakref.WeakSet[asyncio.Transport] = weakref.WeakSet()

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> tuple[asyncio.Transport, Any]:
        transport, protocol = await super()._wrap_create_connection(*args, **kwargs)
        self._made.add(transport)
        return transport, protocol

    def abort(self) -> None:
        """Drop what still lingers."""
        for transport in tuple(self._made):
            with suppress(AttributeError):  # some Pythons forget the inner connection of one that was closed twice
                transport.abort()


class Session:
    """One aiohttp session, made anew when the certificate files change."""

    def __init__(self, tls: TlsFiles | None) -> None:
        self._tls = tls
        self._session: aiohttp.ClientSession | None = None
        self._stamp: tuple[int, ...] = ()
        self._looked = 0.0
        self._old: list[aiohttp.ClientSession] = []
        self._closed = False

    async def open(self) -> aiohttp.ClientSession:
        """The session to use for the next request."""
        if self._closed:
            raise StoreUnavailable("The store is closed")
        now = asyncio.get_running_loop().time()
        if self._session is not None and (self._tls is None or now - self._looked < LOOK_EVERY):
            return self._session
        self._looked = now
        stamp = self._tls.stamp() if self._tls else ()
        if self._session is None or stamp != self._stamp:
            try:
                new = self._connect(self._tls.context() if self._tls else None)
            except StoreError as error:
                if self._session is None:
                    raise
                _log.warning("the renewed certificate cannot be read; the old one stays in use", why=str(error))
                return self._session
            if self._session is not None:
                self._old.append(self._session)
            self._session, self._stamp = new, stamp
        return self._session

    async def close(self) -> None:
        """Close every connection; ``open`` refuses from now on."""
        self._closed = True
        for session in [*self._old, *([self._session] if self._session else [])]:
            connector = session.connector
            await session.close()
            if isinstance(connector, Connector):
                connector.abort()
        self._old, self._session = [], None

    @staticmethod
    def _connect(context: ssl.SSLContext | None) -> aiohttp.ClientSession:
        connector = Connector(ssl=context if context is not None else True, keepalive_timeout=KEEP_ALIVE)
        return aiohttp.ClientSession(
            connector=connector, headers={"Content-Type": "application/json"}, trust_env=False, auto_decompress=False
        )
