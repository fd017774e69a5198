"""What is left of a guest or a storage that is gone: its place in pools, and what the ACL says of it.

A new guest of the same number must not inherit the permissions of the old one.
"""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreError, WatchLost
from racimo.store.base import ABSENT, Compare

if TYPE_CHECKING:
    from racimo.store.base import Put
    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror

_log = structlog.get_logger()


class Leftovers:
    """Follows the copy of the store; every node does, and who comes second finds nothing to do."""

    def __init__(self, layout: Layout, mirror: Mirror) -> None:
        self._layout, self._mirror = layout, mirror

    async def keep_clean(self) -> None:
        """Until cancelled."""
        while True:
            try:
                async with aclosing(self._mirror.changes()) as changes:
                    async for change in changes:
                        for event in change.events:
                            if event.value is None:
                                await self._gone(event.key)
                return
            except WatchLost as error:
                _log.info("some leftovers of guests may stay", why=str(error))

    async def _gone(self, key: str) -> None:
        guests, storages = self._layout.guests.prefix, self._layout.storages.prefix
        try:
            if key.startswith(guests):
                await self.remove(key, f"/vms/{key.removeprefix(guests)}", guest=int(key.removeprefix(guests)))
            elif key.startswith(storages):
                await self.remove(key, f"/storage/{key.removeprefix(storages)}", storage=key.removeprefix(storages))
        except StoreError as error:
            _log.warning("permissions of what is gone were not removed", key=key, why=str(error))

    async def remove(self, key: str, path: str, *, guest: int = 0, storage: str = "") -> None:
        """Take the object out of all pools and the ACL, if it is still gone. Raises ``StoreError``."""
        compares = [Compare(key, ABSENT)]
        puts: list[Put] = []
        for name, pool in (await self._layout.pools.all()).items():
            left = replace(
                pool.record,
                guests=tuple(vmid for vmid in pool.record.guests if vmid != guest),
                storages=tuple(each for each in pool.record.storages if each != storage),
            )
            if left != pool.record:
                compares.append(pool.compare)
                puts.append(self._layout.pools.put(name, left, pool))
        acl = (await self._layout.acl.all()).items()
        deletes = [held.key for _, held in acl if held.record.path == path]
        if puts or deletes:
            done = await self._layout.store.txn(compares, puts, deletes)
            _log.info("removed permissions of what is gone", path=path, done=done is not None)
