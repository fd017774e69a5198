"""A datacenter of one node over a memory store, whose clock, files and daemon are in the test's hand."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed
from racimo.ha.daemon import HaNode
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.node import Node
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from racimo.model.lease import Lease


class HandClock:
    """A clock that stands still unless it is moved; sleeping takes no time of it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now

    def boottime_ns(self) -> int:
        return round(self.now * 1e9)

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(min(seconds, 0.01))


class Desk:
    """The lease, marks and processes of a node without any: outlives the daemon's restarts."""

    def __init__(self, clock: HandClock) -> None:
        self.clock = clock
        self.lease: Lease | None = None
        self.marks: set[int] = set()
        self.running: set[int] = set()
        self.kills = 0
        self.guard_silent = 0.0

    def read(self) -> Lease | None:
        return self.lease

    def write(self, lease: Lease) -> None:
        self.lease = lease

    def remove(self) -> None:
        self.lease = None

    def begin(self, incarnation: str) -> None:
        assert not self.running & self.marks

    def guests(self) -> int:
        return len(self.running & self.marks)

    def kill(self) -> int:
        doomed = self.running & self.marks
        self.running -= doomed
        self.kills += len(doomed)
        return len(doomed)

    def guard_seen_ns(self) -> int:
        return self.clock.boottime_ns() - round(self.guard_silent * 1e9)

    def marked(self) -> set[int]:
        return set(self.marks)

    def mark(self, vmid: int) -> None:
        self.marks.add(vmid)

    def unmark(self, vmid: int) -> None:
        self.marks.discard(vmid)


class Starter:
    """A node's daemon that does at once what it is told, and notes it."""

    def __init__(self, layout: Layout, desk: Desk, node: str) -> None:
        self.layout, self.desk, self.node = layout, desk, node
        self.commands: list[tuple[str, int, int]] = []

    async def start(self, vmid: int, epoch: int) -> None:
        self.commands.append(("start", vmid, epoch))
        self.desk.running.add(vmid)
        await self._says(vmid, epoch, RunState.RUNNING)

    async def stop(self, vmid: int, epoch: int) -> None:
        self.commands.append(("stop", vmid, epoch))
        self.desk.running.discard(vmid)
        await self._says(vmid, epoch, RunState.STOPPED)

    async def migrate(self, vmid: int, epoch: int, target: str, live: bool, given_up: Callable[[], bool]) -> None:
        raise OperationFailed("not here")

    async def _says(self, vmid: int, epoch: int, state: RunState) -> None:
        runtime = Runtime(vmid=vmid, node=self.node, epoch=epoch, state=state)
        await self.layout.store.txn([], [self.layout.runtimes.put(vmid, runtime)])


class OneNode:
    """A datacenter of the node n1 over a memory store, with vm:100."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), HandClock()
        self.layout, self.desk = Layout(self.store), Desk(self.clock)
        self.operations = Starter(self.layout, self.desk, "n1")
        self.ha = self.make()

    def make(self) -> HaNode:
        return HaNode("n1", self.store, self.desk, self.operations, self.clock)

    async def records(self) -> None:
        await self.layout.nodes.create("n1", Node(name="n1", id="1", address="1", voter=True))
        await self.layout.guests.create(100, Guest(vmid=100, node="n1"))

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self.ha.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < 10, f"waited 10 s for: {what}"
            await asyncio.sleep(0.005)


def marks(desk: Desk) -> Callable[[str, int], object]:
    async def mark(node: str, vmid: int) -> None:
        desk.mark(vmid)

    return mark
