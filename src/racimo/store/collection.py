"""Typed records over a store: JSON values, compare-and-set on the revision, unknown fields kept."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from racimo.errors import AlreadyExists, Conflict, NotFound, StoreError
from racimo.model.record import Record
from racimo.store.base import ABSENT, Compare, Put

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.store.base import Store, Stored

R = TypeVar("R", bound=Record)

MAX_UPDATE_ATTEMPTS = 32
"""How often ``Collection.update`` starts again when somebody else wrote first."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held(Generic[R]):
    """A record as it was read, with what is needed to write it back: its key, revision and unknown fields."""

    key: str
    record: R
    revision: int
    unknown: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def compare(self) -> Compare:
        """The condition "nobody wrote it since"."""
        return Compare(self.key, self.revision)


_adapters: dict[type[Record], tuple[TypeAdapter[Any], frozenset[str]]] = {}


def _adapter_of(kind: type[R]) -> tuple[TypeAdapter[R], frozenset[str]]:
    """With the fields' names. Building one takes a millisecond, and every layout asks for all: each is built once."""
    if kind not in _adapters:
        _adapters[kind] = TypeAdapter(kind), frozenset(field.name for field in dataclasses.fields(kind))
    return _adapters[kind]


class Collection(Generic[R]):
    """The records of type ``R`` under one prefix. ``name`` is the rest of the key."""

    def __init__(self, store: Store, prefix: str, kind: type[R]) -> None:
        self.store, self.prefix, self.kind = store, prefix, kind
        self._adapter, self._fields = _adapter_of(kind)

    def key(self, name: str | int) -> str:
        """The key of the record ``name``."""
        return f"{self.prefix}{name}"

    def decode(self, key: str, value: bytes, revision: int) -> Held[R]:
        """A stored value as a record. Raises ``StoreError`` naming the key when it is not one."""
        try:
            fields = json.loads(value)
            record = self._adapter.validate_python({k: v for k, v in fields.items() if k in self._fields})
        except (ValueError, AttributeError, ValidationError) as error:
            raise StoreError(
                f"The record {key} cannot be read", why=str(error), todo="Restore it from a backup of the store"
            ) from error
        return Held(key, record, revision, {k: v for k, v in fields.items() if k not in self._fields})

    def encode(self, record: R, unknown: dict[str, Any] | None = None) -> bytes:
        """A record as it is stored: JSON with sorted keys, ``unknown`` fields included."""
        fields = {**(unknown or {}), **self._adapter.dump_python(record, mode="json")}
        return json.dumps(fields, sort_keys=True, separators=(",", ":")).encode()

    def put(self, name: str | int, record: R, over: Held[R] | None = None) -> Put:
        """The write of ``record``, to be used in a transaction; ``over`` gives the unknown fields to keep."""
        return Put(self.key(name), self.encode(record, over.unknown if over else None))

    def absent(self, name: str | int) -> Compare:
        """The condition "there is no such record"."""
        return Compare(self.key(name), ABSENT)

    async def find(self, name: str | int) -> Held[R] | None:
        """The record with what is needed to write it back, or None."""
        return self.held(await self.store.get(self.key(name)))

    def held(self, stored: Stored | None) -> Held[R] | None:
        """What a read of the store found, as a record."""
        return self.decode(stored.key, stored.value, stored.revision) if stored else None

    async def hold(self, name: str | int) -> Held[R]:
        """Like ``find``, but raises ``NotFound``."""
        held = await self.find(name)
        if held is None:
            raise NotFound(f"{self.kind.__name__} '{name}' does not exist")
        return held

    async def get(self, name: str | int) -> R:
        """The record, or ``NotFound``."""
        return (await self.hold(name)).record

    async def all(self) -> dict[str, Held[R]]:
        """Every record by name, in key order."""
        listing = await self.store.list(self.prefix)
        return {
            stored.key.removeprefix(self.prefix): self.decode(stored.key, stored.value, stored.revision)
            for stored in listing.records
        }

    async def records(self) -> list[R]:
        """Every record, in key order."""
        return [held.record for held in (await self.all()).values()]

    async def create(self, name: str | int, record: R) -> int:
        """Write a new record; ``AlreadyExists`` if there is one. Returns the revision."""
        revision = await self.store.txn([self.absent(name)], [self.put(name, record)])
        if revision is None:
            raise AlreadyExists(f"{self.kind.__name__} '{name}' already exists")
        return revision

    async def update(self, name: str | int, change: Callable[[R], R]) -> R:
        """Read, change, write if nobody wrote between; else again. ``change`` must be pure: it may run twice."""
        for _ in range(MAX_UPDATE_ATTEMPTS):
            held = await self.hold(name)
            new = change(held.record)
            if new == held.record:
                return new
            if await self.store.txn([held.compare], [self.put(name, new, held)]) is not None:
                return new
        raise Conflict(
            f"{self.kind.__name__} '{name}' could not be changed",
            why=f"others changed it {MAX_UPDATE_ATTEMPTS} times meanwhile",
            todo="Try again",
        )

    async def remove(self, name: str | int) -> None:
        """Delete the record; ``NotFound`` if there is none."""
        while True:
            held = await self.hold(name)
            if await self.store.txn([held.compare], deletes=[held.key]) is not None:
                return
