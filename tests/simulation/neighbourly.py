"""The simulated datacenter with a network between its HA daemons, and an oracle of what leases are worth."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import virtual_time
from sim_node import SimClock
from world import World

from racimo.ha.daemon import HaNode

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sim_node import SimNode

    from racimo.ha.failsafe import Answer, Question
    from racimo.model.node import Node


class Wires:
    """Between the nodes, past the store. What is sent over a cut one is lost, and so are some messages at random."""

    def __init__(self) -> None:
        self.cut: set[frozenset[str]] = set()
        self.lost = 0.0
        """The probability that one message is lost."""
        self.slow = 0.0
        """The probability that one takes up to 4 s."""

    def isolate(self, node: str, others: list[str]) -> None:
        self.cut |= {frozenset((node, other)) for other in others if other != node}


WIRES: dict[int, Wires] = {}
"""Of each world, by its identity: the nodes are made by the world, which knows nothing of wires."""


def wires(world: World) -> Wires:
    return WIRES.setdefault(id(world), Wires())


class SimNeighbours:
    """Questions from one node, over the wires of its world."""

    def __init__(self, node: SimNode) -> None:
        self._node, self._world = node, node.world

    async def ask(self, member: Node, question: Question) -> Answer:
        await self._node.awake()
        other = self._world.nodes[member.name]
        await self._send(other)
        await other.awake()
        if not other.powered:
            raise OSError("no route to host")
        answer = other.ha.failsafe.answer(question)
        await self._send(other)
        await self._node.awake()
        return answer

    async def _send(self, other: SimNode) -> None:
        net, chance = wires(self._world), self._world.random
        late = chance.random() < net.slow
        await asyncio.sleep(chance.uniform(0.5, 4.0) if late else chance.uniform(0.0005, 0.005))
        if frozenset((self._node.name, other.name)) in net.cut or chance.random() < net.lost:
            await asyncio.sleep(3600)


class NeighbourlyHa(HaNode):
    """As the daemon wires it: with a way to the others."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        assert isinstance(self.clock, SimClock)
        self.holder.node_id = self.node
        self.failsafe.neighbours = SimNeighbours(self.clock.node)


async def watch_fences(world: World) -> None:
    """No incarnation is ended while its lease, by its own clock, still lasts."""
    prefix = world.layout.heartbeats.prefix
    async with aclosing(world.memory.watch(prefix, 0)) as changes:
        async for change in changes:
            for event in change.events:
                node = world.nodes[event.key.removeprefix(prefix)]
                lease = node.keeper.lease if node.powered else None
                if event.value is None and lease is not None and node.clock.boottime_ns() < lease.deadline_ns:
                    left = (lease.deadline_ns - node.clock.boottime_ns()) / 1e9
                    world.oracle.violate(f"{node.name} was fenced with {left:.1f} s left of its lease")


class Told(World):
    """A world in which a story is told."""

    def ends(self) -> list[str]:
        return [line for line in self.oracle.log if " ends " in line and "power off" not in line]

    def extended(self) -> list[str]:
        return [name for name, node in self.nodes.items() if node.powered and node.ha.failsafe.extended_ns]

    def store(self, up: bool, *names: str) -> None:
        """Give the store to the nodes ``names`` (all, if none is named), or take it from them."""
        for name in names or self.nodes:
            (self.nodes[name].link.up.set if up else self.nodes[name].link.up.clear)()


def tell(
    story: Callable[[Told], Awaitable[None]], *, seed: int = 1, make_ha: type[HaNode] = NeighbourlyHa, nodes: int = 3
) -> Told:
    """The world after ``story``, which begins with every guest running and ends with every guest running once."""

    async def history() -> Told:
        world = Told(seed, nodes=nodes, make_ha=make_ha)
        await world.begin()
        world.spawn(watch_fences(world))
        try:
            assert await world.all_run(within=60) is not None, world.oracle.log
            world.oracle.log.clear()
            await story(world)
            world.store(True)
            wires(world).cut.clear()
            wires(world).lost = wires(world).slow = 0.0
            for node in world.nodes.values():
                node.resume()
                node.power_on()
            healed = await world.all_run(within=150)
            if healed is None:
                world.oracle.violate("not all guests run again after the healing")
        finally:
            del WIRES[id(world)]
            await world.end()
        assert not world.failures, world.failures
        return world

    return virtual_time.run(history())
