"""Asks the fence devices now and then whether the power of nodes that show life is on.

A device that gives no answer, or calls a node off that beats, would confirm nothing or anything; it is not relied on
until it answers rightly. Only the manager asks, only changes are written down.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreError
from racimo.model.fence import FenceCheck

if TYPE_CHECKING:
    from racimo.ha.clock import Clock
    from racimo.ha.fencing.agents import FenceAgents
    from racimo.ha.manager import Manager
    from racimo.ha.observer import Observer
    from racimo.ha.view import View
    from racimo.model.fence import DeviceAnswer, FenceDevice
    from racimo.store.collection import Held

log = structlog.get_logger()

CHECK_S = 60.0
"""Between two questions to a device that answered rightly."""
DOUBT_S = 15.0
"""Between two questions to one that did not."""
LOOK_S = 5.0
"""How often it is looked whether any device is due: it may be new, or have been changed."""
AT_ONCE = 4
"""So many devices are asked at the same time."""


class Checker:
    """The eye of the manager on ``node``."""

    def __init__(
        self, node: str, view: View, observer: Observer, manager: Manager, agents: FenceAgents, clock: Clock
    ) -> None:
        self._node, self._view, self._observer, self._manager = node, view, observer, manager
        self._agents, self._clock = agents, clock
        self.doubt_s, self.look_s = DOUBT_S, LOOK_S
        self._asked: dict[str, tuple[int, float]] = {}
        """By device: the revision of its record when it was last asked, and when it is due again."""

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._clock.sleep(self.look_s)
            if self._manager.manages:
                due = [held for name, held in sorted(self._view.fence_devices.items()) if self._is_due(name, held)]
                await asyncio.gather(*(self._check(held) for held in due[:AT_ONCE]))
            else:
                self._asked.clear()

    def _is_due(self, name: str, held: Held[FenceDevice]) -> bool:
        revision, again = self._asked.get(name, (0, 0.0))
        due = revision != held.revision or self._clock.monotonic() >= again
        return due and held.record.enabled and self._shows_life(held.record.node)

    def _shows_life(self, node: str) -> bool:
        now = self._clock.monotonic()
        sighting = self._observer.sighting(node, now)
        return node in self._view.heartbeats and sighting is not None and now < sighting.suspect

    async def _check(self, held: Held[FenceDevice]) -> None:
        device = held.record
        fault = await self._fault(device)
        now = self._clock.monotonic()
        self._asked[device.name] = held.revision, now + (self.doubt_s if fault else CHECK_S)
        if fault is not None:
            await self._write(held, fault)

    async def _fault(self, device: FenceDevice) -> str | None:
        """What is wrong with the device; empty if nothing; None if its node fell silent meanwhile."""
        fault = _wrong(await self._agents.ask(device, "status"), device.node)
        if fault:
            # Its node may just have lost its power: then its beats end, and the device was right.
            await self._clock.sleep(3 * self._observer.beat)
            fault = _wrong(await self._agents.ask(device, "status"), device.node)
        return fault if self._shows_life(device.node) else None

    async def _write(self, held: Held[FenceDevice], fault: str) -> None:
        name, checks = held.record.name, self._view.layout.fence_checks
        old, term = self._view.fence_checks.get(name), self._view.manager.get("term")
        if term is None or not self._manager.manages or (old is not None and old.record.ok == (not fault)):
            return  # nothing new: an ok that is ok, or a fault that is one still
        check = FenceCheck(device=name, ok=not fault, why=fault or "it says that the power is on", by=self._node,
                           since=self._clock.wall())  # fmt: skip
        compares = [term.compare, held.compare, old.compare if old else checks.absent(name)]
        try:
            await self._view.store.txn(compares, [checks.put(name, check, old)])
        except StoreError as error:
            log.info("the check of a fence device could not be written", device=name, why=str(error))
            return
        if fault:
            log.warning("a fence device is not relied on", device=name, node=held.record.node, why=fault)
        else:
            log.info("a fence device is relied on", device=name, node=held.record.node)


def _wrong(answer: DeviceAnswer, node: str) -> str:
    if answer.power == "on":
        return ""
    if answer.power == "off":
        return f"it says that the power of {node} is off while {node} shows life"
    return answer.said
