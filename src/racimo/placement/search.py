"""The best single move of a guest (or of a group that is kept together).

What a move does to the imbalance follows from two sums, so each is judged in constant time; and of nodes of one size
the least used that can have the unit is the best target, so only that one is looked at.
"""

from __future__ import annotations

from collections import defaultdict
from math import fsum, sqrt
from typing import TYPE_CHECKING

from racimo.placement.score import ALIKE, topsis

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from racimo.placement.fleet import Fleet
    from racimo.placement.units import Targets, Unit

ALL_PAIRS = 50_000
"""Up to so many pairs of unit and node TOPSIS looks at each; beyond, at the nodes that no other of their size beats."""
LESS = 1 - 1e-9
"""What is not less by this much is called equal, and the first one found stays."""


class Uses:
    """How much of each node is used, as shares: 0.5 is half. None for a node whose size is not known."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.known = [bool(machine.cpus and machine.memory) for machine in fleet.machines]
        self.cpu = [self._share(at, cpu=True) for at in range(len(fleet.names))]
        self.memory = [self._share(at, cpu=False) for at in range(len(fleet.names))]
        self.both: list[float | None] = [
            (cpu + memory) / 2 if known else None
            for cpu, memory, known in zip(self.cpu, self.memory, self.known, strict=True)
        ]
        sizes: dict[tuple[float, int], list[int]] = defaultdict(list)
        for at, machine in enumerate(fleet.machines):
            if self.known[at]:
                sizes[machine.cpus, machine.memory].append(at)
        self.sizes = {size: sizes[size] for size in sorted(sizes, reverse=True)}

    def _share(self, at: int, *, cpu: bool) -> float:
        machine = self.fleet.machines[at]
        if not self.known[at]:
            return 0.0
        return self.fleet.cpu_use[at] / machine.cpus if cpu else self.fleet.memory_use[at] / machine.memory

    def without(self, unit: Unit) -> tuple[float, float]:
        """The shares of CPU and memory that are used on the unit's node without it."""
        machine, at = self.fleet.machines[unit.source], unit.source
        cpu = max(0.0, self.fleet.cpu_use[at] - unit.cpu)
        return cpu / machine.cpus, max(0.0, self.fleet.memory_use[at] - unit.memory) / machine.memory


def by_brute_force(fleet: Fleet, units: Sequence[Unit], targets: Targets) -> tuple[Unit, int] | None:
    """The move that leaves the least imbalance, if it leaves less than there is."""
    uses = Uses(fleet)
    both = [use or 0.0 for use in uses.both]
    total, squares = fsum(both), fsum(use * use for use in both)
    if not total:
        return None
    orders = [
        (0.5 / cpus, 0.5 / memory, sorted(nodes, key=lambda at: (both[at], at)))
        for (cpus, memory), nodes in uses.sizes.items()
    ]
    least = squares / (total * total) * LESS  # the imbalance grows with this, whatever the number of nodes
    found = None
    for unit in units:
        source = unit.source
        if not uses.known[source]:
            continue
        left = sum(uses.without(unit)) / 2
        total_left = total - both[source] + left
        squares_left = squares - both[source] * both[source] + left * left
        for per_cpu, per_memory, order in orders:
            more = unit.cpu * per_cpu + unit.memory * per_memory
            scale = 1.0 / ((total_left + more) * (total_left + more) or 1.0)
            rest = (squares_left + more * more) * scale
            slope = 2 * more * scale
            for at in order:
                score = rest + both[at] * slope
                if score >= least:
                    break
                if at != source and targets.fits(unit, at):
                    found, least = (unit, at), score * LESS
                    break
    return found


def by_topsis(fleet: Fleet, units: Sequence[Unit], targets: Targets) -> tuple[Unit, int] | None:
    """The move that scores best of those that leave less imbalance than there is."""
    uses = Uses(fleet)
    both = [use or 0.0 for use in uses.both]
    total, squares = fsum(both), fsum(use * use for use in both)
    if not total:
        return None
    now = squares / (total * total) * LESS
    after = _After(uses)
    every = len(units) * len(fleet.names) <= ALL_PAIRS
    pairs: list[tuple[Unit, int]] = []
    rows: list[tuple[float, float, float, float]] = []
    for unit in units:
        if not uses.known[unit.source]:
            continue
        left = sum(uses.without(unit)) / 2
        for at in _candidates(uses, unit, targets, every=every):
            machine = fleet.machines[at]
            new = both[at] + (unit.cpu / machine.cpus + unit.memory / machine.memory) / 2
            total_after = total - both[unit.source] + left - both[at] + new
            squares_after = squares - both[unit.source] ** 2 + left * left - both[at] ** 2 + new * new
            if squares_after < now * total_after * total_after:
                pairs.append((unit, at))
                rows.append(after.criteria(unit, at))
    if not rows:
        return None
    one, two, three, four = zip(*rows, strict=True)
    scores = topsis((one, two, three, four))
    enough = max(scores) - ALIKE
    return next(pair for pair, score in zip(pairs, scores, strict=True) if score >= enough)


def _candidates(uses: Uses, unit: Unit, targets: Targets, *, every: bool) -> Iterator[int]:
    """The nodes that can have the unit; unless ``every``, without those that another of their size beats."""
    for nodes in uses.sizes.values():
        order = sorted(nodes, key=lambda at: (uses.cpu[at], uses.memory[at], at)) if not every else nodes
        lowest = float("inf")
        for at in order:
            if at == unit.source or (not every and uses.memory[at] >= lowest) or not targets.fits(unit, at):
                continue
            lowest = uses.memory[at]
            yield at


class _After:
    """The criteria of ``score.py`` for the datacenter after a move."""

    def __init__(self, uses: Uses) -> None:
        self._uses, self._count = uses, len(uses.cpu)
        self._cpu_squares, self._memory_squares = fsum(u * u for u in uses.cpu), fsum(u * u for u in uses.memory)
        numbers = range(self._count)
        self._most_cpu = sorted(numbers, key=lambda at: -uses.cpu[at])[:3]
        self._most_memory = sorted(numbers, key=lambda at: -uses.memory[at])[:3]

    def criteria(self, unit: Unit, at: int) -> tuple[float, float, float, float]:
        uses, source = self._uses, unit.source
        machine = uses.fleet.machines[at]
        cpu_left, memory_left = uses.without(unit)
        cpu, memory = uses.cpu[at] + unit.cpu / machine.cpus, uses.memory[at] + unit.memory / machine.memory
        cpu_squares = self._cpu_squares - uses.cpu[source] ** 2 - uses.cpu[at] ** 2 + cpu_left**2 + cpu**2
        memory_squares = self._memory_squares - uses.memory[source] ** 2 - uses.memory[at] ** 2
        memory_squares += memory_left**2 + memory**2
        other_cpu = max((uses.cpu[n] for n in self._most_cpu if n not in (source, at)), default=0.0)
        other_memory = max((uses.memory[n] for n in self._most_memory if n not in (source, at)), default=0.0)
        return (
            1.0 + sqrt(max(0.0, cpu_squares) / self._count),
            1.0 + max(other_cpu, cpu_left, cpu),
            1.0 + sqrt(max(0.0, memory_squares) / self._count),
            1.0 + max(other_memory, memory_left, memory),
        )
