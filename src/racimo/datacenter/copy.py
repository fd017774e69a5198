"""Copying all records from one store to another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.store.base import Put
from racimo.store.layout import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from racimo.store.base import Store

LOCKS = ROOT + "locks/"
MAX_OPERATIONS = 100
MAX_BYTES = 512 * 1024


async def copy_records(source: Store, target: Store, replaced: Mapping[str, bytes] | None = None) -> int:
    """Make the records of ``target`` those of ``source``, some of them ``replaced``; returns its revision.

    Locks are left behind: they are of tasks on the old store. Writes only what differs, so it can be run again after a
    crash, or to catch up. Nobody else may write ``target``.
    """
    listing = await source.list(ROOT)
    await write_records(
        target, {**{r.key: r.value for r in listing.records if not r.key.startswith(LOCKS)}, **(replaced or {})}
    )
    return listing.revision


async def write_records(target: Store, wanted: Mapping[str, bytes]) -> None:
    """Make ``wanted`` the records of ``target``, in bounded transactions."""
    present = {record.key: record.value for record in (await target.list(ROOT)).records}
    puts = [Put(key, value) for key, value in wanted.items() if present.get(key) != value]
    for batch in _batches(puts):
        await target.txn(puts=batch)
    extra = sorted(present.keys() - wanted.keys())
    for start in range(0, len(extra), MAX_OPERATIONS):
        await target.txn(deletes=extra[start : start + MAX_OPERATIONS])


def _batches(puts: Iterable[Put]) -> Iterator[list[Put]]:
    batch: list[Put] = []
    size = 0
    for put in puts:
        if batch and (len(batch) == MAX_OPERATIONS or size + len(put.value) > MAX_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(put)
        size += len(put.value)
    if batch:
        yield batch
