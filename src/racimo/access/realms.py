"""Realms: where users come from, and who says whether a password is right."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.access.names import check_word, realm_of
from racimo.access.passwords import check_password
from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound
from racimo.model.access import Realm, RealmType

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.access.pam import Pam
    from racimo.access.passwords import Passwords
    from racimo.store.layout import Layout

BUILT_IN = {
    "pam": Realm(name="pam", type=RealmType.PAM, comment="Linux accounts of the node"),
    "pve": Realm(name="pve", type=RealmType.PVE, comment="Racimo's own users"),
}


class Realms:
    """Settings of the realms, and the check of a password."""

    def __init__(self, layout: Layout, passwords: Passwords, pam: Pam) -> None:
        self._layout, self._passwords, self._pam = layout, passwords, pam

    async def all(self) -> list[Realm]:
        """By name."""
        kept = {realm.name: realm for realm in await self._layout.realms.records()}
        return [realm for _, realm in sorted({**BUILT_IN, **kept}.items())]

    async def get(self, name: str) -> Realm:
        """Raises ``NotFound``."""
        found = next((realm for realm in await self.all() if realm.name == name), None)
        if found is None:
            raise NotFound(f"domain '{name}' does not exist", todo="See the realms: racimo access realm list")
        return found

    async def add(self, realm: Realm) -> None:
        """Raises ``AlreadyExists``. Kinds that Racimo has no check for cannot be added."""
        check_word(realm.name, "realm")
        if realm.name in BUILT_IN or await self._layout.realms.find(realm.name) is not None:
            raise AlreadyExists(f"domain '{realm.name}' already exists")
        raise BadParameter({"type": f"a further realm of type {realm.type} makes no sense: there is one already"})

    async def change(self, name: str, change: Callable[[Realm], Realm]) -> None:
        """``change`` must be pure. A realm that becomes the default takes that from the one that was."""
        new = change(await self.get(name))
        held = await self._layout.realms.all()
        compares, puts = [], []
        for realm in await self.all():
            wanted = new if realm.name == name else replace(realm, default=realm.default and not new.default)
            if wanted != realm:
                old = held.get(realm.name)
                compares.append(old.compare if old else self._layout.realms.absent(realm.name))
                puts.append(self._layout.realms.put(realm.name, wanted, old))
        if puts and await self._layout.store.txn(compares, puts) is None:
            raise Conflict(f"Realm '{name}' was not changed", why="somebody changed it just now", todo="Try again")

    async def remove(self, name: str) -> None:
        """The built-in ones stay."""
        await self.get(name)
        raise Conflict(f"Realm '{name}' cannot be removed", why="it is built in")

    async def hash(self, password: str) -> str:
        """What is kept of a password. Raises ``BadParameter`` for one that is too short or too long."""
        check_password(password)
        return await self._passwords.hash(password)

    async def is_right(self, user: str, password: str, *, known: bool) -> bool:
        """Whether it is the user's password. One who is not ``known`` costs the same time, and is refused."""
        name, realm = user.rpartition("@")[0], await self.get(realm_of(user))
        if realm.type is RealmType.PAM:
            return known and await self._pam.is_right(name, password)
        held = await self._layout.passwords.find(user)
        return await self._passwords.is_right(held.record.hash if held else "", password) and known

    async def change_account(self, user: str, password: str) -> None:
        """Change the password of an account of this node, for the realm ``pam``."""
        check_password(password)
        await self._pam.change(user.rpartition("@")[0], password)
