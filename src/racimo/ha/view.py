"""The records that HA decides by, kept in memory by a watch. Each transaction is applied whole."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import dataclass, fields
from operator import attrgetter
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


class View(Records):
    """The records as a watch keeps them."""

    def __init__(self, store: Store, clock: Clock) -> None:
        super().__init__()
        self.layout, self.clock = Layout(store), clock
        self._tables: list[_Table] = [_Table(name, getattr(self.layout, name), getattr(self, name)) for name in TABLES]
        self._place_of: dict[str, _Place | None] = {}
        self._copied = Records()
        self._changed = set(TABLES)
        """The tables that are others now than in the last copy."""
        self.renewed: list[str] | None = None
        """While listeners are called: the nodes whose heartbeats were renewed, where nothing else happened."""
        self._listeners: list[Callable[[], None]] = []
        self._deciders: list[Callable[[], None]] = []
        self._patience: asyncio.Timeout | None = None
        self.news = 0
        self.flawed = False
        """Whether a record could not be read since all were read last: what is missing here may be there."""
        """How often there was something new; what is worked out from the records stays right while it stays so."""

    @property
    def store(self) -> Store:
        """What is watched."""
        return self.layout.store

    def copy(self) -> Records:
        """The records of this moment: what a decision was based on stays what it was while others write.

        Copies share the tables that did not change between them, so nobody may write to one.
        """
        copy = Records()
        for name in TABLES:
            setattr(copy, name, dict(getattr(self, name)) if name in self._changed else getattr(self._copied, name))
        copy.revision, self._copied = self.revision, copy
        self._changed.clear()
        return copy

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
        self._changed.update(TABLES)
        self.flawed = False
        for table in self._tables:
            table.records.clear()
        for stored in listing.records:
            self._apply(stored.key, stored.value, stored.revision)
        self.revision = listing.revision
        self._tell(news=True)

    async def _follow(self) -> None:
        async with aclosing(self.store.watch(ROOT, self.revision)) as changes:
            async for change in changes:
                news = False
                for event in change.events:
                    news |= self._apply(event.key, event.value, event.revision)
                self.revision = change.revision
                if not news:
                    self.renewed = [place.name for event in change.events if (place := self._place_of[event.key])]
                self._tell(news=news)
                self.renewed = None

    def _apply(self, key: str, value: bytes | None, revision: int) -> bool:
        """Take one record over; whether there is anything new about it."""
        if key not in self._place_of:
            tables = (table for table in self._tables if key.startswith(table.collection.prefix))
            places = (_Place(table, key.removeprefix(table.collection.prefix)) for table in tables)
            self._place_of[key] = next(places, None)
        place = self._place_of[key]
        if place is None:
            return False
        self._changed.add(place.table.name)
        collection, records, name = place.table.collection, place.table.records, place.name
        if value is None:
            records.pop(name, None)
            return True
        try:
            old = records.get(name)
            records[name] = new = self.decode(collection, key, value, revision)
            return old is None or not _same_life(old.record, new.record)
        except StoreError:
            records.pop(name, None)
            self.flawed = True
            log.exception("a record is passed over", key=key)
            return True

    def decode(self, collection: Collection[Any], key: str, value: bytes, revision: int) -> Held[Any]:
        """One record as it is stored. ``StoreError`` when it cannot be read."""
        return collection.decode(key, value, revision)

    def _tell(self, *, news: bool) -> None:
        self.news += news
        for listener in self._listeners:
            listener()
        for listener in self._deciders if news else ():
            listener()


@dataclass(frozen=True, slots=True)
class _Table:
    """Where the records of one collection are kept."""

    name: str
    collection: Collection[Any]
    records: dict[str, Held[Any]]


@dataclass(frozen=True, slots=True)
class _Place:
    """Where the record of one key is kept, and under which name."""

    table: _Table
    name: str


_life = attrgetter(*(part.name for part in fields(Heartbeat) if part.name not in ("sequence", "commit_ms", "marked")))


def _same_life(old: object, new: object) -> bool:
    """Two heartbeats of one incarnation, in the same mode; how quick they were, and how far it marks, is no news."""
    return isinstance(old, Heartbeat) and isinstance(new, Heartbeat) and bool(_life(old) == _life(new))
