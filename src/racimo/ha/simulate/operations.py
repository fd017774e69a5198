"""The node's daemon as HA sees it: starts, stops and moves guests by the rules of docs/architecture/guests.md."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import Conflict, OperationFailed, RacimoError, StoreError, Unreachable
from racimo.ha.node_client import never
from racimo.model.guest import RunState, Runtime
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.ha.simulate.host import Host
    from racimo.model.lease import Lease

TRIES = 40


@dataclass(slots=True)
class Task:
    """One command that was carried out, and how it ended. ``end`` is empty while it runs."""

    what: str
    vmid: int
    node: str
    began: float
    end: str = ""


class HostOperations:
    """``NodeOperations`` on a simulated host."""

    def __init__(self, host: Host) -> None:
        self.host, self.world = host, host.world
        self.layout = Layout(host.store())
        self._locks: dict[int, asyncio.Lock] = {}

    async def start(self, vmid: int, epoch: int) -> None:
        async with self._work("start", vmid):
            if vmid not in self.host.running:
                await self._begin(vmid, epoch)
                self.host.keeper.mark(vmid)
                lease = self.host.keeper.lease
                self.world.phase("starting", self.host, self.host)
                await self._takes(self.world.setup.durations.start)
                refusal = "it is locked" if vmid in self.world.locked else ""
                refusal = refusal or self.world.behaviour.start(vmid, self.host.name)
                if not refusal and self.world.looks_at_lease and not self._goes_on(lease):
                    refusal = "the node has no lease any more"
                if refusal:
                    await self._end(vmid, epoch, refusal)
                    raise OperationFailed(f"vm:{vmid} did not start", why=refusal)
                self.host.begin(vmid, epoch, f"started by {self.host.name}")
            await self._runtime(vmid, epoch, RunState.RUNNING)

    async def stop(self, vmid: int, epoch: int) -> None:
        async with self._work("stop", vmid):
            self._check_unlocked(vmid)
            await self._takes(self.world.behaviour.stop_s(vmid))
            if refusal := self.world.behaviour.stop(vmid):
                raise OperationFailed(f"vm:{vmid} did not stop", why=refusal)
            self.host.finish(vmid, f"stopped by {self.host.name}")
            await self._end(vmid, epoch, "it was stopped")

    async def migrate(
        self, vmid: int, epoch: int, target: str, live: bool, given_up: Callable[[], bool] = never
    ) -> None:
        async with self._work("migrate", vmid):
            self._check_unlocked(vmid)
            other = self.world.hosts[target]
            self._demand_target(vmid, other)
            if refusal := self.world.behaviour.migrate(vmid):
                raise OperationFailed(f"vm:{vmid} did not move", why=refusal)
            other.keeper.mark(vmid)
            self.world.phase("prepared", self.host, other)
            await self._send(vmid, given_up)
            self.world.phase("transferred", self.host, other)
            self._demand_target(vmid, other)
            await self._hand_over(vmid, epoch, other)

    async def _send(self, vmid: int, given_up: Callable[[], bool]) -> None:
        """All of the guest's memory. Only a shutdown by the policy ``migrate`` ever gives it up."""
        seconds, clock = self.world.setup.durations.migrate, self.host.clock
        if self.world.setup.options.shutdown_policy != "migrate":
            await self._takes(seconds)
            return
        ends = clock.monotonic() + seconds
        while (left := ends - clock.monotonic()) > 0:
            if given_up():
                raise OperationFailed(f"vm:{vmid} did not move", why="it was cancelled")
            await clock.sleep(min(left, 1.0))

    async def _hand_over(self, vmid: int, epoch: int, other: Host) -> None:
        """Halt it, write whose it is, and let it go on there. See docs/decisions/0703."""
        guest, held = await self.layout.guests.hold(vmid), await self.layout.runtimes.hold(vmid)
        if (guest.record.node, guest.record.epoch) != (self.host.name, epoch):
            raise Conflict(f"vm:{vmid} is not of {self.host.name} in epoch {epoch}")
        process = self.host.running.get(vmid)
        if process is None:
            raise OperationFailed(f"vm:{vmid} does not run any more")
        target = other.name
        other.incoming[vmid] = epoch + 1
        if self.world.halts_first:
            self.host.finish(vmid, f"halted, to go on on {target}")
        self.world.phase("halted", self.host, other)
        if not self.world.waits_for_commit:
            other.begin(vmid, epoch + 1, f"resumed on {target} before the commit")
        moved = replace(guest.record, node=target, epoch=epoch + 1)
        runs = Runtime(vmid=vmid, node=target, epoch=epoch + 1, state=RunState.RUNNING, reason="it was moved here")
        try:
            committed = await self.layout.store.txn(
                [guest.compare, held.compare],
                [self.layout.guests.put(vmid, moved, guest), self.layout.runtimes.put(vmid, runs, held)],
            )
        except StoreError:
            if not self.world.doubts_silence:
                self.host.begin(vmid, epoch, "its move is taken to have failed")
            self.host.spawn(self.write_down(vmid, "its move was cut off"))
            raise
        self.world.phase("committed", self.host, other)
        if not self.world.halts_first:
            await self._takes(1.0)
            self.host.finish(vmid, f"halted, too late, to go on on {target}")
        if committed is None:
            self.host.spawn(self.write_down(vmid, "its move was overtaken"))
            raise Conflict(f"vm:{vmid} was changed meanwhile")

    async def take_over(self, vmid: int, epoch: int) -> None:
        """The guest was moved here and belongs to this node now: let it go on, if there is a lease for it."""
        for _ in range(TRIES):
            try:
                guest, held = await self.layout.guests.hold(vmid), await self.layout.runtimes.hold(vmid)
            except RacimoError:
                await self.host.clock.sleep(1.0)
                continue
            mine = (guest.record.node, guest.record.epoch) == (self.host.name, epoch)
            lease, runs = self.host.keeper.lease, held.record.state is RunState.RUNNING
            if mine and runs and vmid not in self.host.running:
                if lease and lease.holds(self.host.clock.boottime_ns()):
                    self.host.begin(vmid, epoch, "it was moved here")
                else:
                    await self.write_down(vmid, f"{self.host.name} had no lease for it")
            return

    def _demand_target(self, vmid: int, other: Host) -> None:
        if vmid not in self.host.running:
            raise OperationFailed(f"vm:{vmid} cannot be moved", why="it does not run")
        if not other.powered or other.paused or not self.world.network.talk(self.host.name, other.name):
            raise OperationFailed(f"vm:{vmid} cannot be moved", why=f"{other.name} does not answer")
        lease = other.keeper.lease
        if lease is None or not lease.holds(other.clock.boottime_ns()):
            raise OperationFailed(f"vm:{vmid} cannot be moved", why=f"{other.name} has no lease")

    def _work(self, what: str, vmid: int) -> _Work:
        return _Work(self, what, vmid)

    def _check_unlocked(self, vmid: int) -> None:
        if vmid in self.world.locked:
            raise Conflict(f"vm:{vmid} is locked", todo="Unlock it first")

    def lock(self, vmid: int) -> asyncio.Lock:
        """Only one command for a guest at a time."""
        return self._locks.setdefault(vmid, asyncio.Lock())

    def _goes_on(self, lease: Lease | None) -> bool:
        """Whether the lease by which something was begun still holds, or was renewed."""
        now = self.host.keeper.lease
        if lease is None or now is None or lease.incarnation != now.incarnation:
            return False
        return now.holds(self.host.clock.boottime_ns())

    async def _takes(self, seconds: float) -> None:
        if seconds:
            await self.host.clock.sleep(seconds)
        if not self.host.daemon_runs.is_set():
            await self.host.daemon_runs.wait()

    async def _runtime(self, vmid: int, epoch: int, state: RunState, reason: str = "") -> None:
        guest, held = await self.layout.guests.hold(vmid), await self.layout.runtimes.find(vmid)
        compares = [held.compare if held else self.layout.runtimes.absent(vmid)]
        if self.world.checks_epochs:
            if (guest.record.node, guest.record.epoch) != (self.host.name, epoch):
                raise Conflict(f"vm:{vmid} is not of {self.host.name} in epoch {epoch}")
            compares.append(guest.compare)
        new = Runtime(vmid=vmid, node=self.host.name, epoch=epoch, state=state, reason=reason)
        if await self.layout.store.txn(compares, [self.layout.runtimes.put(vmid, new, held)]) is None:
            raise Conflict(f"vm:{vmid} was changed meanwhile")

    async def _begin(self, vmid: int, epoch: int) -> None:
        """Write that it starts; where it is not known whether that was written, the node looks at it again."""
        try:
            await self._runtime(vmid, epoch, RunState.STARTING)
        except StoreError:
            self.host.spawn(self.write_down(vmid, "its start was broken off"))
            raise

    async def _end(self, vmid: int, epoch: int, why: str) -> None:
        """Write that it is stopped; what the store does not take now is written later, as by the node's reconciler."""
        try:
            await self._runtime(vmid, epoch, RunState.STOPPED, why)
        except StoreError:
            self.host.spawn(self.write_down(vmid, why))
            raise

    async def write_down(self, vmid: int, why: str) -> None:
        """A guest ended by itself: the store has to say so."""
        while True:
            try:
                async with self.lock(vmid):
                    held = await self.layout.runtimes.find(vmid)
                    mine = held is not None and held.record.node == self.host.name
                    if held is None or not mine or held.record.state is RunState.STOPPED or vmid in self.host.running:
                        return
                    await self._runtime(vmid, held.record.epoch, RunState.STOPPED, why)
                    return
            except Conflict:
                await self.host.clock.sleep(0.2)
            except RacimoError:
                await self.host.clock.sleep(1.0)

    async def settle(self) -> None:
        """After a boot: nothing runs here, whatever the store says."""
        while True:
            try:
                runtimes = await self.layout.runtimes.records()
            except StoreError:
                await self.host.clock.sleep(1.0)
                continue
            for runtime in runtimes:
                if runtime.node == self.host.name and runtime.state is not RunState.STOPPED:
                    await self.write_down(runtime.vmid, "the node was restarted")
            return


class _Work:
    """One command under the guest's lock, with its task: late if the daemon is, refused if it is away."""

    def __init__(self, operations: HostOperations, what: str, vmid: int) -> None:
        self.operations, self.host = operations, operations.host
        self.task = Task(what, vmid, self.host.name, self.host.world.now())
        self.lock = operations.lock(vmid)

    async def __aenter__(self) -> None:
        host, chance = self.host, self.host.world.chance
        if not host.daemon:
            raise Unreachable("the node's daemon is away")
        await self.lock.acquire()
        host.world.tasks.append(self.task)
        try:
            if host.late and chance.random() < host.late:
                host.world.oracle.count("late command")
                await host.clock.sleep(chance.uniform(0.01, 8.0))
            await host.awake()
        except BaseException:
            self.task.end = "it was cut off"
            self.lock.release()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.lock.release()
        self.task.end = "OK" if error is None else str(error) or type(error).__name__
