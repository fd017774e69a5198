"""The HA daemon of a simulated host: the real parts, with what time and chance they get handed in."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar

from racimo.ha.daemon import HaNode
from racimo.ha.heartbeat import KILLER_LOOK_S, Holder
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
                await self.clock.sleep(KILLER_LOOK_S / 2)
            except TimeoutError:
                await self.clock.sleep(0)
            self.kill_unleased()


class SimulatedHa(HaNode):
    """HA of one node. Deliberate breaks have parts of another kind."""

    view_kind: ClassVar[type[View]] = SharedView
    holder_kind: ClassVar[type[Holder]] = SimulatedHolder

    def __init__(self, host: Host) -> None:
        super().__init__(host.name, host.store(), host.keeper, host.operations, host.clock, host.name)
        self.host = host
        self.failsafe.neighbours = SimulatedNeighbours(host)
        if isinstance(self.view, SharedView):
            self.view.decoded = host.world.decoded
        if isinstance(self.holder, SimulatedHolder):
            self.holder.shortened = host.keeper.shortened
            self.holder.name_incarnation = host.world.name_incarnation
