"""How good the datacenter looks with a guest on each of the nodes, by TOPSIS (Hwang and Yoon, 1981).

Four criteria, all to be small: ``1 + RMS`` and ``1 + max`` of the nodes' use of CPU, and of memory, with the guest
added. One is added so that nearly idle nodes do not look far apart. Numbers are shares: 0.5 is half of a node.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from operator import mul

WEIGHTS = (1 / 18, 2 / 18, 5 / 18, 10 / 18)
"""Of the mean of CPU, its maximum, the mean of memory, its maximum."""
ALIKE = 1e-12
"""Scores that differ by no more are equal: the rest may come from the order in which loads were added."""

Criteria = tuple[Sequence[float], Sequence[float], Sequence[float], Sequence[float]]
"""One column for each criterion, in the order of ``WEIGHTS``, with an entry for each possibility."""


def topsis(criteria: Criteria) -> list[float]:
    """The closeness of each possibility to the best of all, from 0 (the worst in everything) to 1 (the best)."""
    if not criteria[0]:
        return []
    spans = [(min(column), max(column)) for column in criteria]
    a, b, c, d = (
        weight / (sqrt(sum(map(mul, column, column))) or 1.0) for weight, column in zip(WEIGHTS, criteria, strict=True)
    )
    (best_1, worst_1), (best_2, worst_2), (best_3, worst_3), (best_4, worst_4) = spans
    near = [
        sqrt((a * (p - best_1)) ** 2 + (b * (q - best_2)) ** 2 + (c * (r - best_3)) ** 2 + (d * (s - best_4)) ** 2)
        for p, q, r, s in zip(*criteria, strict=True)
    ]
    far = [
        sqrt((a * (worst_1 - p)) ** 2 + (b * (worst_2 - q)) ** 2 + (c * (worst_3 - r)) ** 2 + (d * (worst_4 - s)) ** 2)
        for p, q, r, s in zip(*criteria, strict=True)
    ]
    return [bad / (good + bad) if good + bad else 1.0 for good, bad in zip(near, far, strict=True)]


def after_start(
    cpu: Sequence[float], memory: Sequence[float], new_cpu: Sequence[float], new_memory: Sequence[float]
) -> Criteria:
    """The criteria for a guest started on each node.

    ``cpu`` and ``memory`` are each node's use now, ``new_cpu`` and ``new_memory`` what it is on that node with the
    guest there, which is never less.
    """
    most_cpu, most_memory = 1.0 + max(cpu, default=0.0), 1.0 + max(memory, default=0.0)
    return (
        _means(cpu, new_cpu),
        [1.0 + use if 1.0 + use > most_cpu else most_cpu for use in new_cpu],
        _means(memory, new_memory),
        [1.0 + use if 1.0 + use > most_memory else most_memory for use in new_memory],
    )


def _means(now: Sequence[float], after: Sequence[float]) -> list[float]:
    """One plus the root of the mean square, with each in turn as it would be."""
    squares, share = sum(map(mul, now, now)), 1.0 / max(1, len(now))
    return [1.0 + sqrt(max(0.0, squares - one * one + new * new) * share) for one, new in zip(now, after, strict=True)]
