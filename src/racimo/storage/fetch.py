"""Fetching a file from a web server: where to may be bounded to public addresses, redirections included."""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
import ssl
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver
from yarl import URL

from racimo.errors import BadParameter, OperationFailed, Refused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MAX_REDIRECTS = 5
CONNECT_TIMEOUT, SILENCE_TIMEOUT = 10.0, 60.0
"""Seconds for a connection, and without a byte."""
MAX_SIZE = 1 << 40
"""Bytes of a file at most."""
PIECE = 1 << 18
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NAME = re.compile(r'filename="?([^";]+)"?')


@dataclass(frozen=True, slots=True)
class Remote:
    """A file to fetch. ``anywhere``: also from private and local addresses. ``verify``: check certificates."""

    url: str
    verify: bool = True
    anywhere: bool = False

    def validate(self) -> None:
        """Raises ``BadParameter`` for what is no web address."""
        try:
            url = URL(self.url)
        except ValueError as error:
            raise BadParameter({"url": str(error)}) from error
        if url.scheme not in ("http", "https") or not url.host:
            raise BadParameter({"url": "is no address of the form https://host/path"})


@dataclass(frozen=True, slots=True)
class Offered:
    """What a web server says of a file. ``size`` in bytes, 0 where it does not say."""

    name: str
    size: int
    kind: str


def is_public(address: str) -> bool:
    """Whether an address is one of the internet's, not of a private network, this machine or a metadata service."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            found = inner
    return found.is_global and not found.is_multicast


class _Public(AbstractResolver):
    """Resolves names; one with any address that is not public has none."""

    def __init__(self) -> None:
        self._inner = ThreadedResolver()

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """By the system's resolver. Raises ``_NotPublic``."""
        found = await self._inner.resolve(host, port, family)
        for each in found:
            if not is_public(each["host"]):
                raise _NotPublic(host, each["host"])
        return found

    async def close(self) -> None:
        """Nothing is held."""
        await self._inner.close()


class _NotPublic(OSError):
    def __init__(self, host: str, address: str) -> None:
        super().__init__(f"{host} is {address}, which is not a public address")


@asynccontextmanager
async def opened(remote: Remote, method: str = "GET") -> AsyncIterator[aiohttp.ClientResponse]:
    """The answer of who has the file. Raises ``BadParameter``, ``Refused``, ``OperationFailed``."""
    remote.validate()
    trust: ssl.SSLContext | bool = ssl.create_default_context() if remote.verify else False
    resolver: AbstractResolver = ThreadedResolver() if remote.anywhere else _Public()
    limits = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT, sock_read=SILENCE_TIMEOUT)
    connector = aiohttp.TCPConnector(ssl=trust, resolver=resolver, force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=limits, auto_decompress=False, headers={"Accept-Encoding": "identity"}
    ) as session:
        url = URL(remote.url)
        try:
            for _ in range(MAX_REDIRECTS + 1):
                _demand_public(url, remote)
                async with session.request(method, url, allow_redirects=False) as answer:
                    where = answer.headers.get("Location")
                    if answer.status not in (301, 302, 303, 307, 308) or not where:
                        _demand_ok(answer, url)
                        yield answer
                        return
                    url = url.join(URL(where))
            raise OperationFailed(f"{remote.url} was not fetched", why=f"it redirects over {MAX_REDIRECTS} times")
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            cause = getattr(error, "os_error", None)
            if isinstance(cause, _NotPublic) or isinstance(error.__cause__, _NotPublic):
                raise _refused(remote, str(cause or error.__cause__)) from error
            why = str(error) or f"no byte came within {SILENCE_TIMEOUT:g} s"
            raise OperationFailed(f"{remote.url} was not fetched", why=why, todo="Check the address") from error
        finally:
            await resolver.close()


async def look(remote: Remote) -> Offered:
    """What there is, without fetching it."""
    async with asyncio.timeout(CONNECT_TIMEOUT + SILENCE_TIMEOUT), opened(remote, "HEAD") as answer:
        return _offered(answer)


async def pieces(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The file, piece by piece. Raises ``OperationFailed`` when it is longer than may be, or breaks off."""
    came = 0
    try:
        async for piece in answer.content.iter_chunked(PIECE):
            came += len(piece)
            if came > MAX_SIZE:
                raise OperationFailed("The file was not fetched", why=f"it has over {MAX_SIZE} bytes")
            yield piece
    except (aiohttp.ClientError, TimeoutError) as error:
        raise OperationFailed("The file was not fetched whole", why=f"it broke off after {came} bytes") from error


def _offered(answer: aiohttp.ClientResponse) -> Offered:
    named = _NAME.search(answer.headers.get("Content-Disposition", ""))
    name = named[1] if named else unquote(answer.url.path.rpartition("/")[2])
    return Offered(name.rpartition("/")[2], answer.content_length or 0, answer.content_type)


def _demand_ok(answer: aiohttp.ClientResponse, url: URL) -> None:
    if answer.status != 200:
        raise OperationFailed(f"{url.with_query(None)} was not fetched", why=f"{answer.status} {answer.reason}")


def _demand_public(url: URL, remote: Remote) -> None:
    if url.scheme not in ("http", "https") or not url.host:
        raise _refused(remote, f"it redirects to '{url.scheme}'")
    try:
        literal = str(ipaddress.ip_address(url.host))
    except ValueError:
        return
    if not remote.anywhere and not is_public(literal):
        raise _refused(remote, f"{literal} is not a public address")


def _refused(remote: Remote, why: str) -> Refused:
    return Refused(
        f"{URL(remote.url).with_query(None)} was not fetched", why=why,
        todo="Have it done by somebody with Sys.Modify on /, who may reach private networks",
    )  # fmt: skip
