"""Pools as administrators handle them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.access.names import check_pool
from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound, Refused
from racimo.model.access import Pool

if TYPE_CHECKING:
    from collections.abc import Iterable

    from racimo.store.base import Compare, Put
    from racimo.store.layout import Layout

MAX_TEXT = 2048


class Pools:
    """Changes pools, one transaction each. A guest is in one pool at most, a storage in as many as wanted."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def get(self, name: str) -> Pool:
        """Raises ``NotFound``."""
        held = await self._layout.pools.find(check_pool(name))
        if held is None:
            raise NotFound(f"pool '{name}' does not exist", todo="See the pools: racimo pool list")
        return held.record

    async def create(self, name: str, comment: str) -> None:
        """Raises ``AlreadyExists``; ``NotFound`` for a pool inside one that is not there."""
        check_pool(name)
        _check_comment(comment)
        compares = [self._layout.pools.absent(name)]
        outer = name.rpartition("/")[0]
        if outer:
            await self.get(outer)
            compares.append((await self._layout.pools.hold(outer)).compare)
        if await self._layout.pools.find(name) is not None:
            raise AlreadyExists(f"create pool failed: pool '{name}' already exists")
        if (
            await self._layout.store.txn(compares, [self._layout.pools.put(name, Pool(name=name, comment=comment))])
            is None
        ):
            raise Conflict(f"Pool '{name}' was not made", why="somebody changed the pools just now", todo="Try again")

    async def comment(self, name: str, comment: str) -> None:
        """Raises ``NotFound``."""
        _check_comment(comment)
        await self.get(name)
        await self._layout.pools.update(name, lambda pool: replace(pool, comment=comment))

    async def add(self, name: str, guests: Iterable[int], storages: Iterable[str], *, move: bool) -> None:
        """A guest of another pool is taken from it only with ``move``. Raises ``NotFound``, ``Refused``."""
        await self.get(name)
        every = await self._layout.pools.all()
        held, new_guests, new_storages = every[name], set(guests), set(storages)
        compares, puts = [held.compare], []
        for vmid in sorted(new_guests):
            guest = await self._layout.guests.find(vmid)
            if guest is None:
                raise NotFound(f"VM {vmid} does not exist", todo="See the guests: racimo guest list")
        for storage in sorted(new_storages):
            if await self._layout.storages.find(storage) is None:
                raise NotFound(f"storage '{storage}' does not exist", todo="See the storages: racimo storage list")
        for other in every.values():
            taken = new_guests & set(other.record.guests)
            if other.record.name == name or not taken:
                continue
            if not move:
                raise Refused(f"VM {min(taken)} is already a pool member", why=f"it is in '{other.record.name}'",
                              todo="Move it with allow-move=1")  # fmt: skip
            compares.append(other.compare)
            left = replace(other.record, guests=tuple(vmid for vmid in other.record.guests if vmid not in taken))
            puts.append(self._layout.pools.put(other.record.name, left, other))
        pool = replace(
            held.record,
            guests=tuple(sorted({*held.record.guests, *new_guests})),
            storages=tuple(sorted({*held.record.storages, *new_storages})),
        )
        await self._commit(name, compares, [*puts, self._layout.pools.put(name, pool, held)])

    async def take_out(self, name: str, guests: Iterable[int], storages: Iterable[str]) -> None:
        """Raises ``NotFound`` for a pool that does not exist, ``Refused`` for what is not in it."""
        pool = await self.get(name)
        held, gone_guests, gone_storages = await self._layout.pools.hold(name), set(guests), set(storages)
        missing = [f"VM {vmid}" for vmid in sorted(gone_guests - set(pool.guests))]
        missing += [f"Storage '{storage}'" for storage in sorted(gone_storages - set(pool.storages))]
        if missing:
            raise Refused(f"{missing[0]} is not a pool member", why=f"'{name}' does not have it")
        left = replace(
            held.record,
            guests=tuple(vmid for vmid in held.record.guests if vmid not in gone_guests),
            storages=tuple(storage for storage in held.record.storages if storage not in gone_storages),
        )
        await self._commit(name, [held.compare], [self._layout.pools.put(name, left, held)])

    async def remove(self, name: str) -> None:
        """It must be empty. What the ACL says of it goes. Raises ``NotFound``, ``Refused``."""
        pool = await self.get(name)
        inner = [other for other in await self._layout.pools.all() if other.startswith(f"{name}/")]
        if pool.guests or pool.storages or inner:
            what = f"{len(pool.guests)} guests, {len(pool.storages)} storages and {len(inner)} pools are in it"
            raise Refused(f"pool '{name}' is not empty", why=what, todo="Take them out first")
        held = await self._layout.pools.hold(name)
        entries = [entry.id for entry in await self._layout.acl.records() if entry.path == f"/pool/{name}"]
        deletes = [held.key, *(self._layout.acl.key(entry) for entry in entries)]
        if await self._layout.store.txn([held.compare], deletes=deletes) is None:
            raise Conflict(f"Pool '{name}' was not removed", why="somebody changed it just now", todo="Try again")

    async def _commit(self, name: str, compares: list[Compare], puts: list[Put]) -> None:
        if await self._layout.store.txn(compares, puts) is None:
            raise Conflict(f"Pool '{name}' was not changed", why="somebody changed it just now", todo="Try again")


def _check_comment(comment: str) -> None:
    if len(comment) > MAX_TEXT:
        raise BadParameter({"comment": f"takes {MAX_TEXT} characters at most"})
