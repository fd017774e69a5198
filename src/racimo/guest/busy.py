"""Which guests somebody in this daemon works on, and which are in doubt and to be looked at."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Busy:
    """One holder per guest at a time; those who wait are served in order."""

    def __init__(self) -> None:
        self.woken = asyncio.Event()
        """Set when a guest came into doubt, or one in doubt was let go."""
        self._locks: dict[int, asyncio.Lock] = {}
        self._doubtful: set[int] = set()

    @asynccontextmanager
    async def hold(self, vmid: int, *, looking: bool = False) -> AsyncIterator[None]:
        """Work on a guest alone. ``looking`` is the look at a guest in doubt itself, which calls for no other."""
        lock = self._locks.setdefault(vmid, asyncio.Lock())
        async with lock:
            try:
                yield
            finally:
                if vmid in self._doubtful and not looking:
                    self.woken.set()

    def is_held(self, vmid: int) -> bool:
        """Whether somebody works on the guest now."""
        return vmid in self._locks and self._locks[vmid].locked()

    def doubt(self, vmid: int) -> None:
        """The records and the process of this guest may not agree: have it looked at."""
        self._doubtful.add(vmid)
        self.woken.set()

    def settle(self, vmid: int) -> None:
        """It is in doubt no more."""
        self._doubtful.discard(vmid)

    @property
    def doubtful(self) -> frozenset[int]:
        """The guests in doubt that nobody works on now."""
        return frozenset(vmid for vmid in self._doubtful if not self.is_held(vmid))
