"""In which order guests start when many have to: by the guest's own ``startup: order=N,up=SECONDS``. Pure.

It binds guests that start where they are (a datacenter, or a node, that was switched on). A guest that is recovered
from another node waits for nobody.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from racimo.ha.states import running
from racimo.model.ha import Requested, ServiceState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.ha.states import Snapshot
    from racimo.model.guest import Guest

SETTLE_S = 20.0
"""What a node that has just come says of its guests is older than its boot for so long at most."""
DUE = (ServiceState.QUEUED, ServiceState.REQUEST_START, ServiceState.REQUEST_START_BALANCE)
MAY_BE_DUE = (ServiceState.STARTED, ServiceState.STOPPED, ServiceState.FREEZE)


def startup(config: Mapping[str, str]) -> tuple[float, float]:
    """``order`` (infinite: after all that have one) and ``up``, seconds until the next order may start."""
    order, up = math.inf, 0.0
    for number, part in enumerate(config.get("startup", "").split(",")):
        key, _, value = part.partition("=")
        if not value and number == 0:
            key, value = "order", key
        if value.isdigit():
            order, up = (float(value), up) if key == "order" else (order, float(value) if key == "up" else up)
    return order, up


class StartOrder:
    """Who has to start before whom. ``online`` are the nodes that show life."""

    def __init__(self, snapshot: Snapshot, online: frozenset[str]) -> None:
        self.snapshot, self.online = snapshot, online
        self._ranked: dict[str, tuple[float, float]] | None = None
        self._first: tuple[float, str] | None = None
        self.wake: float | None = None
        """In how many seconds the next delay is over."""

    def before(self, sid: str) -> str:
        """What ``sid`` waits for before it is started; empty if for nothing."""
        if self._ranked is None:
            self._rank()
        ranked = self._ranked or {}
        if not ranked:
            return ""
        own = ranked.get(sid, (math.inf, 0.0))[0]
        if self._first is not None and self._first[0] < own:
            return f"{self._first[1]} (order {self._first[0]:g}) starts first"
        for other, (order, up) in ranked.items():
            left = self._left(other, up) if order < own else 0.0
            if left > 0:
                self.wake = left if self.wake is None else min(self.wake, left)
                return f"{other} (order {order:g}) has {up:g} s to come up first"
        return ""

    def _rank(self) -> None:
        """All guests that have an order, and the first of them that has still to start."""
        self._ranked = {}
        for sid, resource in self.snapshot.resources.items():
            guest = self.snapshot.guests.get(sid)
            if guest is None or "startup" not in guest.config or resource.requested is not Requested.STARTED:
                continue
            self._ranked[sid] = rank = startup(guest.config)
            if rank[0] < math.inf and self._is_due(sid, guest):
                first = (rank[0], sid)
                self._first = first if self._first is None else min(self._first, first)

    def _is_due(self, sid: str, guest: Guest) -> bool:
        service = self.snapshot.services.get(sid)
        if service is None or service.state in DUE:
            return True
        return service.state in MAY_BE_DUE and not self._is_up(sid, guest)

    def _is_up(self, sid: str, guest: Guest) -> bool:
        runtime = self.snapshot.runtimes.get(sid)
        if runtime is None or not running(guest, runtime) or guest.node not in self.online:
            return False
        status = self.snapshot.statuses.get(guest.node)
        came = status.since if status is not None else 0.0
        just_came = 0 <= self.snapshot.wall - came < SETTLE_S
        return not just_came or runtime.since >= came

    def _left(self, sid: str, up: float) -> float:
        runtime = self.snapshot.runtimes.get(sid)
        if not up or runtime is None:
            return 0.0
        since = self.snapshot.wall - runtime.since
        return up - since if 0 <= since < up else 0.0
