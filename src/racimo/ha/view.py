"""The records that HA decides by, kept in memory by a watch. Each transaction is applied whole."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

from racimo.errors import StoreError
from racimo.model.ha import Heartbeat
from racimo.store.layout import ROOT, Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.ha.clock import Clock
    from racimo.model.datacenter import Datacenter
    from racimo.model.fence import FenceCheck, FenceDevice, Fencing
    from racimo.model.guest import Guest, Lock, Runtime
    from racimo.model.ha import (
        Arming,
        Balance,
        Maintenance,
        ManagerTerm,
        NodeStatus,
        Outcome,
        Resource,
        Service,
    )
    from racimo.model.node import Node
    from racimo.model.rule import Rule
    from racimo.model.storage import Storage
    from racimo.store.base import Store
    from racimo.store.collection import Collection, Held

log = structlog.get_logger()

RETRY_S = 0.5

TABLES = (
    "datacenter",
    "nodes",
    "guests",
    "runtimes",
    "storages",
    "locks",
    "resources",
    "heartbeats",
    "manager",
    "node_statuses",
    "services",
    "outcomes",
    "fence_devices",
    "fencings",
    "fence_checks",
    "maintenance",
    "arming",
    "balance",
    "rules",
)


class Records:
    """All records that HA decides by, by collection and name, as of ``revision`` (0: nothing was read yet)."""

    def __init__(self) -> None:
        self.revision = 0
        self.datacenter: dict[str, Held[Datacenter]] = {}
        self.nodes: dict[str, Held[Node]] = {}
        self.guests: dict[str, Held[Guest]] = {}
        self.runtimes: dict[str, Held[Runtime]] = {}
        self.storages: dict[str, Held[Storage]] = {}
        self.locks: dict[str, Held[Lock]] = {}
        self.resources: dict[str, Held[Resource]] = {}
        self.heartbeats: dict[str, Held[Heartbeat]] = {}
        self.manager: dict[str, Held[ManagerTerm]] = {}
        self.node_statuses: dict[str, Held[NodeStatus]] = {}
        self.services: dict[str, Held[Service]] = {}
        self.outcomes: dict[str, Held[Outcome]] = {}
        self.fence_devices: dict[str, Held[FenceDevice]] = {}
        self.fencings: dict[str, Held[Fencing]] = {}
        self.fence_checks: dict[str, Held[FenceCheck]] = {}
        self.maintenance: dict[str, Held[Maintenance]] = {}
        self.arming: dict[str, Held[Arming]] = {}
        self.balance: dict[str, Held[Balance]] = {}
        self.rules: dict[str, Held[Rule]] = {}

    def copy(self) -> Records:
        """The records of this moment: what a decision was based on stays what it was while others write."""
        copy = Records()
        copy.revision = self.revision
        for name in TABLES:
            setattr(copy, name, dict(getattr(self, name)))
        return copy


class View(Records):
    """The records as a watch keeps them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__()
        self.layout, self.clock = Layout(store), clock
        self._tables: list[tuple[Collection[Any], dict[str, Held[Any]]]] = [
            (getattr(self.layout, name), getattr(self, name)) for name in TABLES
        ]
        self._table_of: dict[str, tuple[Collection[Any], dict[str, Held[Any]]] | None] = {}
        self.renewed: list[str] | None = None
        """While listeners are called: the nodes whose heartbeats were renewed, where nothing else happened."""
        self._listeners: list[Callable[[], None]] = []
        self._deciders: list[Callable[[], None]] = []
        self._patience: asyncio.Timeout | None = None

    @property
    def store(self) -> Store:
        """What is watched."""
        return self.layout.store

    def listen(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after each change; it must not block."""
        self._listeners.append(listener)

    def listen_to_news(self, listener: Callable[[], None]) -> None:
        """Like ``listen``, but not for a heartbeat that only says that its node goes on as before."""
        self._deciders.append(listener)

    def restart(self, why: str) -> None:
        """Leave the present watch, list again and watch from there."""
        log.warning("the view of the store is read anew", why=why, revision=self.revision)
        if self._patience is not None and not self._patience.expired():
            self._patience.reschedule(asyncio.get_running_loop().time())

    async def run(self) -> None:
        """Read and follow, for ever. Errors of the store are waited out."""
        while True:
            try:
                async with asyncio.timeout(None) as self._patience:
                    await self._read()
                    await self._follow()
            except StoreError as error:
                log.info("the store cannot be watched now", why=str(error))
            except TimeoutError:
                continue
            finally:
                self._patience = None
            await self.clock.sleep(RETRY_S)

    async def _read(self) -> None:
        listing = await self.store.list(ROOT)
        for _, records in self._tables:
            records.clear()
        for stored in listing.records:
            self._apply(stored.key, stored.value, stored.revision)
        self.revision = listing.revision
        self._tell(news=True)

    async def _follow(self) -> None:
        async with aclosing(self.store.watch(ROOT, self.revision)) as changes:  # type: ignore[type-var]
            async for change in changes:
                news = [self._apply(event.key, event.value, event.revision) for event in change.events]
                self.revision = change.revision
                if not any(news):
                    beats = self.layout.heartbeats.prefix
                    keys = (event.key for event in change.events)
                    self.renewed = [key.removeprefix(beats) for key in keys if key.startswith(beats)]
                self._tell(news=any(news))
                self.renewed = None

    def _apply(self, key: str, value: bytes | None, revision: int) -> bool:
        """Take one record over; whether there is anything new about it."""
        if key not in self._table_of:
            tables = (table for table in self._tables if key.startswith(table[0].prefix))
            self._table_of[key] = next(tables, None)
        table = self._table_of[key]
        if table is None:
            return False
        collection, records = table
        name = key.removeprefix(collection.prefix)
        if value is None:
            records.pop(name, None)
            return True
        try:
            old = records.get(name)
            records[name] = new = self.decode(collection, key, value, revision)
            return old is None or not _same_life(old.record, new.record)
        except StoreError:
            records.pop(name, None)
            log.exception("a record is passed over", key=key)
            return True

    def decode(self, collection: Collection[Any], key: str, value: bytes, revision: int) -> Held[Any]:
        """One record as it is stored. ``StoreError`` when it cannot be read."""
        return collection.decode(key, value, revision)

    def _tell(self, *, news: bool) -> None:
        for listener in self._listeners:
            listener()
        for listener in self._deciders if news else ():
            listener()


def _same_life(old: object, new: object) -> bool:
    """Two heartbeats of one incarnation, in the same mode; how quick they were is no news."""
    if not isinstance(old, Heartbeat) or not isinstance(new, Heartbeat):
        return False
    return replace(old, sequence=new.sequence, commit_ms=new.commit_ms) == new
