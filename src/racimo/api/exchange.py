"""One HTTP exchange with a daemon, with what may go wrong on the way told as ``Unreachable``."""

from __future__ import annotations

import io
import os
import ssl
from typing import TYPE_CHECKING, NamedTuple

import aiohttp

from racimo.errors import Unauthorised, Unreachable

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Mapping

    from pydantic import JsonValue
    from yarl import URL

CONNECT_TIMEOUT = 2.0
"""Seconds for the connection, handshake included."""

LARGE = 1 << 19
"""Bytes of a body from which on it is sent in pieces."""


class Received(NamedTuple):
    """An answer as it came."""

    status: int
    reason: str
    body: bytes
    content_type: str


async def exchange(
    session: aiohttp.ClientSession,
    whom: str,
    method: str,
    url: URL,
    *,
    timeout: float,
    headers: Mapping[str, str] | None = None,
    body: bytes | AsyncIterable[bytes] | aiohttp.MultipartWriter | None = None,
    server_hostname: str | None = None,
) -> Received:
    """Send and receive. ``whom`` says in errors who was asked.

    Raises ``Unreachable`` (``may_have_acted`` once the request was on its way), ``Unauthorised`` for a socket that
    may not be opened.
    """
    content = io.BytesIO(body) if isinstance(body, bytes) and len(body) > LARGE else body
    limits = aiohttp.ClientTimeout(total=timeout, sock_connect=CONNECT_TIMEOUT)
    try:
        async with session.request(
            method, url, headers=headers, data=content, timeout=limits, server_hostname=server_hostname,
            allow_redirects=False,
        ) as answer:  # fmt: skip
            content_type = answer.headers.get("Content-Type", "application/json")
            return Received(answer.status, answer.reason or "", await answer.read(), content_type)
    except aiohttp.ConnectionTimeoutError as error:
        raise _unreachable(whom, f"no connection within {CONNECT_TIMEOUT:g} s") from error
    except aiohttp.ClientConnectorCertificateError as error:
        raise _unreachable(whom, f"its certificate is not accepted ({error.certificate_error})") from error
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, PermissionError):
            raise Unauthorised(f"{whom} may not be asked", why=str(error.os_error), todo="Ask as root") from error
        raise _unreachable(whom, _cause(error.os_error)) from error
    except TimeoutError as error:
        raise _unreachable(whom, f"no answer within {timeout:g} s", sent=True) from error
    except (aiohttp.ClientError, ssl.SSLError, OSError) as error:
        raise _unreachable(whom, f"the connection broke ({error or type(error).__name__})", sent=True) from error


def _cause(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def pairs(parameters: Mapping[str, JsonValue]) -> list[tuple[str, str]]:
    """Parameters as they stand in a query: lists as repeated keys, booleans as 1 and 0, None left out."""
    flat: list[tuple[str, str]] = []
    for name, value in parameters.items():
        parts = value if isinstance(value, list) else [value]
        flat += [(name, str(int(p)) if isinstance(p, bool) else str(p)) for p in parts if p is not None]
    return flat


def _unreachable(whom: str, why: str, *, sent: bool = False) -> Unreachable:
    todo = (
        "It may have done what was asked: look before you try again"
        if sent
        else "See whether it is up: systemctl status racimo-node"
    )
    return Unreachable(f"{whom} did not answer", why=why, todo=todo, may_have_acted=sent)
