"""A body that is a form with a file in it: read as it comes, never held whole."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol, TypeVar

from aiohttp import BodyPartReader, ClientPayloadError

from racimo.errors import BadParameter, BadRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from aiohttp import web

T = TypeVar("T")

MULTIPART = "multipart/form-data"
STALL_TIMEOUT = 60.0
"""Seconds without a byte."""
PIECE = 1 << 18
MAX_FIELDS, MAX_FIELD = 20, 4096
"""Fields beside the file, and bytes of one."""


class Sink(Protocol):
    """Takes what comes."""

    async def write(self, piece: bytes) -> None:
        """Add a piece."""

    def discard(self) -> None:
        """Leave nothing of it."""


class Upload:
    """The body of ``request``; it can be read once, here or by the node that it is handed on to."""

    def __init__(self, request: web.Request) -> None:
        self._request = request

    @property
    def size(self) -> int:
        """Bytes of the whole body as announced, 0 where they are not."""
        return self._request.content_length or 0

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it is, to hand on. Raises ``BadRequest``."""
        while True:
            try:
                async with asyncio.timeout(STALL_TIMEOUT):
                    piece = await self._request.content.readany()
            except (TimeoutError, ClientPayloadError, ConnectionError) as error:
                raise _broken(error) from error
            if not piece:
                return
            yield piece

    async def receive(self, begin: Callable[[Mapping[str, str], str], Awaitable[Sink]]) -> tuple[dict[str, str], Sink]:
        """Read it. ``begin`` gets the fields before the file and the file's name, and says where it goes.

        Returns all fields and where the file went. What was begun is discarded when this raises.
        """
        fields: dict[str, str] = {}
        sink: Sink | None = None
        try:
            reader = await self._request.multipart()
            while (part := await self._within(reader.next())) is not None:
                if not isinstance(part, BodyPartReader):
                    raise BadRequest("The form cannot be read", why="it holds another form")
                if part.filename is None:
                    await self._field(part, fields)
                elif sink is not None:
                    raise BadParameter({part.name or "filename": "is a second file"})
                else:
                    sink = await begin(fields, part.filename)
                    while piece := await self._within(part.read_chunk(PIECE)):
                        await sink.write(piece)
            if sink is None:
                raise BadParameter({"filename": "is missing: send the file as a part of this name"})
        except BaseException as error:
            if sink is not None:
                sink.discard()
            if isinstance(error, ClientPayloadError | ConnectionError | ValueError | AssertionError):
                raise _broken(error) from error
            raise
        return fields, sink

    async def _field(self, part: BodyPartReader, fields: dict[str, str]) -> None:
        value = b""
        while piece := await self._within(part.read_chunk(MAX_FIELD)):
            value += piece
            if len(value) > MAX_FIELD:
                raise BadParameter({part.name or "?": f"has over {MAX_FIELD} bytes"})
        if len(fields) >= MAX_FIELDS:
            raise BadRequest("The form cannot be read", why=f"it has over {MAX_FIELDS} fields")
        fields[part.name or "?"] = value.decode(errors="replace")

    async def _within(self, reading: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout(STALL_TIMEOUT):
                return await reading
        except TimeoutError as error:
            raise _broken(error) from error


def _broken(error: BaseException) -> BadRequest:
    why = str(error) or f"nothing came for {STALL_TIMEOUT:g} s"
    return BadRequest("The file did not come whole", why=why[:300], todo="Send it again")
