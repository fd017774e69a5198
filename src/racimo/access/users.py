"""Users as administrators handle them. Errors use the words that clients of the Proxmox VE API look for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.access.names import check_user, realm_of
from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound
from racimo.model.access import ROOT_USER, Grantee, Password, RealmType, User

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from racimo.access.realms import Realms
    from racimo.store.base import Compare, Put
    from racimo.store.layout import Layout

MAX_TEXT = 2048
"""Characters of a comment or a name."""


class Users:
    """Changes users, one transaction each. ``wall`` gives seconds since the epoch."""

    def __init__(self, layout: Layout, realms: Realms, wall: Callable[[], float]) -> None:
        self._layout, self._realms, self._wall = layout, realms, wall

    async def get(self, name: str) -> User:
        """``NotFound`` if there is none. Root needs no record."""
        held = await self._layout.users.find(check_user(name))
        if held is not None:
            return held.record
        if name == ROOT_USER:
            return User(name=ROOT_USER)
        raise NotFound(f"no such user ('{name}')", todo="See the users: racimo access user list")

    async def create(self, user: User, password: str = "") -> None:
        """A new user; ``password`` only for the realm ``pve``. Raises ``AlreadyExists``, ``NotFound``."""
        check_user(user.name)
        _check_texts(user)
        realm = await self._realms.get(realm_of(user.name))
        if password and realm.type is not RealmType.PVE:
            raise BadParameter({"password": f"the passwords of realm {realm.name} are not kept here"})
        compares = await self._groups_stay(user.groups)
        puts = [self._layout.users.put(user.name, replace(user, tickets_from=self._wall()))]
        if password:
            puts.append(await self._password(user.name, password))
        if await self._layout.users.find(user.name) is not None:
            raise AlreadyExists(f"create user failed: user '{user.name}' already exists")
        compares.append(self._layout.users.absent(user.name))
        if await self._layout.store.txn(compares, puts) is None:
            raise Conflict(f"User '{user.name}' was not made", why="the users or groups just changed", todo="Try again")

    async def change(self, name: str, change: Callable[[User], User]) -> User:
        """``change`` must be pure. Raises ``NotFound``."""
        user = await self.get(name)
        held = await self._layout.users.find(name)
        new = change(user)
        _check_texts(new)
        if name == ROOT_USER and (not new.enable or new.expire):
            raise BadParameter({"enable": f"{ROOT_USER} can neither be disabled nor expire"})
        if user.enable and not new.enable:
            new = replace(new, tickets_from=self._wall())
        compares = await self._groups_stay(set(new.groups) - set(user.groups))
        compares.append(held.compare if held else self._layout.users.absent(name))
        if await self._layout.store.txn(compares, [self._layout.users.put(name, new, held)]) is None:
            raise Conflict(f"User '{name}' was not changed", why="somebody changed it just now", todo="Try again")
        return new

    async def set_password(self, name: str, password: str) -> None:
        """Tickets made before are no good any more. For realm ``pve`` alone."""
        user = await self.get(name)
        held = await self._layout.users.find(name)
        compare = held.compare if held else self._layout.users.absent(name)
        new = self._layout.users.put(name, replace(user, tickets_from=self._wall()), held)
        if await self._layout.store.txn([compare], [new, await self._password(name, password)]) is None:
            raise Conflict(f"The password of '{name}' was not changed", why="somebody changed the user just now",
                           todo="Try again")  # fmt: skip

    async def remove(self, name: str) -> None:
        """With password, tokens, second factors and what the ACL says of them. Raises ``NotFound``."""
        if name == ROOT_USER:
            raise Conflict(f"{ROOT_USER} cannot be removed", why="it is the one who may always put things right")
        await self.get(name)
        held = await self._layout.users.hold(name)
        tokens = [f"{name}!{token.name}" for token in await self._layout.tokens.records() if token.user == name]
        factors = [factor.key for factor in await self._layout.second_factors.records() if factor.user == name]
        grantees = {(Grantee.USER, name), *((Grantee.TOKEN, token) for token in tokens)}
        entries = [entry.id for entry in await self._layout.acl.records() if (entry.kind, entry.grantee) in grantees]
        deletes = [
            held.key,
            self._layout.passwords.key(name),
            *(self._layout.tokens.key(token) for token in tokens),
            *(self._layout.second_factors.key(factor) for factor in factors),
            *(self._layout.acl.key(entry) for entry in entries),
        ]
        if await self._layout.store.txn([held.compare], deletes=deletes) is None:
            raise Conflict(f"User '{name}' was not removed", why="somebody changed it just now", todo="Try again")

    async def _password(self, name: str, password: str) -> Put:
        hashed = await self._realms.hash(password)
        return self._layout.passwords.put(name, Password(user=name, hash=hashed))

    async def _groups_stay(self, groups: Iterable[str]) -> list[Compare]:
        """Conditions that the groups are still there when it is written. Raises ``NotFound``."""
        compares: list[Compare] = []
        for group in sorted(set(groups)):
            held = await self._layout.groups.find(group)
            if held is None:
                raise NotFound(f"group '{group}' does not exist", todo="See the groups: racimo access group list")
            compares.append(held.compare)
        return compares


def _check_texts(user: User) -> None:
    texts = {"comment": user.comment, "email": user.email, "firstname": user.firstname, "lastname": user.lastname}
    long = {name: f"takes {MAX_TEXT} characters at most" for name, text in texts.items() if len(text) > MAX_TEXT}
    if user.expire < 0:
        long["expire"] = "is in seconds since the epoch; 0 is never"
    if long:
        raise BadParameter(long)
