"""Which nodes show signs of life: by their heartbeats, as the watched copy of the store tells of them."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror

FRESH = 6.0
"""Seconds without a heartbeat after which a node counts as offline: three beats of the slowest profile."""


class HeartbeatPresence:
    """For people and listings only; what HA acts on is its own observer. Run ``follow`` beside it."""

    def __init__(self, layout: Layout, mirror: Mirror, clock: Callable[[], float] = time.monotonic) -> None:
        self._prefix, self._mirror, self._clock = layout.heartbeats.prefix, mirror, clock
        self._seen: dict[str, float] = {}

    def online(self, node: str) -> bool:
        """Whether it beat within ``FRESH`` seconds before the copy was last known to be current."""
        seen, current = self._seen.get(node), self._mirror.confirmed_at
        return seen is not None and current is not None and current - seen < FRESH

    async def follow(self) -> None:
        """Take notice of heartbeats until cancelled. A node that has one at the beginning counts as seen now."""
        changes = self._mirror.changes()
        for stored in self._mirror.list(self._prefix):
            self._seen[stored.key.removeprefix(self._prefix)] = self._clock()
        async for change in changes:
            for event in change.events:
                if not event.key.startswith(self._prefix):
                    continue
                node = event.key.removeprefix(self._prefix)
                if event.value is None:
                    self._seen.pop(node, None)
                else:
                    self._seen[node] = self._clock()
