"""Reading the bodies of requests, so that no sender and no crowd of them fills the memory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from aiohttp import ClientPayloadError

from racimo.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiohttp import web

MAX_BODY = 4 << 20
"""Bytes of a request's body."""
STRANGERS = 32 << 20
"""Bytes of the bodies, all together, of those who are not logged in."""
BODY_TIMEOUT = 30.0
"""Seconds in which a body must have come."""


class Bodies:
    """Reads them. ``strangers`` bounds the bytes held for those who are not logged in."""

    def __init__(self, strangers: int = STRANGERS) -> None:
        self._bound, self.held = strangers, 0

    @asynccontextmanager
    async def of(self, request: web.Request, *, stranger: bool) -> AsyncIterator[bytes]:
        """The body, accounted for until the block ends. Raises ``BadRequest``."""
        taken = 0
        try:
            chunks: list[bytes] = []
            size = 0
            if (request.content_length or 0) > MAX_BODY:
                raise _too_large()
            try:
                async with asyncio.timeout(BODY_TIMEOUT):
                    async for chunk in request.content.iter_any():
                        size += len(chunk)
                        if size > MAX_BODY:
                            raise _too_large()
                        if stranger:
                            self.held += len(chunk)
                            taken += len(chunk)
                            self._demand_room()
                        chunks.append(chunk)
            except TimeoutError as error:
                why = f"it was not complete after {BODY_TIMEOUT:g} s"
                raise BadRequest("The body did not come", why=why) from error
            except ClientPayloadError as error:
                raise BadRequest("The body cannot be read", why=str(error)) from error
            yield b"".join(chunks)
        finally:
            self.held -= taken

    def _demand_room(self) -> None:
        if self.held > self._bound:
            raise BadRequest(
                "Too many bodies at once", why=f"over {self._bound >> 20} MiB came from who is not logged in",
                todo="Try again shortly, or log in first",
            )  # fmt: skip


def _too_large() -> BadRequest:
    return BadRequest("The body is too large", why=f"at most {MAX_BODY >> 20} MiB are read")
