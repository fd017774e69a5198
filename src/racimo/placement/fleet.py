"""The nodes that can be given guests and what is on them: the working copy of one turn of decisions."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from racimo.placement.rules import RuleSet

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping


class Scoring(StrEnum):
    """What counts when several nodes can have a guest. Names are those of the Proxmox VE API (``crs``)."""

    BASIC = "basic"
    """The fewest guests."""
    STATIC = "static"
    """CPUs and memory as they are configured."""
    DYNAMIC = "dynamic"
    """CPU and memory as they are measured."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What a node has. Memory in bytes; 0 means that it is not known, and then it is no limit."""

    cpus: float = 0.0
    memory: int = 0
    other_cpus: float = 0.0
    """Configured for guests that are not placed here (those outside HA)."""
    other_memory: int = 0
    cpu_load: float | None = None
    """CPUs in use on the node by measurement, with all its guests; None: the sum of the guests' loads is taken."""
    memory_load: int | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """What a guest takes. Memory in bytes."""

    cpus: float = 1.0
    memory: int = 0
    cpu_load: float | None = None
    """CPUs in use by measurement; None: not measured, what is configured is taken."""
    memory_load: int | None = None


NOTHING = Demand(cpus=0.0)


class Fleet:
    """The online nodes (``machines``), with the guests on them, under the rules. It changes as guests are placed.

    ``places`` says where guests are; one that moves has two nodes. Nodes that are not among ``machines`` are passed
    over: they cannot be given guests, and what is on them keeps nobody away. Guests that are not in ``demands`` take
    nothing. Guests that are ``ending`` take room as long as they run, but draw nobody to where they are.
    """

    def __init__(
        self,
        machines: Mapping[str, Machine],
        demands: Mapping[str, Demand],
        places: Mapping[str, Iterable[str]],
        rules: RuleSet | None = None,
        scoring: Scoring = Scoring.BASIC,
        *,
        ending: Collection[str] = (),
    ) -> None:
        self.scoring, self.rules, self.demands, self.ending = scoring, rules or RuleSet(), demands, ending
        self.names = tuple(sorted(machines))
        self.index = {name: number for number, name in enumerate(self.names)}
        self.machines = [machines[name] for name in self.names]
        self.cpu_sizes = _sizes([machine.cpus for machine in self.machines])
        self.memory_sizes = _sizes([float(machine.memory) for machine in self.machines])
        """Bytes; a node whose size is not known counts as large as the smallest that is."""
        self.guests = [0] * len(self.names)
        self.memory = [machine.other_memory for machine in self.machines]
        """Configured, by node: what must not exceed what the node has."""
        dynamic = scoring is Scoring.DYNAMIC
        self.cpu_use = [self._start(m.cpu_load if dynamic else None, m.other_cpus) for m in self.machines]
        self.memory_use = [self._start(m.memory_load if dynamic else None, m.other_memory) for m in self.machines]
        self._on: dict[str, list[int]] = {}
        for sid in sorted(places):
            for node in places[sid]:
                self._put(sid, node, measured=dynamic)

    def copy(self) -> Fleet:
        """Another of the same; changes to it leave this one as it is."""
        copy = Fleet({}, self.demands, {}, self.rules, self.scoring, ending=self.ending)
        copy.names, copy.index, copy.machines = self.names, self.index, self.machines
        copy.cpu_sizes, copy.memory_sizes = self.cpu_sizes, self.memory_sizes
        copy.guests, copy.memory = [*self.guests], [*self.memory]
        copy.cpu_use, copy.memory_use = [*self.cpu_use], [*self.memory_use]
        copy._on = {sid: [*places] for sid, places in self._on.items()}
        return copy

    @staticmethod
    def _start(measured: float | None, configured: float) -> float:
        return float(configured if measured is None else measured)

    def _put(self, sid: str, node: str, *, measured: bool) -> None:
        """A guest that was there before: a measured node has its load already."""
        at = self.index.get(node)
        if at is None or at in self._on.setdefault(sid, []):
            return
        self._on[sid].append(at)
        self.guests[at] += 1
        self.memory[at] += self.demand(sid).memory
        cpu, memory = self.load(sid)
        machine = self.machines[at]
        if not measured or machine.cpu_load is None:
            self.cpu_use[at] += cpu
        if not measured or machine.memory_load is None:
            self.memory_use[at] += memory

    def demand(self, sid: str) -> Demand:
        """What ``sid`` takes as it is configured."""
        return self.demands.get(sid, NOTHING)

    def load(self, sid: str) -> tuple[float, float]:
        """CPUs and bytes that ``sid`` adds to its node, by this fleet's scoring."""
        demand = self.demand(sid)
        if self.scoring is not Scoring.DYNAMIC:
            return demand.cpus, demand.memory
        cpu = demand.cpus if demand.cpu_load is None else demand.cpu_load
        return cpu, demand.memory if demand.memory_load is None else demand.memory_load

    def nodes_of(self, sid: str) -> list[str]:
        """The online nodes where the guest is (two while it moves)."""
        return [self.names[at] for at in self._on.get(sid, ())]

    def places_of(self, sid: str) -> list[int]:
        """Like ``nodes_of``, as numbers in ``names``."""
        return self._on.get(sid, [])

    def place(self, sid: str, node: str) -> None:
        """The guest will be on ``node`` too; nothing is checked. An unknown node is passed over."""
        self._put(sid, node, measured=False)

    def remove(self, sid: str, node: str) -> None:
        """The guest will no longer be on ``node``."""
        at = self.index.get(node)
        if at is None or at not in self._on.get(sid, ()):
            return
        self._on[sid].remove(at)
        self.guests[at] -= 1
        self.memory[at] -= self.demand(sid).memory
        cpu, memory = self.load(sid)
        self.cpu_use[at] = max(0.0, self.cpu_use[at] - cpu)
        self.memory_use[at] = max(0.0, self.memory_use[at] - memory)

    def where_together(self, sid: str) -> Counter[int]:
        """How many of the guest's group, itself and those that end left out, are on each node."""
        found: Counter[int] = Counter()
        for other in self.rules.together.get(sid, ()):
            if other != sid and other not in self.ending:
                found.update(self._on.get(other, ()))
        return found

    def occupied(self, sid: str) -> dict[int, str]:
        """The nodes where there is a guest that is kept apart from ``sid``, each with that guest's sid."""
        apart = self.rules.apart.get(sid, {})
        return {at: other for other in sorted(apart, reverse=True) for at in self._on.get(other, ())}


def _sizes(known: list[float]) -> list[float]:
    least = min((size for size in known if size), default=1.0)
    return [size or least for size in known]
