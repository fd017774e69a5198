"""A small datacenter in simulated time: real HA code over a real memory store, with nodes and links that fail."""

from __future__ import annotations

import asyncio
import random
from contextlib import aclosing
from typing import Any

from process_oracle import Oracle
from sim_node import SimNode

from racimo.errors import StoreError
from racimo.ha.daemon import HaNode
from racimo.model.guest import Guest
from racimo.model.ha import Resource
from racimo.model.node import Node
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

HaMaker = type[HaNode]


class World:
    """Nodes ``n1``… over one store, guests ``100``… under HA, spread over them."""

    def __init__(self, seed: int, nodes: int = 3, guests: int = 3, make_ha: HaMaker = HaNode) -> None:
        self.random = random.Random(seed)
        self.memory, self.oracle, self.make_ha = MemoryStore(), Oracle(), make_ha
        self.layout = Layout(self.memory)
        self.checks_epochs = self.watchdogs = True
        self.failures: list[BaseException] = []
        self._spawned: set[asyncio.Task[Any]] = set()
        self.nodes = {f"n{i + 1}": SimNode(self, f"n{i + 1}", self.oracle) for i in range(nodes)}
        self.vmids = list(range(100, 100 + guests))

    def spawn(self, work: Any) -> asyncio.Task[Any]:
        """A task of the world, not of a process: it goes on when who asked for it is gone."""
        task = asyncio.get_running_loop().create_task(work)
        self._spawned.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._spawned.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, StoreError):
            self.failures.append(error)

    async def begin(self) -> None:
        """Write the records and switch all nodes on."""
        for name in self.nodes:
            await self.layout.nodes.create(name, Node(name=name, id=name, address=name, voter=True))
        for number, vmid in enumerate(self.vmids):
            node = list(self.nodes)[number % len(self.nodes)]
            await self.layout.guests.create(vmid, Guest(vmid=vmid, node=node))
            await self.layout.resources.create(f"vm:{vmid}", Resource(sid=f"vm:{vmid}", max_restart=3, max_relocate=3))
        self.spawn(self._watch_moves())
        for node in self.nodes.values():
            node.power_on()

    async def _watch_moves(self) -> None:
        """No guest changes its node by the manager while it runs anywhere (a live move pauses it first)."""
        owners = dict.fromkeys(self.vmids, "")
        async with aclosing(self.memory.watch(self.layout.guests.prefix, 0)) as changes:
            async for change in changes:
                for event in change.events:
                    assert event.value is not None
                    guest = self.layout.guests.decode(event.key, event.value, event.revision).record
                    runners = self.oracle.runners(guest.vmid)
                    self.oracle.note(f"{guest.vmid} is of {guest.node} in epoch {guest.epoch}")
                    if owners[guest.vmid] != guest.node and runners:
                        self.oracle.violate(f"{guest.vmid} was given to {guest.node} while it runs on {runners}")
                    owners[guest.vmid] = guest.node

    async def end(self) -> None:
        for node in self.nodes.values():
            node.power_off()
        for task in list(self._spawned):
            task.cancel()
        await asyncio.gather(*self._spawned, return_exceptions=True)
        await self.memory.close()

    async def all_run(self, within: float) -> float | None:
        """Seconds until each guest runs on exactly the node that it belongs to, or None if that does not come."""
        loop, began = asyncio.get_running_loop(), asyncio.get_running_loop().time()
        while loop.time() - began < within:
            await asyncio.sleep(0.1)
            owners = {guest.vmid: guest.node for guest in await self.layout.guests.records()}
            if all(self.oracle.runners(vmid) == {owners[vmid]} for vmid in self.vmids):
                return loop.time() - began
        return None
