"""Who may do what: decided purely, over one state of the records.

The rules, which are those of the Proxmox VE API:

1. ``root@pam`` may everything. A user that is disabled, expired or unknown may nothing.
2. On the way from ``/`` to the path, what is written about somebody at one level replaces what was inherited from
   above; it holds below its own path only where it propagates. At one level, an entry about the user goes before those
   about the user's groups, whose roles add up.
3. ``NoAccess`` among the roles leaves none of the others.
4. The roles on ``/pool/P`` count on P's guests and storages too, beside those of the ACL there, but not below them.
   ``NoAccess`` on either side leaves nothing.
5. A token without privilege separation may what its user may. One with it has entries of its own, and may only what
   its user may too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.access.names import Asker, segments_of
from racimo.access.privileges import BUILT_IN, NO_ACCESS, PRIVILEGES
from racimo.model.access import ROOT_USER, Grantee

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from racimo.model.access import AclEntry, Group, Pool, Role, Token, User

REMEMBERED = 50_000
"""Answers kept; more are not worth their memory."""

Roles = dict[str, bool]
"""Role names, each with whether it propagates."""
_Entries = dict[tuple[Grantee, str], Roles]


@dataclass(slots=True)
class _Level:
    """What is written at one path, and the paths below it."""

    entries: _Entries = field(default_factory=dict)
    below: dict[str, _Level] = field(default_factory=dict)


class Policy:
    """One state of the records. Answers are remembered."""

    def __init__(
        self,
        *,
        users: Iterable[User] = (),
        groups: Iterable[Group] = (),
        roles: Iterable[Role] = (),
        acl: Iterable[AclEntry] = (),
        pools: Iterable[Pool] = (),
        tokens: Iterable[Token] = (),
    ) -> None:
        self.users: Mapping[str, User] = {user.name: user for user in users}
        self.groups: Mapping[str, Group] = {group.name: group for group in groups}
        self.roles: Mapping[str, frozenset[str]] = {
            **{role.name: frozenset(role.privileges) for role in roles}, **BUILT_IN,
        }  # fmt: skip
        self.acl: tuple[AclEntry, ...] = tuple(acl)
        self.pools: Mapping[str, Pool] = {pool.name: pool for pool in pools}
        self.tokens: Mapping[str, Token] = {token.id: token for token in tokens}
        self._root = _Level()
        for entry in self.acl:
            self._insert(entry)
        self._pools_of: dict[str, list[str]] = {}
        for pool in self.pools.values():
            for path in [f"/vms/{vmid}" for vmid in pool.guests] + [f"/storage/{name}" for name in pool.storages]:
                self._pools_of.setdefault(path, []).append(pool.name)
        self._known: dict[tuple[Asker, str], Mapping[str, bool]] = {}

    def active(self, asker: Asker, now: float) -> bool:
        """Whether the user, and the token if it is one, is known, enabled and not expired.

        ``now`` is in seconds since the epoch.
        """
        user = self.users.get(asker.user)
        if user is None:
            if asker.user != ROOT_USER:
                return False
        elif not user.enable or 0 < user.expire <= now:
            return False
        if not asker.token:
            return True
        token = self.tokens.get(str(asker))
        return token is not None and not 0 < token.expire <= now

    def privileges(self, asker: Asker, path: str) -> Mapping[str, bool]:
        """What ``asker`` may on ``path``, each with whether it holds below too. Looks at no clock: see ``active``."""
        key = (asker, "/" + "/".join(segments_of(path)))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= REMEMBERED:
                self._known.clear()
            found = self._known[key] = self._privileges(*key)
        return found

    def allows(self, asker: Asker, path: str, *any_of: str) -> bool:
        """Whether ``asker`` has any of these privileges on ``path``."""
        held = self.privileges(asker, path)
        return any(privilege in held for privilege in any_of)

    def paths(self) -> list[str]:
        """The paths that something is written about, pool members included; and those above them all."""
        found = {"/", "/access", "/access/groups", "/nodes", "/pool", "/sdn", "/storage", "/vms", *self._pools_of}
        found |= {entry.path for entry in self.acl}
        return sorted(found)

    def _privileges(self, asker: Asker, path: str) -> Mapping[str, bool]:
        token = self.tokens.get(str(asker)) if asker.token else None
        if asker.token and token is None:
            return {}
        owner = Asker(asker.user)
        if token is not None and not token.privsep:
            return self.privileges(owner, path)
        if asker == (ROOT_USER, ""):
            return dict.fromkeys(PRIVILEGES, True)
        if asker.user not in self.users and asker.user != ROOT_USER:
            return {}
        held = self._of_roles(self._all_roles(asker, path))
        if token is None:
            return held
        ceiling = self.privileges(owner, path)
        return {name: propagates and ceiling[name] for name, propagates in held.items() if name in ceiling}

    def _of_roles(self, roles: Roles) -> Mapping[str, bool]:
        held: dict[str, bool] = {}
        for role, propagates in roles.items():
            for privilege in self.roles.get(role, ()):
                held[privilege] = held.get(privilege, False) or propagates
        return held

    def _all_roles(self, asker: Asker, path: str) -> Roles:
        """The roles on a path, by the ACL and by the pools that the path's object is in."""
        roles = self._acl_roles(asker, path)
        if NO_ACCESS in roles:
            return {}
        for pool in self._pools_of.get(path, ()):
            of_pool = self._acl_roles(asker, f"/pool/{pool}")
            if NO_ACCESS in of_pool:
                return {}
            for role in of_pool:
                roles.setdefault(role, False)
        return roles

    def _acl_roles(self, asker: Asker, path: str) -> Roles:
        steps = segments_of(path)
        level: _Level | None = self._root
        roles: Roles = {}
        for depth in range(len(steps) + 1):
            if level is None:
                break
            final = depth == len(steps)
            written = self._written(level, asker, final=final)
            if written:
                roles = written
            if not final:
                level = level.below.get(steps[depth])
        return {NO_ACCESS: roles[NO_ACCESS]} if NO_ACCESS in roles else dict(roles)

    def _written(self, level: _Level, asker: Asker, *, final: bool) -> Roles:
        """The roles that count from this level: on its own path all, below it those that propagate."""
        if asker.token:
            return _counting(level.entries.get((Grantee.TOKEN, str(asker)), {}), final=final)
        own = _counting(level.entries.get((Grantee.USER, asker.user), {}), final=final)
        if own:
            return own
        user = self.users.get(asker.user)
        of_groups: Roles = {}
        for group in user.groups if user else ():
            for role, propagates in _counting(level.entries.get((Grantee.GROUP, group), {}), final=final).items():
                of_groups[role] = of_groups.get(role, False) or propagates
        return of_groups

    def _insert(self, entry: AclEntry) -> None:
        level = self._root
        for step in segments_of(entry.path):
            level = level.below.setdefault(step, _Level())
        roles = level.entries.setdefault((entry.kind, entry.grantee), {})
        roles[entry.role] = entry.propagate


def _counting(roles: Roles, *, final: bool) -> Roles:
    return roles if final else {role: propagates for role, propagates in roles.items() if propagates}
