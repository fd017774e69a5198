"""Many histories, each by its seed, over several processes."""

from __future__ import annotations

import gc
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.ha.simulate.drawing import kinds_of_setup
from racimo.ha.simulate.generate import draw
from racimo.ha.simulate.history import play
from racimo.ha.simulate.shrink import shrink

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.ha.simulate.setup import Setup

MOST_SHRUNK = 3
"""So many violations are shortened; the others are told as they are."""


@dataclass(frozen=True, slots=True)
class Told:
    """What one seed came to. Times in seconds."""

    seed: int
    seconds: float
    faults: Counter[str]
    failovers: tuple[float, ...]
    violations: tuple[str, ...]
    starts: int
    drawn: Counter[str]
    """Of what kind the datacenter was: see ``drawing.kinds_of_setup``."""


@dataclass(frozen=True, slots=True)
class Broken:
    """A seed that breaks an invariant, with a shortened history that still does."""

    seed: int
    violations: tuple[str, ...]
    shortened: Setup | None = None
    story: tuple[str, ...] = ()


@dataclass
class Campaign:
    """The sum of many histories."""

    seeds: int = 0
    seconds: float = 0.0
    starts: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    drawn: Counter[str] = field(default_factory=Counter)
    """How many of the histories had rules, policies and the like of each kind."""
    failovers: list[float] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    def add(self, told: Told) -> None:
        """One more history."""
        self.seeds += 1
        self.seconds += told.seconds
        self.starts += told.starts
        self.faults += told.faults
        self.drawn += told.drawn
        self.failovers += told.failovers
        if told.violations:
            self.broken.append(Broken(told.seed, told.violations))

    def percentile(self, share: float) -> float | None:
        """The failover time that ``share`` (0 to 1) of the failovers did not exceed; None without failovers."""
        if not self.failovers:
            return None
        ordered = sorted(self.failovers)
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def tell(seed: int) -> Told:
    """Play one seed."""
    setup = draw(seed)
    result = play(setup)
    drawn = kinds_of_setup(setup)
    return Told(seed, result.seconds, result.faults, result.failovers, result.violations, result.starts, drawn)


def run_seeds(
    first: int, count: int, jobs: int | None = None, progress: Callable[[Told], None] = lambda told: None
) -> Campaign:
    """Play ``count`` seeds from ``first`` on, over ``jobs`` processes (by default one for each CPU)."""
    campaign, seeds = Campaign(), range(first, first + count)
    workers = max(1, min(jobs or len(os.sched_getaffinity(0)), count))
    if workers == 1:
        for seed in seeds:
            _add(campaign, tell(seed), progress)
    else:
        with ProcessPoolExecutor(workers, initializer=_collect_seldom) as pool:
            for told in pool.map(tell, seeds, chunksize=max(1, min(16, count // workers // 4))):
                _add(campaign, told, progress)
    campaign.broken = [
        _shortened(broken) if number < MOST_SHRUNK else broken for number, broken in enumerate(campaign.broken)
    ]
    return campaign


def _collect_seldom() -> None:
    """A history makes much garbage and keeps little; what was there before it stays for good."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)


def _add(campaign: Campaign, told: Told, progress: Callable[[Told], None]) -> None:
    campaign.add(told)
    progress(told)


def _shortened(broken: Broken) -> Broken:
    setup, result = shrink(draw(broken.seed))
    return Broken(broken.seed, broken.violations, setup, tuple(event.line() for event in result.events))
