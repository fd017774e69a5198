"""HA of the whole datacenter as administrators handle it: maintenance of nodes, disarming, rebalancing."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from racimo.errors import Conflict, NotFound, Refused
from racimo.ha.balancing import goal_of, plan
from racimo.ha.scene import Scene
from racimo.ha.service_turn import ServiceTurn
from racimo.ha.states import DEFAULTS, Sighting, Snapshot
from racimo.model.ha import Arming, ArmPhase, Maintenance
from racimo.model.record import Record
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from racimo.ha.states import Load
    from racimo.placement.rebalance import Plan
    from racimo.store.collection import Collection
    from racimo.store.layout import Layout

R = TypeVar("R", bound=Record)

STATE = "state"
ATTEMPTS = 16
MODES = ("freeze", "ignore")


@dataclass(frozen=True, slots=True)
class NodeMaintenance:
    """Whether a node is in maintenance, and the HA guests that are still there."""

    node: str
    maintenance: Maintenance | None
    guests: tuple[str, ...]


class HaControl:
    """What is asked for stands in the store; the manager, wherever it is, carries it out.

    ``measure`` says what nodes and guests use now; it is asked where guests are scheduled by that.
    """

    def __init__(self, layout: Layout, measure: Callable[[], Awaitable[Mapping[str, Load]]] | None = None) -> None:
        self._layout, self._measure = layout, measure

    async def set_maintenance(self, node: str, *, on: bool, comment: str = "") -> None:
        """HA guests shall leave ``node``, or may come back. Raises ``NotFound`` and ``Refused``."""
        maintenance, layout = self._layout.maintenance, self._layout
        for _ in range(ATTEMPTS):
            member, held = await layout.nodes.find(node), await maintenance.find(node)
            if member is None:
                raise NotFound(f"Node '{node}' does not exist", todo="See: racimo cluster status")
            if member.record.witness:
                raise Refused(
                    f"{node} cannot be in maintenance",
                    why="it is a witness and runs no guests",
                    todo="Switch it off as it is; while it is off, every node has to stay on",
                )
            compares = [member.compare, held.compare if held else maintenance.absent(node)]
            if on:
                since = held.record.since if held else time.time()
                record = Maintenance(node=node, comment=comment, since=since)
                done = await layout.store.txn(compares, [maintenance.put(node, record, held)])
            elif held is None:
                return
            else:
                done = await layout.store.txn(compares, deletes=[held.key])
            if done is not None:
                return
        raise Conflict(f"The maintenance of {node} was not changed", why="it changes all the time", todo="Try again")

    async def maintenance(self) -> list[NodeMaintenance]:
        """All nodes that can run guests."""
        held, guests = await self._layout.maintenance.all(), await self._layout.guests.records()
        resources = await self._layout.resources.all()
        lines = []
        for node in sorted(await self._layout.nodes.records(), key=lambda node: node.name):
            if not node.witness:
                here = tuple(sorted(g.sid for g in guests if g.node == node.name and g.sid in resources))
                record = held.get(node.name)
                lines.append(NodeMaintenance(node.name, record.record if record else None, here))
        return lines

    async def arming(self) -> Arming:
        """Whether HA acts."""
        held = await self._layout.arming.find(STATE)
        return held.record if held else Arming()

    async def disarm(self, mode: str) -> None:
        """Have the manager finish what it is doing, and then do nothing. ``mode``: ``freeze`` or ``ignore``."""

        def change(now: Arming) -> Arming:
            if now.phase is not ArmPhase.ARMED and now.mode == mode:
                return now
            phase = ArmPhase.DISARMING if now.phase is ArmPhase.ARMED else now.phase
            return replace(now, phase=phase, mode=mode, why="asked for", since=time.time())

        await self._change(change)

    async def arm(self) -> None:
        """Have HA act again. Guests that run where no guard knows them are watched once their node has marked them."""

        def change(now: Arming) -> Arming:
            if now.phase is ArmPhase.ARMED:
                return now
            return replace(now, phase=ArmPhase.ARMED, mode="", why="", since=time.time())

        await self._change(change)

    async def _change(self, change: Callable[[Arming], Arming]) -> None:
        arming = self._layout.arming
        for _ in range(ATTEMPTS):
            held = await arming.find(STATE)
            now = held.record if held else Arming()
            new = change(now)
            if new == now:
                return
            compares = [held.compare if held else arming.absent(STATE)]
            if await self._layout.store.txn(compares, [arming.put(STATE, new, held)]) is not None:
                return
        raise Conflict("HA was not armed or disarmed", why="that changes all the time", todo="Try again")

    async def plan(self, *, moves: int | None = None) -> Plan:
        """What rebalancing would move now, each with why; ``moves`` at most (left out: what an hour allows)."""
        snapshot = await self._snapshot()
        turn = ServiceTurn(Scene(snapshot, 0.0))
        limit = snapshot.options.crs_moves_per_hour if moves is None else moves
        return plan(turn, goal_of(snapshot.options, limit))

    async def rebalance(self, *, moves: int | None = None) -> Plan:
        """Ask the manager for the moves of the plan."""
        made = await self.plan(moves=moves)
        for move in made.moves:
            await self._layout.resources.update(move.sid, partial(replace, target=move.target, target_mode="migrate"))
        return made

    async def _snapshot(self) -> Snapshot:
        """As the manager sees it, but that a node counts as online while it has a heartbeat."""
        layout = self._layout
        nodes, beats = await _records(layout.nodes), await _records(layout.heartbeats)
        guests = {guest.sid: guest for guest in await layout.guests.records()}
        settings, arming = await layout.datacenter.find("settings"), await self.arming()
        members = [name for name, node in nodes.items() if not node.witness]
        dynamic = settings is not None and settings.record.crs == "dynamic"
        loads = await self._measure() if self._measure is not None and dynamic else {}
        return Snapshot(
            term=0,
            wall=time.time(),
            nodes=nodes,
            heartbeats=beats,
            sightings={name: Sighting(0.0, math.inf, 0, math.inf) for name in beats},
            resources=await _records(layout.resources),
            services=await _records(layout.services),
            guests=guests,
            runtimes={f"vm:{runtime.vmid}": runtime for runtime in await layout.runtimes.records()},
            storages=await _records(layout.storages),
            maintenance=await _records(layout.maintenance),
            arming=arming,
            options=settings.record if settings else DEFAULTS,
            rules=compile_rules(await layout.rules.records(), members),
            loads=loads,
        )


async def _records(collection: Collection[R]) -> dict[str, R]:
    return {name: held.record for name, held in (await collection.all()).items()}
