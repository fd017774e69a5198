"""The way from one simulated node's HA daemon to another's, past the store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from racimo.ha.failsafe import Answer, Question
    from racimo.ha.simulate.host import Host
    from racimo.model.node import Node


class SimulatedNeighbours:
    """``Neighbours`` over the simulated network."""

    def __init__(self, host: Host) -> None:
        self.host = host

    async def ask(self, member: Node, question: Question) -> Answer:
        world, name = self.host.world, self.host.name
        await self.host.awake()
        await self._travel(name, member.name)
        other = world.hosts[member.name]
        if not other.powered or not other.answers():
            raise ConnectionRefusedError("nobody listens there")
        if not await other.awakes():
            raise ConnectionResetError("it is gone")
        answer = other.ha.failsafe.answer(question)
        await self._travel(member.name, name)
        await self.host.awake()
        return answer

    async def _travel(self, source: str, target: str) -> None:
        """A message gets there late, or, where nothing passes, not within the time that anybody waits."""
        network = self.host.world.network
        await asyncio.sleep(network.latency(source))
        while not network.passes(source, target):
            changed = asyncio.Event()
            network.changed.append(changed.set)
            try:
                await changed.wait()
            finally:
                network.changed.remove(changed.set)
