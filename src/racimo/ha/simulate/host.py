"""One simulated server: power, pauses, clocks, guests' processes, and the daemons that run on it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from racimo.errors import RacimoError, StoreError
from racimo.ha.simulate.keeper import HostKeeper, Watchman
from racimo.ha.simulate.operations import HostOperations
from racimo.ha.simulate.oracle import Process
from racimo.ha.simulate.served import ServedStore
from racimo.store.base import Put

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Sequence

    from racimo.ha.daemon import HaNode
    from racimo.ha.simulate.world import World

RESIGN_S = 0.5
RESET_S = 2.0
SHUTDOWN_LOOK_S = 0.25
SHUTDOWN_WITHIN_S = 600.0
"""How long a node that shuts down waits for its HA guests at most."""

"""How long a reset takes at least."""


class HostClock:
    """The clocks of one boot: an offset and a rate of their own."""

    def __init__(self, host: Host, offset: float, rate: float) -> None:
        self.host, self.offset, self.rate = host, offset, rate
        self._loop = host.world.loop

    def monotonic(self) -> float:
        return self._loop.time() * self.rate + self.offset

    def boottime_ns(self) -> int:
        return round((self._loop.time() * self.rate + self.offset) * 1e9)

    def at_ns(self, moment: float) -> int:
        """CLOCK_BOOTTIME at ``moment`` of the loop."""
        return round((moment * self.rate + self.offset) * 1e9)

    def wall(self) -> float:
        return self.host.world.now() + self.host.wall_off

    async def sleep(self, seconds: float) -> None:
        host = self.host
        if host.starved:
            seconds += host.world.chance.uniform(0.0, host.starved)
        await self._loop.sleep(seconds / self.rate)
        if host.paused:
            await host.awake()


class Host:
    """A server of the world. What does not outlive the power is made anew by ``power_on``."""

    clock: HostClock
    keeper: HostKeeper
    watchman: Watchman
    operations: HostOperations
    ha: HaNode

    def __init__(self, world: World, name: str) -> None:
        self.world, self.name = world, name
        self.powered = self.paused = False
        self.storage = True
        """Whether guests reach their disks."""
        self.disk = True
        """Whether the store's member can write to its own disk."""
        self.store_works = True
        self.daemon = self.ha_up = True
        """Whether racimo-node and racimo-ha run."""
        self.daemon_runs = asyncio.Event()
        """Clear while racimo-node is stopped in what it does."""
        self.daemon_runs.set()
        self.wish = ""
        """What it was told to do: ``reboot``, ``poweroff``, or nothing."""
        self.wished = asyncio.Event()
        self.second_killer = self.guard_kills = self.guard_works = self.watchdog_works = True
        self.starved = self.late = 0.0
        self.next_version = False
        self.wall_off = 0.0
        self.rate_range = (0.995, 1.005)
        self.fence_fault = ""
        """How the device that cuts its power fails: see ``fences``."""
        self.failed_at: float | None = None
        """Since when it shows no life, in the world's time."""
        self.running: dict[int, Process] = {}
        self.incoming: dict[int, int] = {}
        """Guests that are being moved here, with the epoch under which they will be this node's."""
        self._awake = asyncio.Event()
        self._awake.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._ha: asyncio.Task[None] | None = None

    # what others ask

    def serves(self) -> bool:
        """Whether the store's member here takes part."""
        return self.powered and not self.paused and self.disk and self.store_works

    async def awake(self) -> None:
        """Pass only while the machine is not paused. A task of it ends there if its power is cut meanwhile."""
        if self.paused and not await self.awakes():
            raise asyncio.CancelledError

    async def awakes(self) -> bool:
        """Wait until the machine is not paused; False if its power was cut meanwhile."""
        boot = self._awake
        await boot.wait()
        return boot is self._awake

    def speaks(self, puts: Sequence[Put]) -> Sequence[Put]:
        """What a daemon of the next version writes has fields that this one does not know."""
        if not self.next_version:
            return puts
        return [Put(put.key, json.dumps({**json.loads(put.value), "of_next_version": 1}).encode()) for put in puts]

    def fail(self) -> None:
        """From now on it cannot show life."""
        if self.failed_at is None:
            self.failed_at = self.world.now()

    # guests

    def begin(self, vmid: int, epoch: int, why: str) -> None:
        """A guest's process is there."""
        process = Process(vmid, self.name, epoch, writes=self.storage and not self.paused)
        self.running[vmid] = process
        self.world.oracle.began(process, why)
        self.world.authority.starts(self.name, vmid)
        self.world.measure(process)
        self.watchman.changed(soon=True)

    def finish(self, vmid: int, why: str) -> None:
        """A guest's process is gone."""
        process = self.running.pop(vmid, None)
        if process is not None:
            self.world.oracle.ended(process, why)

    def kill(self, vmids: Iterable[int], why: str) -> list[int]:
        """SIGKILL. A process that waits for its disk does not end before that answers. Returns those that were hit."""
        hit = sorted(set(vmids) & self.running.keys())
        for vmid in hit:
            self.world.survival.killed(self.name, vmid, why)
            if self.storage:
                self.finish(vmid, why)
                self.spawn(self.operations.write_down(vmid, why))
        return hit

    def look_at_disks(self) -> None:
        """Pauses or the storage changed: who can write now?"""
        for vmid, process in list(self.running.items()):
            process.writes = self.storage and not self.paused
            self.world.oracle.look(vmid)
            if self.storage and not self.paused and process.vmid in self.watchman.killer.doomed():
                self.finish(vmid, "killed without a lease, once its disk answered")
                self.spawn(self.operations.write_down(vmid, "killed without a lease"))

    def given(self, vmid: int, epoch: int) -> None:
        """The store says that the guest is this node's: was it on its way here?"""
        if not self.powered:
            return
        if self.incoming.pop(vmid, None) == epoch:
            self.spawn(self.operations.take_over(vmid, epoch))
        elif vmid not in self.running:
            self.spawn(self.operations.write_down(vmid, "its process was lost on the way here"))

    # power

    def power_on(self) -> None:
        """Boot. Daemons start at once."""
        if self.powered:
            return
        chance = self.world.chance
        self.powered, self.paused, self.wish = True, False, ""
        self.wished = asyncio.Event()
        self._awake.set()
        self.daemon_runs.set()
        rate = 1.0 if self.world.calm else chance.uniform(*self.rate_range)
        self.clock = HostClock(self, 0.0 if self.world.calm else chance.uniform(0, 1e5), rate)
        self.keeper, self.operations = HostKeeper(self), HostOperations(self)
        self.watchman = Watchman(self)
        self.world.survival.disturb()
        self.watchman.ticks = self.guard_works
        self.world.oracle.note("node", self.name, "is switched on")
        self.world.quorum.refresh()
        self.spawn(self.operations.settle())
        if self.ha_up:
            self.start_ha()

    def power_off(self, why: str) -> None:
        """All that ran is gone, at once."""
        if not self.powered:
            return
        self.powered = False
        self.world.survival.disturb()
        self.fail()
        self.watchman.end()
        self.watchman.watchdog.disarm()
        self.incoming.clear()
        for task in self._tasks:
            task.cancel()
        for vmid in list(self.running):
            self.finish(vmid, why)
        waiting, self._awake = self._awake, asyncio.Event()
        self.paused = False
        self._awake.set()
        waiting.set()
        self.world.oracle.note("node", self.name, "is off", why)
        self.world.quorum.refresh()

    def reset(self, why: str) -> None:
        """Power off, and on again after a while."""
        self.power_off(why)
        self.world.oracle.note("node", self.name, "is reset", why)
        self.world.loop.call_later(RESET_S + self.world.boot_s, self.power_on)

    def pause(self) -> None:
        """The machine stands still; its watchdog and its disks do not."""
        if self.powered and not self.paused:
            self.watchman.catch_up()
            self.fail()
            self.paused = True
            self.world.survival.disturb()
            self._awake.clear()
            self.look_at_disks()
            self.world.quorum.refresh()

    def resume(self) -> None:
        """It goes on."""
        if self.paused:
            self.paused = False
            self.world.survival.disturb()
            self._awake.set()
            if self.powered:
                self.look_at_disks()
                self.watchman.changed(soon=True)
            self.world.quorum.refresh()

    def heal(self) -> None:
        """All that was broken on purpose works again."""
        self.starved = self.late = self.wall_off = 0.0
        self.fence_fault = self.wish = ""
        self.disk = self.store_works = self.daemon = self.watchdog_works = True
        self.set_storage(on=True)
        self.daemon_runs.set()
        self.resume()
        self.power_on()

    def set_storage(self, *, on: bool) -> None:
        """The guests' disks are in reach, or not."""
        self.storage = on
        if self.powered:
            self.look_at_disks()

    # daemons

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[None]:
        """A task of this boot."""
        task = self.world.spawn(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def start_ha(self) -> None:
        """racimo-ha begins."""
        self.ha = self.world.make_ha(self)
        self.world.survival.ha_started(self.name)
        self.world.promptness.touch()
        self._ha = self.spawn(self.ha.run())

    def stop_ha(self) -> None:
        """``kill -9`` of racimo-ha."""
        if self._ha is not None:
            self._ha.cancel()
            self._ha = None
            self.world.survival.ha_stopped(self.name)
            self.world.promptness.touch()

    def answers(self) -> bool:
        """Whether racimo-ha listens to others."""
        return self._ha is not None and not self._ha.done()

    async def end_ha(self) -> None:
        """racimo-ha is told to end: it gives a manager's office back, and says its last word."""
        if self._ha is None:
            return
        with suppress(StoreError, TimeoutError):
            async with asyncio.timeout(RESIGN_S):
                await self.ha.manager.resign()
        self.stop_ha()
        with suppress(TimeoutError):
            async with asyncio.timeout(RESIGN_S):
                await self.ha.farewell()

    async def shut_down(self, mode: str) -> None:
        """In order: HA is told and its guests leave or end, the others are stopped, and the power goes.

        ``mode`` is ``poweroff`` or ``reboot``, which switches it on again. Who waits too long goes down all the same.
        It is taken back by clearing ``wish``, as long as it waits for its guests.
        """
        if not self.powered or self.wish:
            return
        keeper, began = self.keeper, self.world.now()
        self.wish = mode
        self.wished.set()
        while self.answers() and not self.ha.shutdown.ready and self.world.now() - began < SHUTDOWN_WITHIN_S:
            await self.clock.sleep(SHUTDOWN_LOOK_S)
        if not self.wish or self.keeper is not keeper:
            return
        for vmid, process in list(self.running.items()):
            with suppress(RacimoError):
                await self.operations.stop(vmid, process.epoch)
        await self.end_ha()
        if self.keeper is not keeper or not self.powered:
            return
        self.power_off(f"it was shut down ({mode})")
        if mode == "reboot" or self.world.is_healed:
            self.world.loop.call_later(RESET_S + self.world.boot_s, self.power_on)
        else:
            self.world.network.switch(self.name, on=False)

    def store(self) -> ServedStore:
        """The store for a process here."""
        return ServedStore(self)
