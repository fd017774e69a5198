"""The ACL as administrators change it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.access.names import check_path
from racimo.errors import BadParameter, Conflict, NotFound
from racimo.model.access import ROOT_USER, AclEntry, Grantee

if TYPE_CHECKING:
    from racimo.access.groups import Roles
    from racimo.store.base import Compare
    from racimo.store.layout import Layout

MAX_ENTRIES = 500
"""Entries that one change may make or remove."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AclChange:
    """Give each grantee each role on ``path``, or take it away."""

    path: str
    roles: tuple[str, ...]
    grantees: tuple[tuple[Grantee, str], ...]
    propagate: bool = True
    delete: bool = False


class Acl:
    """Changes entries; each change is one transaction."""

    def __init__(self, layout: Layout, roles: Roles) -> None:
        self._layout, self._roles = layout, roles

    async def change(self, change: AclChange) -> None:
        """Raises ``BadParameter``, or ``NotFound`` for a role or grantee that does not exist. Taking away what is not
        there is no error.
        """
        path = check_path(change.path)
        if not change.grantees or not change.roles:
            raise BadParameter({"roles": "name at least one role, and one of users, groups and tokens"})
        if len(change.grantees) * len(change.roles) > MAX_ENTRIES:
            raise BadParameter({"roles": f"at most {MAX_ENTRIES} entries are changed at once"})
        entries = [
            AclEntry(path=path, kind=kind, grantee=grantee, role=role, propagate=change.propagate)
            for kind, grantee in dict.fromkeys(change.grantees)
            for role in dict.fromkeys(change.roles)
        ]
        if change.delete:
            await self._layout.store.txn(deletes=[self._layout.acl.key(entry.id) for entry in entries])
            return
        for role in change.roles:
            await self._roles.get(role)
        compares = await self._grantees_stay(change)
        collection = self._layout.acl
        puts = [collection.put(entry.id, entry, await collection.find(entry.id)) for entry in entries]
        if await self._layout.store.txn(compares, puts) is None:
            raise Conflict("The ACL was not changed", why="one of those named changed just now", todo="Try again")

    async def _grantees_stay(self, change: AclChange) -> list[Compare]:
        compares: list[Compare] = []
        for kind, grantee in dict.fromkeys(change.grantees):
            if kind is Grantee.USER:
                user = await self._layout.users.find(grantee)
                if user is None and grantee != ROOT_USER:
                    raise NotFound(f"no such user ('{grantee}')", todo="See the users: racimo access user list")
                compares += [user.compare] if user else []
            elif kind is Grantee.GROUP:
                group = await self._layout.groups.find(grantee)
                if group is None:
                    raise NotFound(f"group '{grantee}' does not exist", todo="See: racimo access group list")
                compares.append(group.compare)
            else:
                token = await self._layout.tokens.find(grantee)
                if token is None:
                    raise NotFound(f"no such token '{grantee}': it does not exist")
                compares.append(token.compare)
        return compares
