"""Passwords of the realm ``pve``: argon2id, in threads, so many at a time that a flood of logins takes no more."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from racimo.errors import BadParameter, NotLoggedIn

if TYPE_CHECKING:
    from collections.abc import Callable

    from argon2 import PasswordHasher

P = ParamSpec("P")
T = TypeVar("T")
MIN_LENGTH, MAX_LENGTH = 8, 64
"""Characters; the upper bound is that of the Proxmox VE API."""
AT_ONCE = 2
"""Hashes computed at the same time; each takes the memory below."""
WAITING = 64
"""Who may wait for one; more are refused."""
MEMORY_KIB = 65536
PASSES, LANES = 3, 4
"""RFC 9106, section 4: the second recommended choice."""


def check_password(password: str, parameter: str = "password") -> None:
    """Raises ``BadParameter`` for one that is too short, too long, or holds what no keyboard writes."""
    if not MIN_LENGTH <= len(password) <= MAX_LENGTH or not password.isprintable():
        raise BadParameter({parameter: f"takes {MIN_LENGTH} to {MAX_LENGTH} printable characters"})


class Passwords:
    """Makes and checks hashes. ``memory_kib`` is what one computation takes."""

    def __init__(self, memory_kib: int = MEMORY_KIB) -> None:
        self._memory = memory_kib
        self._hasher: PasswordHasher | None = None
        self._free = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0
        self._nobodys = ""

    async def hash(self, password: str) -> str:
        """The hash to keep."""
        return await self._in_turn(self._argon2().hash, password)

    async def is_right(self, hashed: str, password: str) -> bool:
        """Whether ``hashed`` was made of ``password``. Without a hash it takes as long, and is wrong."""
        if not self._nobodys:
            self._nobodys = await self.hash("nobody has this one")
        return await self._in_turn(self._verify, hashed or self._nobodys, password) and bool(hashed)

    def _verify(self, hashed: str, password: str) -> bool:
        from argon2.exceptions import InvalidHashError, VerificationError

        try:
            return self._argon2().verify(hashed, password[: 4 * MAX_LENGTH])
        except (VerificationError, InvalidHashError):
            return False

    def _argon2(self) -> PasswordHasher:
        if self._hasher is None:
            from argon2 import PasswordHasher  # loaded when it is first needed: most commands never do

            self._hasher = PasswordHasher(time_cost=PASSES, memory_cost=self._memory, parallelism=LANES)
        return self._hasher

    async def _in_turn(self, work: Callable[P, T], *arguments: P.args, **named: P.kwargs) -> T:
        if self._waiting >= WAITING:
            raise NotLoggedIn("Too many logins at once", why=f"{self._waiting} wait already", todo="Try again shortly")
        self._waiting += 1
        try:
            async with self._free:
                return await asyncio.to_thread(work, *arguments, **named)
        finally:
            self._waiting -= 1
