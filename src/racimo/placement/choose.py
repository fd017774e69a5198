"""Which of several nodes gets a guest: the one with the fewest guests, then the one whose name comes first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(frozen=True, slots=True)
class Choice:
    """The node that was chosen, and the sentence's end that says why."""

    node: str
    why: str


def choose(candidates: Iterable[str], guests: Mapping[str, int]) -> Choice | None:
    """The best of ``candidates``, None if there are none; ``guests`` says how many each has (not named: none)."""
    ordered = sorted(set(candidates), key=lambda node: (guests.get(node, 0), node))
    if not ordered:
        return None
    best, names = ordered[0], ", ".join(sorted(ordered))
    if len(ordered) == 1:
        return Choice(best, f"{best} is the only node left for it")
    if guests.get(best, 0) == guests.get(ordered[1], 0):
        return Choice(best, f"{best} is the first of the emptiest of {names}")
    return Choice(best, f"{best} has the fewest guests of {names}")
