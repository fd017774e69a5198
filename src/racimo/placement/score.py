"""How good the datacenter looks with a guest on each of the nodes, by TOPSIS (Hwang and Yoon, 1981).

Four criteria, all to be small: ``1 + RMS`` and ``1 + max`` of the nodes' use of CPU, and of memory, with the guest
added. One is added so that nearly idle nodes do not look far apart. Numbers are shares: 0.5 is half of a node.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

WEIGHTS = (1 / 18, 2 / 18, 5 / 18, 10 / 18)
"""Of the mean of CPU, its maximum, the mean of memory, its maximum."""
DIGITS = 12
"""Scores that agree so far are equal: what is beyond may come from the order in which loads were added."""

Criteria = tuple[float, float, float, float]


def topsis(rows: Sequence[Criteria]) -> list[float]:
    """The closeness of each row to the best of all, from 0 (the worst in everything) to 1 (the best)."""
    if not rows:
        return []
    columns = list(zip(*rows, strict=True))
    best = [min(column) for column in columns]
    worst = [max(column) for column in columns]
    a, b, c, d = (
        weight / (sqrt(sum([value * value for value in column])) or 1.0)
        for weight, column in zip(WEIGHTS, columns, strict=True)
    )
    (best_1, best_2, best_3, best_4), (worst_1, worst_2, worst_3, worst_4) = best, worst
    found = []
    for one, two, three, four in rows:
        near = sqrt(
            (a * (one - best_1)) ** 2
            + (b * (two - best_2)) ** 2
            + (c * (three - best_3)) ** 2
            + (d * (four - best_4)) ** 2
        )
        far = sqrt(
            (a * (one - worst_1)) ** 2
            + (b * (two - worst_2)) ** 2
            + (c * (three - worst_3)) ** 2
            + (d * (four - worst_4)) ** 2
        )
        found.append(round(far / (near + far), DIGITS) if near + far else 1.0)
    return found


def after_start(
    cpu: Sequence[float], memory: Sequence[float], new_cpu: Sequence[float], new_memory: Sequence[float]
) -> list[Criteria]:
    """The criteria for a guest started on each node.

    ``cpu`` and ``memory`` are each node's use now, ``new_cpu`` and ``new_memory`` what it is on that node with the
    guest there, which is never less.
    """
    count = len(cpu)
    squares_cpu, squares_memory = sum([use * use for use in cpu]), sum([use * use for use in memory])
    most_cpu, most_memory = max(cpu, default=0.0), max(memory, default=0.0)
    return [
        (
            1.0 + sqrt(max(0.0, squares_cpu - before * before + after * after) / count),
            1.0 + (after if after > most_cpu else most_cpu),
            1.0 + sqrt(max(0.0, squares_memory - held * held + then * then) / count),
            1.0 + (then if then > most_memory else most_memory),
        )
        for before, after, held, then in zip(cpu, new_cpu, memory, new_memory, strict=True)
    ]
