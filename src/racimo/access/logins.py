"""A login: name and password, or a ticket that renews itself, and a second factor where the user has one.

A wrong one is answered late, and always with the same words: nobody learns whether it was the name or the password.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from racimo.access.factors import kinds
from racimo.access.limits import neighbourhood
from racimo.access.names import Asker, check_user
from racimo.errors import BadParameter, NotFound, NotLoggedIn
from racimo.model.access import FactorKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from racimo.access.factors import Factors
    from racimo.access.keys import TicketKeys
    from racimo.access.limits import LoginLimiter
    from racimo.access.realms import Realms
    from racimo.access.roster import Roster
    from racimo.model.access import SecondFactor

DELAY = 2.0
"""Seconds that the answer to a wrong login takes at least."""
MAX_DELAYED = 200
"""Answers held back at the same time; a flood beyond is answered at once, and is barred anyway."""
MAX_SECRET = 4096
"""Characters of a password, ticket or code that are looked at."""
SECOND_FACTOR = "second factor"
"""In place of an address: wrong codes count from wherever they come, as who sends them knows the password."""

_log = structlog.get_logger()


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What somebody sent in order to log in. ``challenge`` is the ticket of the first of two steps."""

    user: str
    password: str
    address: str = ""
    code: str = ""
    """A code by the clock, sent along with the password."""
    challenge: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Login:
    """The answer. With ``needs_factor`` the ticket is good for the second step only."""

    user: str
    ticket: str
    form_token: str = ""
    needs_factor: bool = False


class Logins:
    """Lets in. ``wall`` gives seconds since the epoch, ``clock`` monotonic ones; ``sleep`` waits."""

    def __init__(
        self,
        roster: Roster,
        keys: TicketKeys,
        realms: Realms,
        factors: Factors,
        limiter: LoginLimiter,
        *,
        wall: Callable[[], float],
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._roster, self._keys, self._realms, self._factors = roster, keys, realms, factors
        self.limiter, self._wall, self._clock, self._sleep = limiter, wall, clock, sleep
        self._delayed = 0

    async def log_in(self, attempt: Attempt) -> Login:
        """Raises ``NotLoggedIn``, ``BadParameter`` for what is no user's name."""
        check_user(attempt.user, "username")
        if len(attempt.password) > MAX_SECRET or len(attempt.challenge) > MAX_SECRET:
            raise BadParameter({"password": f"takes {MAX_SECRET} characters at most"})
        begun, own = self._clock(), (attempt.user, neighbourhood(attempt.address))
        barred = self.limiter.wait(own)
        if barred:
            await self._hold_back(begun)
            raise NotLoggedIn("authentication failure", why="too many wrong logins", todo=_later(barred))
        login = await self._judge(attempt)
        if login is None:
            self.limiter.wrong(own)
            _log.warning("a login was refused", user=attempt.user, address=attempt.address)
            await self._hold_back(begun)
            raise NotLoggedIn("authentication failure")
        if not login.needs_factor:
            self.limiter.right(own)
        return login

    async def is_password_of(self, user: str, password: str, address: str) -> bool:
        """Whether somebody who is logged in knows their own password; wrong ones count and are answered late."""
        begun, own = self._clock(), (user, neighbourhood(address))
        known = self._roster.policy().active(Asker(user), self._wall())
        if not self.limiter.wait(own) and await self._realms.is_right(user, password[:MAX_SECRET], known=known):
            return True
        self.limiter.wrong(own)
        await self._hold_back(begun)
        return False

    async def _judge(self, attempt: Attempt) -> Login | None:
        """The login, or None for a wrong one."""
        user, now, signer = attempt.user, self._wall(), self._keys.signer()
        known = self._roster.policy().active(Asker(user), now)
        if attempt.challenge:
            made = signer.read_challenge(attempt.challenge, user, now)
            if made is None or not known or made.made < self._not_before(user):
                return None
            return self._let_in(user) if await self._second(user, attempt.password) else None
        if attempt.password.startswith("PVE:"):
            ticket = signer.read(attempt.password, now)
            good = ticket is not None and ticket.user == user and known and ticket.made >= self._not_before(user)
            return self._let_in(user) if good else None
        try:
            right = await self._realms.is_right(user, attempt.password, known=known)
        except NotFound:
            right = False  # there is no such realm
        if not right:
            return None
        factors = [factor for factor in await self._factors.of(user) if factor.enable]
        if not factors:
            return self._let_in(user)
        if attempt.code:
            return self._let_in(user) if await self._second(user, f"totp:{attempt.code}", factors) else None
        return Login(user=user, ticket=signer.challenge(user, kinds(factors), self._stamp(user)), needs_factor=True)

    async def _second(self, user: str, answer: str, factors: Sequence[SecondFactor] = ()) -> bool:
        kind, _, value = answer.partition(":")
        key = (user, SECOND_FACTOR)
        if kind not in list(FactorKind) or self.limiter.wait(key):
            return False
        right = await self._factors.take(factors or await self._factors.of(user), kind, value)
        if right:
            self.limiter.right(key)
        else:
            self.limiter.wrong(key)
        return right

    def _let_in(self, user: str) -> Login:
        signer, now = self._keys.signer(), self._stamp(user)
        return Login(user=user, ticket=signer.ticket(user, now), form_token=signer.form_token(user, now))

    def _stamp(self, user: str) -> float:
        """Now; or later, so that the ticket counts as made after the user's password, should another clock be ahead."""
        return max(self._wall(), self._not_before(user) + 1)

    def _not_before(self, user: str) -> float:
        record = self._roster.policy().users.get(user)
        return record.tickets_from if record else 0.0

    async def _hold_back(self, begun: float) -> None:
        left = begun + DELAY - self._clock()
        if left <= 0 or self._delayed >= MAX_DELAYED:
            return
        self._delayed += 1
        try:
            await self._sleep(left)
        finally:
            self._delayed -= 1


def _later(seconds: float) -> str:
    return f"Try again in {int(seconds) + 1} s"
