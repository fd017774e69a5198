"""The HA daemon of a simulated host: the real parts, with what time and chance they get handed in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from racimo.ha.daemon import HaNode
from racimo.ha.failsafe import FailSafe
from racimo.ha.heartbeat import KILLER_LOOK_S, Holder
from racimo.ha.shutdown import ACTIVE, LOOK_S, Shutdown
from racimo.ha.simulate.fences import SimulatedFences
from racimo.ha.simulate.neighbours import SimulatedNeighbours
from racimo.ha.timing import SECOND_NS
from racimo.ha.view import View

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.ha.simulate.host import Host
    from racimo.store.collection import Collection, Held


class SharedView(View):
    """Decodes each record once for all nodes: it is the same record."""

    decoded: dict[tuple[str, int, bytes], Held[Any]]

    def decode(self, collection: Collection[Any], key: str, value: bytes, revision: int) -> Held[Any]:
        found = self.decoded.get((key, revision, value))
        if found is None:
            if len(self.decoded) > 5000:
                self.decoded.clear()
            found = self.decoded[(key, revision, value)] = collection.decode(key, value, revision)
        return found


class SimulatedHolder(Holder):
    """Names its incarnations in order, and looks whether to kill only when there may be a reason."""

    name_incarnation: Callable[[], str]
    shortened: asyncio.Event

    def new_incarnation(self) -> str:
        return self.name_incarnation()

    async def kill_in_time(self) -> None:
        while True:
            self.shortened.clear()
            wait = KILLER_LOOK_S
            if self.lease is not None:
                wait = max(
                    wait, (self.lease.deadline_ns - self.lease.kill_margin_ns - self.clock.boottime_ns()) / SECOND_NS
                )
            try:
                async with asyncio.timeout(wait):
                    await self.shortened.wait()
            except TimeoutError:
                pass
            await self.clock.sleep(KILLER_LOOK_S / 2)
            self.kill_unleased()


class SimulatedShutdown(Shutdown):
    """Looks at the wish when there is another one, and all the time once there is one."""

    wished: asyncio.Event

    async def run(self) -> None:
        while True:
            self.look()
            if self.holder.mode == ACTIVE:
                self.wished.clear()
                await self.wished.wait()
            else:
                await self.clock.sleep(LOOK_S)


class SimulatedFailSafe(FailSafe):
    """Looks at the lease when so much of it can have run out that it matters."""

    async def run(self) -> None:
        while True:
            beat, standing = self.holder.profile().beat, self.holder.extendable()
            idle = 0.0
            if standing is not None and not self.extends:
                idle = self.holder.left_s() - (standing[0].lease - standing[0].kill_margin) * 2 / 3
            await self.clock.sleep(max(beat / 2, idle))
            await self.look()


class SimulatedHa(HaNode):
    """HA of one node. Deliberate breaks have parts of another kind."""

    view_kind: ClassVar[type[View]] = SharedView
    holder_kind: ClassVar[type[Holder]] = SimulatedHolder
    fences_kind: ClassVar[type[SimulatedFences]] = SimulatedFences

    def __init__(self, host: Host) -> None:
        agents = self.fences_kind(host) if host.world.setup.fences else None
        super().__init__(host.name, host.store(), host.keeper, host.operations, host.clock, host.name, agents)
        self.host = host
        self.manager.loads = host.world.measured
        shutdown = SimulatedShutdown(host.name, self.view, self.holder, host.clock, lambda: host.wish)
        shutdown.wished, self.shutdown = host.wished, shutdown
        self.failsafe = SimulatedFailSafe(host.name, self.view, self.holder, self.observer, host.clock)
        self.holder.peers = self.failsafe.peers
        self.failsafe.neighbours = SimulatedNeighbours(host)
        if isinstance(self.view, SharedView):
            self.view.decoded = host.world.decoded
        if isinstance(self.holder, SimulatedHolder):
            self.holder.shortened = host.keeper.shortened
            self.holder.name_incarnation = host.world.name_incarnation
