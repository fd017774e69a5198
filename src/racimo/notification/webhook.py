"""A message by HTTP."""

from __future__ import annotations

import json
import ssl
from typing import TYPE_CHECKING

import aiohttp

from racimo.notification.template import document, filled
from racimo.notification.undelivered import Undelivered

if TYPE_CHECKING:
    from racimo.model.notification import Message, Target

TRY_AGAIN = (408, 425, 429)
"""Answers of the 4xx kind that ask for another try (RFC 9110, RFC 6585)."""
SAID_CHARS = 200


async def call_webhook(message: Message, target: Target, timeout: float) -> None:
    """Call it; any answer of the 2xx kind is a success. Redirections are not followed: headers may be secret."""
    headers = {name: filled(value, message, target.secrets) for name, value in target.headers.items()}
    body = filled(target.body, message, target.secrets) if target.body else json.dumps(document(message))
    if target.method != "get" and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = "application/json"
    headers.setdefault("User-Agent", "Racimo")
    url = filled(target.url, message, target.secrets)
    limit = aiohttp.ClientTimeout(total=timeout)
    connector = aiohttp.TCPConnector(force_close=True, ssl=ssl.create_default_context())  # whom the system trusts now
    try:
        async with (
            aiohttp.ClientSession(timeout=limit, connector=connector) as session,
            session.request(
                target.method, url, data=None if target.method == "get" else body.encode(), headers=headers,
                allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            said = (await answer.content.read(4 * SAID_CHARS)).decode(errors="replace")[:SAID_CHARS]
    except aiohttp.InvalidURL:
        raise Undelivered("its URL is not one", refused=True) from None
    except TimeoutError:
        raise Undelivered(f"no answer within {timeout:g} s") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise Undelivered(str(error) or type(error).__name__) from error
    if not 200 <= answer.status < 300:
        refused = 300 <= answer.status < 500 and answer.status not in TRY_AGAIN
        raise Undelivered(f"the answer is {answer.status} {answer.reason}: {' '.join(said.split())}", refused=refused)
