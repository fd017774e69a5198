"""One server in simulated time: its clock, files and processes, its daemon, guard and watchdog."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from linked_store import Link, LinkedStore

from racimo.errors import Conflict, OperationFailed, StoreError, Unreachable
from racimo.ha.timing import PROFILES
from racimo.model.guest import RunState, Runtime
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from process_oracle import Oracle
    from world import World

    from racimo.model.lease import Lease

PROFILE = PROFILES["default"]


@dataclass
class SimClock:
    """The clocks of one boot of a node: an offset and a rate of its own."""

    offset: float
    rate: float
    node: SimNode

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time() * self.rate + self.offset

    def boottime_ns(self) -> int:
        return round(self.monotonic() * 1e9)

    def wall(self) -> float:
        return asyncio.get_running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self.rate)
        await self.node.awake()


class SimKeeper:
    """The files and processes that HA keeps on a node; they go with the power."""

    def __init__(self, node: SimNode) -> None:
        self.node = node
        self.lease: Lease | None = None
        self.marks: set[int] = set()

    def read(self) -> Lease | None:
        return self.lease

    def write(self, lease: Lease) -> None:
        self.lease = lease

    def remove(self) -> None:
        self.lease = None

    def begin(self, incarnation: str) -> None:
        self.node.oracle.note(f"{self.node.name} begins {incarnation}")

    def guests(self) -> int:
        return len(self.marks & set(self.node.running))

    def kill(self) -> int:
        doomed = self.marks & set(self.node.running) if self.node.killer_on else set()
        for vmid in doomed:
            self.node.end(vmid, "killed without a lease")
        return len(doomed)

    def guard_seen_ns(self) -> int:
        return self.node.guard_tick_ns

    def marked(self) -> set[int]:
        return set(self.marks)

    def mark(self, vmid: int) -> None:
        self.marks.add(vmid)

    def unmark(self, vmid: int) -> None:
        self.marks.discard(vmid)

    def close(self) -> None:
        return


class SimOperations:
    """The node's daemon: starts, stops and moves guests by the rules of docs/architecture.md."""

    def __init__(self, node: SimNode) -> None:
        self.node, self.layout = node, Layout(LinkedStore(node.world, node.link))
        self._locks: dict[int, asyncio.Lock] = {}

    def _lock(self, vmid: int) -> asyncio.Lock:
        return self._locks.setdefault(vmid, asyncio.Lock())

    async def _late(self) -> None:
        """Commands may take long to arrive and to act."""
        chance = self.node.world.random
        await asyncio.sleep(chance.uniform(0.01, 8.0) if chance.random() < self.node.late else 0.02)
        await self.node.awake()

    async def _runtime(self, vmid: int, epoch: int, state: RunState, compare_guest: bool = True) -> None:
        guest, held = await self.layout.guests.hold(vmid), await self.layout.runtimes.find(vmid)
        if self.node.world.checks_epochs and (guest.record.node, guest.record.epoch) != (self.node.name, epoch):
            raise Conflict(f"{vmid} is not of {self.node.name} in epoch {epoch}")
        new = Runtime(vmid=vmid, node=self.node.name, epoch=epoch, state=state)
        compares = [held.compare if held else self.layout.runtimes.absent(vmid)]
        if self.node.world.checks_epochs:
            compares.append(guest.compare)
        if await self.layout.store.txn(compares, [self.layout.runtimes.put(vmid, new, held)]) is None:
            raise Conflict(f"{vmid} was changed meanwhile")

    async def start(self, vmid: int, epoch: int) -> None:
        if not self.node.daemon_up:
            raise Unreachable("the daemon is away")
        async with self._lock(vmid):
            await self._late()
            if vmid not in self.node.running:
                await self._runtime(vmid, epoch, RunState.STARTING)
                self.node.keeper.mark(vmid)
                await self._late()
                lease = self.node.keeper.lease
                if lease is None or not lease.holds(self.node.clock.boottime_ns()):
                    await self._runtime(vmid, epoch, RunState.STOPPED)
                    raise OperationFailed("no lease")
                self.node.begin(vmid, epoch)
            await self._runtime(vmid, epoch, RunState.RUNNING)

    async def stop(self, vmid: int, epoch: int) -> None:
        if not self.node.daemon_up:
            raise Unreachable("the daemon is away")
        async with self._lock(vmid):
            await self._late()
            self.node.end(vmid, "stopped")
            await self._runtime(vmid, epoch, RunState.STOPPED)

    async def migrate(self, vmid: int, epoch: int, target: str, live: bool, given_up: Callable[[], bool]) -> None:
        other = self.node.world.nodes[target]
        async with self._lock(vmid):
            await self._late()
            lease = other.keeper.lease
            if vmid not in self.node.running or lease is None or not other.powered:
                raise OperationFailed("it cannot be moved")
            other.keeper.mark(vmid)
            guest, held = await self.layout.guests.hold(vmid), await self.layout.runtimes.hold(vmid)
            if guest.record.epoch != epoch:
                raise Conflict("an older epoch")
            self.node.end(vmid, f"paused, to go on on {target}")
            moved = replace(guest.record, node=target, epoch=epoch + 1)
            runs = Runtime(vmid=vmid, node=target, epoch=epoch + 1, state=RunState.RUNNING)
            committed = await self.layout.store.txn(
                [guest.compare, held.compare],
                [self.layout.guests.put(vmid, moved, guest), self.layout.runtimes.put(vmid, runs, held)],
            )
            if committed is None:
                raise Conflict("it was changed meanwhile")
            lease = other.keeper.lease
            if other.powered and lease is not None and lease.holds(other.clock.boottime_ns()):
                other.begin(vmid, epoch + 1)

    async def settle(self) -> None:
        """What the daemon does all the time: write down what ended by itself."""
        while True:
            await self.node.clock.sleep(0.5)
            try:
                for held in await self.layout.runtimes.records():
                    vmid, lock = held.vmid, self._lock(held.vmid)
                    if held.node != self.node.name or held.state is RunState.STOPPED or lock.locked():
                        continue
                    async with lock:
                        if vmid not in self.node.running:
                            await self._runtime(vmid, held.epoch, RunState.STOPPED)
            except (StoreError, Conflict):
                continue


