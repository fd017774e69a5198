"""The guard: kills this node's HA guests when its lease runs out, and feeds the watchdog only while that is safe.

``python -m racimo.ha.guard``. Standard library only, one thread, no network. It trusts nothing but the lease file, the
marks and ``/proc``. Whatever goes wrong while reading them counts as "no lease".
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.ha.kill import Killer, Process, guests_running, marked
from racimo.ha.notify import notify
from racimo.ha.timing import GUARD_REPORT_S, GUARD_TICK_S, LONGEST, SECOND_NS, longest_watchdog
from racimo.ha.watchdog import ENVIRONMENT, Watchdog, open_watchdog
from racimo.model.lease import Lease, boottime_ns, read_lease
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from types import FrameType

IDLE_TICK_S = 0.25
"""How often the guard looks while no guest of the datacenter is under HA."""

QUIET_AFTER_NS = 2 * SECOND_NS
"""Without a lease it looks for guests at every tick until none was found for so long, then every ``IDLE_TICK_S``."""

FEED_NS = SECOND_NS // 4
KILLS_KEPT = 50


@dataclass
class Kill:
    """One guest killed. Times in nanoseconds on CLOCK_BOOTTIME, ``wall`` in seconds since the epoch for people."""

    vmid: int
    pid: int
    at_ns: int
    wall: float
    why: str
    dead_ns: int = 0


@dataclass
class Guard:
    """The state between two ticks."""

    paths: NodePaths
    watchdog: Watchdog
    killer: Killer = field(default_factory=Killer)
    kills: list[Kill] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    fed_ns: int = 0
    reported_ns: int = 0
    looked_ns: int = 0
    found_ns: int = 0
    clear: bool = False
    """Whether the last look, without a lease, found no HA guest."""
    armed_for_s: float = 0.0
    """The time-out that the watchdog was last asked for."""

    def tick(self, now_ns: int) -> float:
        """Look once, act; returns how many seconds until the next tick."""
        lease, vmids = self.lease(), self.marks()
        if lease is not None and lease.holds(now_ns):
            self.clear, self.found_ns = False, now_ns
        elif vmids:
            self._kill(vmids, lease, now_ns)
        else:
            self.clear = True
        self._note_dead(now_ns)
        self._feed(lease, vmids, now_ns)
        if now_ns - self.reported_ns >= GUARD_REPORT_S * SECOND_NS:
            self.report(lease, now_ns)
        return GUARD_TICK_S if vmids else IDLE_TICK_S

    def lease(self) -> Lease | None:
        """The lease as it stands on this node now."""
        return read_lease(self.paths.lease)

    def marks(self) -> set[int]:
        """The vmids of the HA guests."""
        return marked(str(self.paths.ha_marks))

    def say(self, text: str) -> None:
        """Tell people what was done."""
        say(text)

    def _kill(self, vmids: set[int], lease: Lease | None, now_ns: int) -> None:
        quiet = self.clear and now_ns - self.found_ns > QUIET_AFTER_NS
        if quiet and now_ns - self.looked_ns < IDLE_TICK_S * SECOND_NS:
            return
        self.looked_ns = now_ns
        why = "no lease" if lease is None else f"the lease of {lease.incarnation} runs out"
        killed = self.killer.kill(vmids)
        for process in killed:
            self.kills.append(Kill(process.vmid, process.pid, now_ns, time.time(), why))
            self.say(f"killed guest {process.vmid} (pid {process.pid}): {why}")
        del self.kills[:-KILLS_KEPT]
        self.clear = not killed and not self.killer.dying
        if not self.clear:
            self.found_ns = now_ns
        if killed:
            self.report(lease, now_ns)

    def _note_dead(self, now_ns: int) -> None:
        for process in self.killer.dead():
            for kill in reversed(self.kills):
                if kill.pid == process.pid and not kill.dead_ns:
                    kill.dead_ns = now_ns
                    break

    def _feed(self, lease: Lease | None, vmids: set[int], now_ns: int) -> None:
        """Feed while the lease outlasts the watchdog, or while there is nothing left that could write."""
        if now_ns - self.fed_ns < FEED_NS or not self._may_feed(lease, vmids, now_ns):
            return
        try:
            if lease is not None and vmids:
                wanted = lease.watchdog_ns / SECOND_NS
                self.watchdog.arm(wanted)
                self.armed_for_s = wanted
            self.watchdog.feed()
        except OSError as error:
            self._note(f"watchdog {self.watchdog.name} cannot be used: {error}")
        self.fed_ns = now_ns

    def _may_feed(self, lease: Lease | None, vmids: set[int], now_ns: int) -> bool:
        if not vmids or (self.clear and not self.killer.dying):
            return True
        if lease is None or not lease.feeds(now_ns):
            return False
        # What it really counts by may be longer than what was asked for; before it was set, as long as is taken at all.
        wanted, left = lease.watchdog_ns / SECOND_NS, (lease.deadline_ns - now_ns) / SECOND_NS
        return left > (self.watchdog.seconds if wanted == self.armed_for_s else longest_watchdog(wanted))

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)
            self.say(text)

    def report(self, lease: Lease | None, now_ns: int) -> None:
        """Write ``guard.json`` for the HA daemon and for people."""
        self.reported_ns = now_ns
        left = (lease.deadline_ns - now_ns) / SECOND_NS if lease else None
        content = {
            "pid": os.getpid(),
            "tick_ns": now_ns,
            "lease_left_s": left,
            "clear": self.clear,
            "watchdog": self.watchdog.name,
            "watchdog_identity": self.watchdog.identity,
            "watchdog_s": self.watchdog.seconds,
            "notes": self.notes,
            "kills": [kill.__dict__ for kill in self.kills],
        }
        new = f"{self.paths.guard_report}.new"
        try:
            with open(new, "w", encoding="ascii") as file:
                json.dump(content, file)
            os.replace(new, self.paths.guard_report)
        except OSError as error:
            self._note(f"cannot write {self.paths.guard_report}: {error}")

    def processes(self) -> list[Process]:
        """The HA guests that run here now."""
        return guests_running(self.marks())


def say(text: str) -> None:
    """To the journal, by way of standard error; never in the way of the next tick."""
    with contextlib.suppress(OSError):
        sys.stderr.write(text + "\n")
        sys.stderr.flush()


def harden() -> list[str]:
    """Stay in memory, run before others, be killed last. What is refused (in a container) is returned as sentences."""
    refused = []
    libc = ctypes.CDLL(None, use_errno=True)
    current, future = 1, 2
    if libc.mlockall(current | future) != 0:
        refused.append(f"memory is not locked: {os.strerror(ctypes.get_errno())}")
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    except OSError as error:
        refused.append(f"no real-time priority: {error.strerror}")
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, -20)
    try:
        with open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write("-1000")
    except OSError as error:
        refused.append(f"the out-of-memory killer may take it: {error.strerror}")
    return refused


def main() -> None:
    """Run until SIGTERM. The watchdog is stopped then only if no HA guest is left. ``--root DIR`` is for tests."""
    ending: list[int] = []

    def end(number: int, _frame: FrameType | None) -> None:
        ending.append(number)

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    paths = NodePaths(Path(sys.argv[2])) if sys.argv[1:2] == ["--root"] else NodePaths()
    guard = Guard(paths, open_watchdog(os.environ.get(ENVIRONMENT), paths.watchdog))
    os.makedirs(paths.run, exist_ok=True)
    guard.processes()  # walk the way once, so that all of it is in memory
    guard.notes = harden()
    for note in guard.notes:
        say(note)
    say(f"guarding, watchdog {guard.watchdog.name}, longest lease {LONGEST.lease:g} s")
    notify("READY=1")
    while not ending:
        seconds = guard.tick(boottime_ns())
        notify("WATCHDOG=1")
        time.sleep(seconds)
    if not guard.processes():
        with contextlib.suppress(OSError):
            guard.watchdog.disarm()
    guard.killer.close()


if __name__ == "__main__":
    main()
