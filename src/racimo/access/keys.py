"""The key that tickets are signed with: made once for the datacenter, kept sealed in the store."""

from __future__ import annotations

import asyncio
import base64
import secrets
from typing import TYPE_CHECKING

import structlog

from racimo.access.tickets import TicketSigner
from racimo.errors import AlreadyExists, Conflict, RacimoError
from racimo.model.access import TicketKey
from racimo.store.mirror import MirroredCollection

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror
    from racimo.store.sealing import Sealing

CURRENT = "current"
KEY_BYTES = 32
RETRY = 1.0
"""Seconds until it is tried again to make the key: the key that it is sealed with may still be on its way."""

_log = structlog.get_logger()


class TicketKeys:
    """Hands out the signer. ``wall`` gives seconds since the epoch."""

    def __init__(self, layout: Layout, mirror: Mirror, sealing: Sealing, wall: Callable[[], float]) -> None:
        self._layout, self._sealing, self._wall = layout, sealing, wall
        self._copy = MirroredCollection(mirror, layout.ticket_keys)
        self._opened: tuple[str, TicketSigner] | None = None

    def signer(self) -> TicketSigner:
        """Raises ``Conflict`` while this node has no key, or cannot open it."""
        held = self._copy.find(CURRENT)
        if held is None:
            raise Conflict("Nobody can log in yet", why="the key that signs tickets is not made yet", todo="Try again")
        sealed = held.record.secret
        if self._opened is None or self._opened[0] != sealed:
            opened = self._sealing.open_record(held.key, held.record)
            self._opened = (sealed, TicketSigner(base64.b64decode(opened.secret)))
        return self._opened[1]

    async def make(self) -> None:
        """Make the key if there is none; raises ``RacimoError`` when that cannot be done now."""
        collection = self._layout.ticket_keys
        if await collection.find(CURRENT) is not None:
            return
        plain = TicketKey(secret=base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode(), created=self._wall())
        try:
            await collection.create(CURRENT, self._sealing.seal_record(collection.key(CURRENT), plain))
        except AlreadyExists:
            return
        _log.info("made the key that signs tickets")

    async def keep(self) -> None:
        """Try until there is one."""
        said = ""
        while True:
            try:
                await self.make()
            except RacimoError as error:
                if str(error) != said:
                    _log.info("the key that signs tickets cannot be made yet", why=str(error))
                said = str(error)
                await asyncio.sleep(RETRY)
            else:
                return
