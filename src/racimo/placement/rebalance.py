"""Which guests to move so that the nodes are used alike, each move with the imbalance before and after."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from math import fsum, sqrt
from typing import TYPE_CHECKING

from racimo.placement.search import Uses, by_brute_force, by_topsis
from racimo.placement.units import Targets, units

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from racimo.placement.fleet import Fleet
    from racimo.placement.units import Unit


class Method(StrEnum):
    """How the best move is found. Names are those of the Proxmox VE API."""

    BRUTEFORCE = "bruteforce"
    """The one that leaves the least imbalance."""
    TOPSIS = "topsis"
    """The one that scores best, by the criteria of ``score.py``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """When to move guests, and how many."""

    threshold: float = 0.3
    """Nothing is moved while the imbalance is not above it, or once it is not any more."""
    margin: float = 0.1
    """The share of the imbalance that a plan must take away to be worth it."""
    moves: int = 1
    """How many guests may be moved."""
    steps: int | None = None
    """How many times something may be moved: a guest, or guests that are kept together. None: as often as it takes."""
    method: Method = Method.BRUTEFORCE


@dataclass(frozen=True, slots=True)
class BalanceMove:
    """One guest to move. Guests that are kept together move one after the other, with the same numbers."""

    sid: str
    source: str
    target: str
    before: float
    after: float
    why: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The moves in their order (none: all stays), and the sentence of why. ``before`` and ``after`` are imbalances."""

    moves: tuple[BalanceMove, ...]
    before: float
    after: float
    why: str


def imbalance(fleet: Fleet) -> float:
    """How unlike the nodes are used: population standard deviation over mean of (CPU share + memory share) / 2.

    0 is perfect. Nodes whose size is not known are left out.
    """
    return _spread([use for use in Uses(fleet).both if use is not None])


def rounds_above(before: int, found: float, goal: Goal) -> int:
    """How many rounds in a row the imbalance was above the threshold, this one among them."""
    return before + 1 if found > goal.threshold else 0


def rebalance(
    fleet: Fleet, movable: Collection[str], goal: Goal, *, allowed: Mapping[str, Collection[str]] | None = None
) -> Plan:
    """The moves that bring the imbalance down, best first, until the goal is reached. The fleet stays as it is.

    ``movable`` are the guests that may be moved (running, not moving already); ``allowed`` the nodes that have what a
    guest needs, for those that cannot run everywhere. No move breaks a rule or takes more memory than a node has.
    """
    fleet, where = fleet.copy(), allowed or {}
    first = now = imbalance(fleet)
    if now <= goal.threshold:
        return Plan((), first, first, f"the imbalance of {first:.2f} is not above {goal.threshold:g}")
    moves: list[BalanceMove] = []
    candidates, targets = units(fleet, movable, where), Targets(fleet, where)
    search, steps = by_brute_force if goal.method is Method.BRUTEFORCE else by_topsis, 0
    while now > goal.threshold and steps != goal.steps:
        found = search(fleet, [unit for unit in candidates if len(unit.sids) + len(moves) <= goal.moves], targets)
        if found is None:
            break
        unit, target = found
        moved = _moved(fleet, unit, target)
        after = imbalance(fleet)
        if after >= now:
            break
        moves += _told(fleet, unit, target, now, after)
        candidates[candidates.index(unit)] = moved
        now, steps = after, steps + 1
    if not moves:
        return Plan((), first, first, f"the imbalance is {first:.2f}, and no move that is allowed makes it less")
    if first - now < goal.margin * first:
        why = f"{len(moves)} moves would only take the imbalance from {first:.2f} to {now:.2f}"
        return Plan((), first, first, f"{why}, less than {goal.margin:.0%} of it")
    return Plan(tuple(moves), first, now, f"{len(moves)} moves take the imbalance from {first:.2f} to {now:.2f}")


def _moved(fleet: Fleet, unit: Unit, target: int) -> Unit:
    for sid in unit.sids:
        fleet.remove(sid, fleet.names[unit.source])
        fleet.place(sid, fleet.names[target])
    return replace(unit, source=target)


def _told(fleet: Fleet, unit: Unit, target: int, before: float, after: float) -> list[BalanceMove]:
    """The unit's moves, once it was moved in ``fleet``."""
    source, name = fleet.names[unit.source], fleet.names[target]
    why = f"it takes load from {source} to {name}: the imbalance goes from {before:.3f} to {after:.3f}"
    return [BalanceMove(sid, source, name, before, after, _with_others(sid, unit) + why) for sid in unit.sids]


def _with_others(sid: str, unit: Unit) -> str:
    others = [other for other in unit.sids if other != sid]
    return f"with {', '.join(others)}, kept together with it, " if others else ""


def _spread(uses: list[float]) -> float:
    mean = fsum(uses) / len(uses) if uses else 0.0
    if not mean:
        return 0.0
    return sqrt(fsum((use - mean) ** 2 for use in uses) / len(uses)) / mean
