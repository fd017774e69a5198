"""A daemon writes down that it runs on its node now: the record by which locks of the one before can be broken."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from racimo.datacenter.identity import AFTER_REMOVAL
from racimo.errors import StoreError

if TYPE_CHECKING:
    from racimo.datacenter.identity import Identity
    from racimo.model.node import Daemon
    from racimo.store.layout import Layout

log = structlog.get_logger()

RETRY = 1.0
"""Seconds until it is tried again."""
LOOK_AGAIN = 5.0
"""Seconds until a machine that was removed looks again whether it is a node after all, as after a recovery."""


class Announcement:
    """``daemon`` is written only while the datacenter's node of this name is this very machine."""

    def __init__(self, layout: Layout, identity: Identity, daemon: Daemon) -> None:
        self.layout, self.identity, self.daemon = layout, identity, daemon

    async def made(self) -> None:
        """Until it is written. A machine that was removed waits here, for good unless it leaves."""
        said = ""
        while True:
            try:
                removed = await self.attempt()
            except StoreError as error:
                log.warning("the daemon could not announce itself yet", why=str(error))
                await asyncio.sleep(RETRY)
                continue
            if removed is None:
                return
            if removed and removed != said:
                log.error(f"this machine does nothing: {removed}", todo=AFTER_REMOVAL)
                said = removed
            await asyncio.sleep(LOOK_AGAIN if removed else RETRY)

    async def attempt(self) -> str | None:
        """None when it was written; else why this machine is no node any more, or "" when others wrote meanwhile.

        A leave that the daemon before did not finish is over then: the node takes guests again.
        """
        name, layout = self.identity.name, self.layout
        held, own = await layout.daemons.find(name), await layout.nodes.find(name)
        if own is None or own.record.id != self.identity.id:
            return self.identity.removed
        compares = [own.compare, held.compare if held else layout.daemons.absent(name)]
        puts = [layout.daemons.put(name, self.daemon, held)]
        if own.record.leaving:
            puts.append(layout.nodes.put(name, replace(own.record, leaving=False), own))
        return None if await layout.store.txn(compares, puts) is not None else ""
