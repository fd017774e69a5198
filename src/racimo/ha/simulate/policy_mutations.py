"""Deliberate breaks of what HA promises beside safety: rules, memory, bounds. See ``mutations``."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha.simulate.fences import fence_device
from racimo.ha.simulate.parts import SimulatedHa
from racimo.placement.rules import RuleSet

if TYPE_CHECKING:
    from racimo.ha.simulate.host import Host
    from racimo.ha.states import Snapshot
    from racimo.ha.view import Records


class _Misled(SimulatedHa):
    """Its manager is shown something else than what is."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        real = self.manager.snapshot

        def misled(view: Records, term: int | None = None) -> Snapshot:
            return self.bend(real(view, term))

        self.manager.snapshot = misled  # type: ignore[method-assign]

    def bend(self, snapshot: Snapshot) -> Snapshot:
        """What the manager is shown."""
        raise NotImplementedError


class RulesIgnored(_Misled):
    """Its manager knows no rules."""

    def bend(self, snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, rules=RuleSet())


class MemoryIgnored(_Misled):
    """Its manager takes every node for endless."""

    def bend(self, snapshot: Snapshot) -> Snapshot:
        nodes = {name: replace(node, facts=replace(node.facts, memory=0)) for name, node in snapshot.nodes.items()}
        return replace(snapshot, nodes=nodes)


class MaintenanceIgnored(_Misled):
    """Its manager gives guests to nodes in maintenance."""

    def bend(self, snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, maintenance={})


class BalanceUnbounded(_Misled):
    """Its manager moves guests for balance as often as it likes."""

    def bend(self, snapshot: Snapshot) -> Snapshot:
        return replace(snapshot, options=replace(snapshot.options, crs_moves_per_hour=1000))


class SlowFailover(_Misled):
    """Its manager waits for half a minute longer than it has to."""

    def bend(self, snapshot: Snapshot) -> Snapshot:
        later = {name: replace(seen, expires=seen.expires + 30.0) for name, seen in snapshot.sightings.items()}
        return replace(snapshot, sightings=later)


class NeverExtended(SimulatedHa):
    """Its lease ends with the store."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.failsafe.neighbours = None


class EndsItsGuests(SimulatedHa):
    """Its end is the end of the node's guests."""

    async def run(self) -> None:
        try:
            await super().run()
        finally:
            if self.host.powered:
                self.host.keeper.kill()


class DevicesAtOnce(SimulatedHa):
    """Cuts the power of a node when it likes, without an order."""

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(super().run())
            group.create_task(self._cut_silent())

    async def _cut_silent(self) -> None:
        agents, host = self.fences_kind(self.host), self.host
        while True:
            await host.clock.sleep(1.0)
            for name, beat in self.view.heartbeats.items():
                seen = self.observer.sighting(name, host.clock.monotonic())
                if name != host.name and seen is not None and host.clock.monotonic() > seen.suspect + 1.0:
                    host.world.oracle.note("node", host.name, f"cuts {name}, last heard of at {beat.record.sequence}")
                    await agents.ask(fence_device(name), "off")