@dataclass
class SimNode:
    """One server: power, pauses, guard, watchdog, daemons."""

    world: World
    name: str
    oracle: Oracle
    powered: bool = False
    daemon_up: bool = True
    late: float = 0.0
    guard_on: bool = True
    killer_on: bool = True
    running: dict[int, int] = field(default_factory=dict)
    guard_tick_ns: int = 0
    fed: float = 0.0

    def __post_init__(self) -> None:
        self._awake, self._tasks = asyncio.Event(), list[asyncio.Task[None]]()
        self._ha: asyncio.Task[None] | None = None
        self._awake.set()
        self.link = Link(self.world, self)

    async def awake(self) -> None:
        """Pass only while the machine is not paused."""
        await self._awake.wait()

    def pause(self) -> None:
        self._awake.clear()

    def resume(self) -> None:
        self._awake.set()

    def begin(self, vmid: int, epoch: int) -> None:
        self.running[vmid] = epoch
        self.oracle.started(self.name, vmid, epoch)

    def end(self, vmid: int, why: str) -> None:
        if self.running.pop(vmid, None) is not None:
            self.oracle.ended(self.name, vmid, why)

    def power_on(self) -> None:
        if self.powered:
            return
        chance = self.world.random
        self.powered, self.fed = True, 0.0
        self.clock = SimClock(chance.uniform(0, 1e5), chance.uniform(0.99, 1.01), self)
        self.keeper, self.operations = SimKeeper(self), SimOperations(self)
        self.guard_tick_ns = 0
        self.resume()
        self.oracle.note(f"{self.name} on")
        self._tasks = [self.world.spawn(self._guard()), self.world.spawn(self._watchdog())]
        self._tasks.append(self.world.spawn(self.operations.settle()))
        self.start_ha()

    def start_ha(self) -> None:
        store = LinkedStore(self.world, self.link)
        self.ha = self.world.make_ha(self.name, store, self.keeper, self.operations, self.clock)
        self._ha = self.world.spawn(self.ha.run())
        self._tasks.append(self._ha)

    def restart_ha(self) -> None:
        """``kill -9`` of racimo-ha; systemd starts it again."""
        self.oracle.note(f"{self.name} restarts racimo-ha")
        if self._ha is not None:
            self._ha.cancel()
        self.start_ha()

    def power_off(self) -> None:
        if not self.powered:
            return
        self.oracle.note(f"{self.name} off")
        self.powered = False
        for task in self._tasks:
            task.cancel()
        for vmid in list(self.running):
            self.end(vmid, "power off")

    async def _guard(self) -> None:
        while True:
            await self.clock.sleep(0.05)
            lease, now = self.keeper.lease, self.clock.boottime_ns()
            self.guard_tick_ns = now
            if self.guard_on and (lease is None or not lease.holds(now)):
                self.keeper.kill()
            clear = not self.keeper.guests()
            if not self.guard_on or clear or (lease is not None and lease.feeds(now)):
                self.fed = asyncio.get_running_loop().time()

    async def _watchdog(self) -> None:
        """Hardware: goes on while the machine is paused."""
        while True:
            await asyncio.sleep(0.1)
            now = asyncio.get_running_loop().time()
            if self.fed and now - self.fed > PROFILE.watchdog and self.world.watchdogs:
                self.world.spawn(self._reset())
                return

    async def _reset(self) -> None:
        self.oracle.note(f"{self.name} reset by its watchdog")
        self.power_off()
        await asyncio.sleep(2.0)
        self.power_on()
