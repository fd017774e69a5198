"""The records of access control as this node knows them: read from the watched copy, so without quorum too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.access.permissions import Policy
from racimo.model.access import ROOT_USER, User
from racimo.store.layout import ACCESS
from racimo.store.mirror import MirroredCollection

if TYPE_CHECKING:
    from racimo.model.access import SecondFactor
    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror


class Roster:
    """Who there is and what is allowed, decided anew only when one of these records changed."""

    def __init__(self, layout: Layout, mirror: Mirror) -> None:
        self._mirror, self._pools_prefix = mirror, layout.pools.prefix
        self._users = MirroredCollection(mirror, layout.users)
        self._groups = MirroredCollection(mirror, layout.groups)
        self._roles = MirroredCollection(mirror, layout.roles)
        self._acl = MirroredCollection(mirror, layout.acl)
        self._pools = MirroredCollection(mirror, layout.pools)
        self._tokens = MirroredCollection(mirror, layout.tokens)
        self._factors = MirroredCollection(mirror, layout.second_factors)
        self._looked_at = -1
        self._mark: tuple[int, int] = (-1, -1)
        self._policy = Policy()

    def policy(self) -> Policy:
        """The present one. Raises ``StoreUnavailable`` before the records were first read."""
        self._mirror.demand_read("Who may do what is")
        if self._mirror.revision != self._looked_at:
            self._look()
        return self._policy

    def factors(self, user: str) -> list[SecondFactor]:
        """The second factors of a user, the disabled ones too."""
        return [factor for factor in self._factors.records() if factor.user == user]

    def _look(self) -> None:
        """A write gives its record the highest revision of all, and a removal makes them fewer: so this mark moves."""
        records = [*self._mirror.list(ACCESS), *self._mirror.list(self._pools_prefix)]
        mark = (len(records), max((record.revision for record in records), default=0))
        if mark != self._mark:
            users = self._users.records()
            if all(user.name != ROOT_USER for user in users):
                users = [User(name=ROOT_USER), *users]
            self._policy = Policy(
                users=users,
                groups=self._groups.records(),
                roles=self._roles.records(),
                acl=self._acl.records(),
                pools=self._pools.records(),
                tokens=self._tokens.records(),
            )
        self._mark, self._looked_at = mark, self._mirror.revision
