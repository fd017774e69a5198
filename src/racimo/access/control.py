"""Access control as the API asks for it: who is it, and may they?"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote

from racimo.access.acl import Acl
from racimo.access.factors import Factors
from racimo.access.groups import Groups, Roles
from racimo.access.keys import TicketKeys
from racimo.access.limits import LoginLimiter
from racimo.access.logins import Logins
from racimo.access.names import Asker, parse_asker
from racimo.access.pam import Pam
from racimo.access.passwords import Passwords
from racimo.access.pools import Pools
from racimo.access.realms import Realms
from racimo.access.roster import Roster
from racimo.access.tokens import Tokens, is_secret_of
from racimo.access.users import Users
from racimo.errors import NotLoggedIn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror
    from racimo.store.sealing import Sealing

TOKEN_SCHEME = "PVEAPIToken="  # noqa: S105 - what stands before a token, not one
MAX_CREDENTIAL = 4096
"""Characters of a header that is looked at."""


@dataclass(frozen=True, slots=True)
class Credentials:
    """What came with a request: a ticket from the cookie, or what the Authorization header says."""

    ticket: str = ""
    form_token: str = ""
    authorization: str = ""
    changes: bool = False
    """Whether the request is one that a page of another site could have sent: then the form token counts."""

    def __bool__(self) -> bool:
        return bool(self.ticket or self.authorization)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machinery:
    """What differs in tests: clocks, waiting, and the costs of a hash."""

    wall: Callable[[], float] = time.time
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    passwords: Callable[[], Passwords] = Passwords
    pam: Callable[[], Pam] = Pam


class AccessControl:
    """One node's. Its parts change records; ``identify`` and ``allows`` read the watched copy alone."""

    def __init__(
        self,
        layout: Layout,
        mirror: Mirror,
        sealing: Sealing,
        machinery: Machinery = Machinery(),
    ) -> None:
        self._wall = machinery.wall
        self.roster = Roster(layout, mirror)
        self.keys = TicketKeys(layout, mirror, sealing, machinery.wall)
        self.realms = Realms(layout, machinery.passwords(), machinery.pam())
        self.users = Users(layout, self.realms, machinery.wall)
        self.tokens = Tokens(layout, self.users)
        self.groups, self.roles, self.pools = Groups(layout), Roles(layout), Pools(layout)
        self.acl = Acl(layout, self.roles)
        self.factors = Factors(layout, sealing, machinery.wall)
        self.logins = Logins(
            self.roster, self.keys, self.realms, self.factors, LoginLimiter(machinery.clock),
            wall=machinery.wall, clock=machinery.clock, sleep=machinery.sleep,
        )  # fmt: skip

    def identify(self, credentials: Credentials) -> Asker:
        """Who sent them. Raises ``NotLoggedIn``, or ``StoreUnavailable`` before the records were read."""
        if credentials.authorization:
            return self._by_token(credentials.authorization)
        now, policy, signer = self._wall(), self.roster.policy(), self.keys.signer()
        for text in (credentials.ticket, unquote(credentials.ticket)):
            ticket = signer.read(text, now)
            if ticket is None or not policy.active(Asker(ticket.user), now):
                continue
            record = policy.users.get(ticket.user)
            if record is not None and ticket.made < record.tickets_from:
                continue
            if credentials.changes and not signer.is_form_token(credentials.form_token, ticket.user, now):
                raise NotLoggedIn("Permission denied - invalid csrf token")
            return Asker(ticket.user)
        raise NotLoggedIn("permission denied - invalid PVE ticket")

    def allows(self, asker: Asker, path: str, *any_of: str) -> bool:
        """Whether ``asker``, still known and active, has any of these privileges on ``path``."""
        policy = self.roster.policy()
        return policy.active(asker, self._wall()) and policy.allows(asker, path, *any_of)

    def active(self, asker: Asker) -> bool:
        """Whether ``asker`` is known, enabled and not expired."""
        return self.roster.policy().active(asker, self._wall())

    def _by_token(self, authorization: str) -> Asker:
        name, _, secret = authorization[:MAX_CREDENTIAL].removeprefix(TOKEN_SCHEME).rpartition("=")
        asker, policy = parse_asker(unquote(name)), self.roster.policy()
        token = policy.tokens.get(str(asker))
        if not authorization.startswith(TOKEN_SCHEME) or token is None or not is_secret_of(token, secret):
            raise NotLoggedIn("permission denied - invalid API token")
        if not policy.active(asker, self._wall()):
            raise NotLoggedIn("permission denied - the API token or its user is disabled or expired")
        return asker
