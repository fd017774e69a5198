"""The oracle: sees guests' processes at their disks and the store's commits, and knows nothing of the manager's mind.

A process that runs, on a machine that is not paused, with its disk in reach, is writing. The numbers in the messages
are those of the invariants in docs/architecture/simulation.md.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(eq=False, slots=True)
class Process:
    """One QEMU: a guest on a node under an epoch. ``writes``: it reaches its disk and is not paused."""

    vmid: int
    node: str
    epoch: int
    writes: bool = True


@dataclass(frozen=True, slots=True)
class Happening:
    """Something that a person would want to read. ``at`` in seconds since the beginning."""

    at: float
    kind: str
    """``guest``, ``node``, ``manager``, ``fault`` or ``violation``."""
    subject: str
    what: str
    why: str = ""

    def line(self) -> str:
        """For people."""
        why = f": {self.why}" if self.why else ""
        return f"{self.at:9.3f}  {self.subject or self.kind}  {self.what}{why}"


@dataclass
class Oracle:
    """``now`` gives the world's time in seconds."""

    now: Callable[[], float]
    violations: list[str] = field(default_factory=list)
    events: list[Happening] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    failovers: list[float] = field(default_factory=list)
    starts: int = 0
    max_copies: int = 0
    processes: dict[int, list[Process]] = field(default_factory=dict)
    violated: Callable[[], None] = field(default=lambda: None)
    """Called after each violation."""
    newest: dict[int, int] = field(default_factory=dict)
    """The newest epoch that wrote, by guest."""
    last_end: dict[int, float] = field(default_factory=dict)
    """When a process of the guest ended last, by ``now``."""

    def note(self, kind: str, subject: str, what: str, why: str = "") -> None:
        """Remember what happened."""
        self.events.append(Happening(self.now(), kind, subject, what, why))

    def count(self, fault: str) -> None:
        """A fault came to pass."""
        self.faults[fault] += 1

    def violate(self, text: str) -> None:
        """An invariant is broken."""
        self.note("violation", "", "VIOLATION", text)
        self.violations.append(f"at {self.now():.3f} s: {text}")
        self.violated()

    def began(self, process: Process, why: str) -> None:
        """A process of a guest is there."""
        vmid = process.vmid
        others = self.processes.setdefault(vmid, [])
        self.starts += 1
        self.note("guest", f"vm:{vmid}", f"runs on {process.node}", why)
        if others:
            told = ", ".join(f"{other.node} (epoch {other.epoch})" for other in others)
            self.violate(f"2 vm:{vmid} was started on {process.node} (epoch {process.epoch}) while it exists on {told}")
        others.append(process)
        self.look(vmid)

    def ended(self, process: Process, why: str) -> None:
        """The process is gone."""
        self.processes[process.vmid].remove(process)
        self.last_end[process.vmid] = self.now()
        self.note("guest", f"vm:{process.vmid}", f"ended on {process.node}", why)

    def look(self, vmid: int) -> None:
        """Who writes to the guest's disk now?"""
        writers = [process for process in self.processes.get(vmid, []) if process.writes]
        self.max_copies = max(self.max_copies, len(writers))
        if len(writers) > 1:
            told = " and ".join(f"{process.node} (epoch {process.epoch})" for process in writers)
            self.violate(f"1 vm:{vmid} is written by {told}")
        for process in writers:
            if process.epoch < self.newest.get(vmid, 0):
                self.violate(f"1 vm:{vmid} is written under epoch {process.epoch} after {self.newest[vmid]}")
            self.newest[vmid] = max(process.epoch, self.newest.get(vmid, 0))

    def runners(self, vmid: int) -> list[str]:
        """The nodes that have a process of the guest, in order."""
        return sorted(process.node for process in self.processes.get(vmid, []))
