"""The ``Store`` protocol: the narrow seam between Racimo and what keeps its records.

Keys are strings such as ``/racimo/1/guests/100``; values are bytes. Every committed transaction gets a *revision*, a
number that only grows. A record's ``revision`` is that of the transaction that last wrote it (etcd calls it
mod_revision).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

ABSENT = 0
"""The revision to compare with when a key must not exist."""

MAX_OPERATIONS = 2000
"""How many compares, and how many puts and deletes together, one transaction may hold, in every backend: room for a
node that joins with all its guests at once. What need not be whole is better committed in smaller parts."""


@dataclass(frozen=True, slots=True)
class Stored:
    """One key as the store holds it."""

    key: str
    value: bytes
    revision: int


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition of a transaction: ``key`` was last written at ``revision`` (``ABSENT``: it does not exist)."""

    key: str
    revision: int


@dataclass(frozen=True, slots=True)
class Put:
    """Write ``value`` under ``key``."""

    key: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Listing:
    """All records under a prefix, in key order, as they were at ``revision``."""

    records: tuple[Stored, ...]
    revision: int


@dataclass(frozen=True, slots=True)
class Event:
    """One change of one key. ``value`` is None when the key was deleted."""

    key: str
    value: bytes | None
    revision: int


@dataclass(frozen=True, slots=True)
class Change:
    """What one transaction did to the keys under a watched prefix, whole: never split over two changes.

    Without events it is a mark of progress: nothing else happened under the prefix up to ``revision``.
    """

    revision: int
    events: tuple[Event, ...] = field(default_factory=tuple)


def check_transaction(compares: Sequence[Compare], puts: Sequence[Put], deletes: Sequence[str]) -> None:
    """What every backend demands of a transaction. Raises ``ValueError``."""
    written = [put.key for put in puts] + list(deletes)
    if len(set(written)) != len(written):
        raise ValueError(f"A key stands twice in one transaction: {sorted(written)}")
    if not all(written) or not all(compare.key for compare in compares):
        raise ValueError("A transaction names an empty key")
    if max(len(compares), len(written)) > MAX_OPERATIONS:
        raise ValueError(f"More than {MAX_OPERATIONS} compares or writes in one transaction; commit it in parts")


def prefix_end(prefix: bytes) -> bytes | None:
    """The first key, in byte order, that sorts after every key starting with ``prefix``; None if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


class Store(Protocol):
    """Linearizable key-value store with compare-and-set transactions and watches.

    All methods raise ``StoreUnavailable`` within a bounded time when nobody can serve them.
    """

    async def get(self, key: str) -> Stored | None:
        """The record under ``key`` after every transaction that was acknowledged before this call; None if absent."""

    async def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        """What stands under each of ``keys``, in their order, from one revision; at most ``MAX_OPERATIONS`` keys."""

    async def list(self, prefix: str) -> Listing:
        """Every record whose key starts with ``prefix``, from one revision."""

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        """Commit ``puts`` and ``deletes`` together if all ``compares`` hold.

        Returns the revision of the commit, or None when a compare failed (nothing was written). No key may be empty or
        stand twice in ``puts`` and ``deletes``, and ``MAX_OPERATIONS`` holds: else ``ValueError``. Raises
        ``StoreUnknown`` when the answer was lost and the outcome could not be found out; applied at most once in any
        case.
        """

    def watch(self, prefix: str, from_revision: int, *, progress: bool = False) -> AsyncGenerator[Change, None]:
        """Changes under ``prefix`` with a revision greater than ``from_revision``, in order, each once, for ever.

        Raises ``WatchLost`` when they are no longer kept: list again and watch from the listing's revision. Survives
        the change of the member that serves it; ``StoreUnavailable`` when none serves it any more: watch again from
        the last revision seen. With ``progress`` it also gives changes without events, whenever it is known that
        nothing else happened up to a revision (one that may repeat itself).
        """

    async def revision(self) -> int:
        """The revision of the newest commit."""

    async def close(self) -> None:
        """End all watches (their iterators stop) and free what is held. Further calls raise ``StoreUnavailable``."""
