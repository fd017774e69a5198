"""Groups and roles as administrators handle them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.access.names import check_word
from racimo.access.privileges import BUILT_IN, PRIVILEGES
from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound
from racimo.model.access import Grantee, Group, Role

if TYPE_CHECKING:
    from collections.abc import Iterable

    from racimo.store.layout import Layout

MAX_TEXT = 2048


class Groups:
    """Changes groups, one transaction each."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def get(self, name: str) -> Group:
        """Raises ``NotFound``."""
        held = await self._layout.groups.find(check_word(name, "groupid"))
        if held is None:
            raise NotFound(f"group '{name}' does not exist", todo="See the groups: racimo access group list")
        return held.record

    async def create(self, name: str, comment: str) -> None:
        """Raises ``AlreadyExists``."""
        check_word(name, "groupid")
        _check_comment(comment)
        try:
            await self._layout.groups.create(name, Group(name=name, comment=comment))
        except AlreadyExists:
            raise AlreadyExists(f"create group failed: group '{name}' already exists") from None

    async def comment(self, name: str, comment: str) -> None:
        """Raises ``NotFound``."""
        _check_comment(comment)
        await self.get(name)
        await self._layout.groups.update(name, lambda group: replace(group, comment=comment))

    async def remove(self, name: str) -> None:
        """Its members leave it, and what the ACL says of it goes. Raises ``NotFound``."""
        await self.get(name)
        held = await self._layout.groups.hold(name)
        compares, puts = [held.compare], []
        for member, user in (await self._layout.users.all()).items():
            if name in user.record.groups:
                left = replace(user.record, groups=tuple(group for group in user.record.groups if group != name))
                compares.append(user.compare)
                puts.append(self._layout.users.put(member, left, user))
        entries = await self._layout.acl.records()
        own = [entry.id for entry in entries if entry.kind is Grantee.GROUP and entry.grantee == name]
        deletes = [held.key, *(self._layout.acl.key(entry) for entry in own)]
        if await self._layout.store.txn(compares, puts, deletes) is None:
            raise Conflict(f"Group '{name}' was not removed", why="it or a member changed just now", todo="Try again")


class Roles:
    """Changes the roles that administrators made."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def all(self) -> dict[str, frozenset[str]]:
        """The privileges of each role, by name, the built-in ones included."""
        made = {role.name: frozenset(role.privileges) for role in await self._layout.roles.records()}
        return dict(sorted({**made, **BUILT_IN}.items()))

    async def get(self, name: str) -> frozenset[str]:
        """The privileges of one. Raises ``NotFound``."""
        found = (await self.all()).get(name)
        if found is None:
            raise NotFound(f"role '{name}' does not exist", todo="See the roles: racimo access role list")
        return found

    async def create(self, name: str, privileges: Iterable[str]) -> None:
        """Raises ``AlreadyExists``."""
        check_word(name, "roleid")
        if name.upper().startswith("PVE"):
            raise BadParameter({"roleid": "names that begin with PVE are for built-in roles"})
        role = Role(name=name, privileges=_checked(privileges))
        if name in await self.all():
            raise AlreadyExists(f"create role failed: role '{name}' already exists")
        await self._layout.roles.create(name, role)

    async def change(self, name: str, privileges: Iterable[str], *, append: bool) -> None:
        """Replace or, with ``append``, add privileges. Raises ``NotFound``, ``Conflict`` for a built-in one."""
        given = _checked(privileges)
        await self._demand_own(name)

        def changed(role: Role) -> Role:
            return replace(role, privileges=_checked((*role.privileges, *given) if append else given))

        await self._layout.roles.update(name, changed)

    async def remove(self, name: str) -> None:
        """With what the ACL says of it. Raises ``NotFound``, ``Conflict`` for a built-in one."""
        await self._demand_own(name)
        own = [entry.id for entry in await self._layout.acl.records() if entry.role == name]
        keys = [self._layout.roles.key(name), *(self._layout.acl.key(entry) for entry in own)]
        await self._layout.store.txn(deletes=keys)

    async def _demand_own(self, name: str) -> None:
        await self.get(name)
        if name in BUILT_IN:
            raise Conflict(f"auto-generated role '{name}' cannot be changed", why="it is built in",
                           todo="Make a role of your own: racimo access role add")  # fmt: skip


def _checked(privileges: Iterable[str]) -> tuple[str, ...]:
    unlike = sorted(set(privileges))
    unknown = [name for name in unlike if name not in PRIVILEGES]
    if unknown:
        raise BadParameter({"privs": f"invalid privilege '{unknown[0][:80]}'; see: racimo access role privileges"})
    return tuple(unlike)


def _check_comment(comment: str) -> None:
    if len(comment) > MAX_TEXT:
        raise BadParameter({"comment": f"takes {MAX_TEXT} characters at most"})
