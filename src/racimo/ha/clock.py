"""The clocks that the live parts read, handed in so that tests and the simulation bring their own."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from racimo.model.lease import boottime_ns


class Clock(Protocol):
    """Time on one node."""

    def boottime_ns(self) -> int:
        """CLOCK_BOOTTIME, what leases are counted on."""

    def monotonic(self) -> float:
        """Seconds on the observer's own clock."""

    def wall(self) -> float:
        """Seconds since the epoch; for people only."""

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""


class SystemClock:
    """The clocks of this machine. Observers use CLOCK_BOOTTIME too, so that a suspended observer has waited."""

    def boottime_ns(self) -> int:
        return boottime_ns()

    def monotonic(self) -> float:
        return boottime_ns() / 1e9

    def wall(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
