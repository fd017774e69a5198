"""What HA keeps on a simulated node, and the real guard over it, woken only when its answer can be another."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.ha.guard import Guard
from racimo.ha.kill import Killer, Process
from racimo.ha.timing import GUARD_TICK_S
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from racimo.ha.simulate.host import Host
    from racimo.model.lease import Lease


class HostKeeper:
    """Lease, marks and processes of one boot of a host: they go with the power."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.lease: Lease | None = None
        self.marks: set[int] = set()
        self.shortened = asyncio.Event()

    def read(self) -> Lease | None:
        return self.lease

    def write(self, lease: Lease) -> None:
        shorter = self.lease is not None and lease.deadline_ns < self.lease.deadline_ns
        self.lease = lease
        if shorter:
            self.shortened.set()
        self.host.watchman.changed(soon=shorter)

    def remove(self) -> None:
        self.lease = None
        self.shortened.set()
        self.host.watchman.changed(soon=True)

    def begin(self, incarnation: str) -> None:
        return

    def guests(self) -> int:
        return len(self.marks & self.host.running.keys())

    def kill(self) -> int:
        """The second killer."""
        if not self.host.second_killer:
            return 0
        return len(self.host.kill(self.marks, "killed without a lease by racimo-ha"))

    def guard_seen_ns(self) -> int:
        self.host.watchman.catch_up()
        return self.host.watchman.guard.reported_ns

    def marked(self) -> set[int]:
        return set(self.marks) if self.host.world.keeps_marks else set()

    def mark(self, vmid: int) -> None:
        if vmid not in self.marks and self.host.world.keeps_marks:
            self.marks.add(vmid)
            self.host.watchman.changed(soon=True)

    def unmark(self, vmid: int) -> None:
        self.marks.discard(vmid)

    def close(self) -> None:
        return


class HostKiller(Killer):
    """Kills simulated processes; one whose disk hangs does not end."""

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.host = host
        self._ending: set[int] = set()

    def kill(self, vmids: set[int]) -> list[Process]:
        if not self.host.guard_kills:
            return []
        before = {vmid for vmid in vmids if vmid in self.host.running and vmid not in self._ending}
        self.host.kill(before, "killed without a lease")
        self._ending |= before & self.host.running.keys()
        return [Process(vmid, vmid) for vmid in sorted(before)]

    def doomed(self) -> set[int]:
        """Those that were killed and could not end yet."""
        return self._ending

    def dead(self) -> list[Process]:
        gone = sorted(vmid for vmid in self._ending if vmid not in self.host.running)
        self._ending.difference_update(gone)
        return [Process(vmid, vmid) for vmid in gone]

    @property
    def dying(self) -> bool:
        return bool(self._ending)


class HostWatchdog:
    """Resets the host when it is not fed. It goes on while the host is paused."""

    def __init__(self, host: Host) -> None:
        self.name, self.identity, self.host = "simulated", "simulated", host
        self._seconds, self._fed = 0.0, 0.0
        self._timer: asyncio.TimerHandle | None = None

    @property
    def seconds(self) -> float:
        """The time-out that it counts by; 0 while it is not armed."""
        return self._seconds

    def arm(self, seconds: float) -> None:
        self._seconds = seconds
        self.feed()

    def feed(self) -> None:
        loop = self.host.world.loop
        self._fed = loop.time()
        if self._seconds and self._timer is None:
            self._timer = loop.call_at(self._fed + self._seconds, self._look)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._seconds, self._timer = 0.0, None

    def _look(self) -> None:
        loop = self.host.world.loop
        self.host.watchman.catch_up()
        self._timer = None
        due = self._fed + self._seconds
        if due > loop.time() + 1e-6:
            self._timer = loop.call_at(due, self._look)
        elif self.host.watchdog_works:
            self.host.world.survival.reset(self.host.name, "its watchdog was not fed")
            self.host.reset("its watchdog was not fed")


@dataclass
class HostGuard(Guard):
    """The guard itself; only what it reads and where it reports are the host's."""

    host: Host = field(kw_only=True)

    def lease(self) -> Lease | None:
        return self.host.keeper.lease

    def marks(self) -> set[int]:
        return self.host.keeper.marks

    def say(self, text: str) -> None:
        return

    def report(self, lease: Lease | None, now_ns: int) -> None:
        self.reported_ns = now_ns


class Watchman:
    """Runs the guard as if it ticked all the time: at the ticks after which something can be different.

    Before anything that a tick looks at changes, or is asked of the guard, ``catch_up`` runs the newest tick that was
    due before; those between are the same.
    """

    def __init__(self, host: Host) -> None:
        self.host, self.began = host, host.world.loop.time()
        self.watchdog = HostWatchdog(host)
        self.killer = HostKiller(host)
        self.guard = host.world.guard_kind(NodePaths(), self.watchdog, self.killer, host=host)
        self.ticks = True
        """Whether the guard's process runs."""
        self._slot = -1
        self._timer: asyncio.TimerHandle | None = None
        self._due = math.inf

    @property
    def works(self) -> bool:
        """Whether the guard ticks now."""
        return self.ticks and self.host.powered and not self.host.paused

    def catch_up(self) -> None:
        """The newest tick that was due is done."""
        if not self.works:
            return
        slot = math.floor((self.host.world.loop.time() - self.began) / GUARD_TICK_S + 1e-9)
        if slot != self._slot:
            self._slot = slot
            self.guard.tick(self.host.clock.at_ns(self.began + slot * GUARD_TICK_S))

    def changed(self, *, soon: bool) -> None:
        """Lease, marks or processes are others now; ``soon``: the next tick may act on it."""
        if self._timer is None or soon:
            self._look_at(self._next_slot() if soon else self._next_answer())

    def end(self) -> None:
        """The power is gone, or the guard was killed."""
        self.ticks = False
        if self._timer is not None:
            self._timer.cancel()
        self._timer = None

    def _next_slot(self) -> float:
        elapsed = (self.host.world.loop.time() - self.began) / GUARD_TICK_S
        return self.began + (math.floor(elapsed + 1e-9) + 1) * GUARD_TICK_S

    def _look_at(self, moment: float) -> None:
        if self._timer is not None:
            if self._due <= moment:
                return
            self._timer.cancel()
        self._timer = None
        if moment < math.inf:
            self._due = moment
            self._timer = self.host.world.loop.call_at(moment, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self.works:
            self.catch_up()
            self._look_at(self._next_answer())

    def _next_answer(self) -> float:
        """When a tick can first do something else than the one before, as far as is known now."""
        guard, loop, clock = self.guard, self.host.world.loop, self.host.clock
        if guard.killer.dying:
            return self._next_slot()
        lease, now_ns = self.host.keeper.lease, clock.boottime_ns()
        if lease is None or not self.host.keeper.marks:
            return math.inf
        nearest = math.inf
        for end_ns in (lease.deadline_ns - lease.watchdog_ns, lease.deadline_ns - lease.kill_margin_ns):
            slot = math.ceil((loop.time() + (end_ns - now_ns) / 1e9 / clock.rate - self.began) / GUARD_TICK_S - 1e-9)
            # The last tick before such an end counts too: it is the last one that feeds the watchdog.
            for due in (slot - 1, slot):
                if due > self._slot:
                    nearest = min(nearest, self.began + due * GUARD_TICK_S)
        if nearest == math.inf:
            return self._next_slot() if self.host.keeper.guests() else math.inf
        return max(self._next_slot(), nearest)
