"""Wrong logins make who sent them wait: longer each time, per user and address, in bounded memory."""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

FREE = 5
"""Wrong ones in a row before waiting begins."""
FIRST_WAIT, LONGEST_WAIT = 5.0, 900.0
"""Seconds; doubled each time from the first to the longest."""
FORGET_AFTER = 3600.0
"""Seconds without a wrong one after which all is forgotten."""
KEPT = 10_000
"""Pairs of user and address remembered; the one longest quiet goes first."""


@dataclass(slots=True)
class _Wrongs:
    count: int
    last: float


def neighbourhood(address: str) -> str:
    """What counts as one sender: an IPv4 address, or the 64 bits of an IPv6 one that a network is given."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return str(found)


class LoginLimiter:
    """Counts wrong logins by a key. ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float], *, free: int = FREE) -> None:
        self._clock, self._free = clock, free
        self._wrongs: OrderedDict[tuple[str, str], _Wrongs] = OrderedDict()

    def wait(self, *keys: tuple[str, str]) -> float:
        """Seconds until any of these may try again; 0: now."""
        return max((self._wait(key) for key in keys), default=0.0)

    def wrong(self, *keys: tuple[str, str]) -> None:
        """One more wrong login."""
        now = self._clock()
        for key in keys:
            found = self._wrongs.pop(key, None)
            count = found.count if found is not None and now - found.last < FORGET_AFTER else 0
            self._wrongs[key] = _Wrongs(count + 1, now)
        while len(self._wrongs) > KEPT:
            self._wrongs.popitem(last=False)

    def right(self, *keys: tuple[str, str]) -> None:
        """A right one: what was wrong before is forgotten."""
        for key in keys:
            self._wrongs.pop(key, None)

    def __len__(self) -> int:
        return len(self._wrongs)

    def _wait(self, key: tuple[str, str]) -> float:
        found = self._wrongs.get(key)
        if found is None or found.count < self._free:
            return 0.0
        wait = min(FIRST_WAIT * 2.0 ** min(found.count - self._free, 20), LONGEST_WAIT)
        return max(0.0, found.last + wait - self._clock())
