"""Makes a history that breaks an invariant shorter, as long as it still breaks one of the same kind."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha.simulate.history import play
from racimo.ha.simulate.rest import kinds_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from racimo.ha.simulate.history import Result
    from racimo.ha.simulate.setup import Setup, Step

    Player = Callable[[Setup], Result]

TRIES = 150
"""So many shorter histories are tried at most."""


def shrink(setup: Setup, player: Player = play) -> tuple[Setup, Result]:
    """A setup with fewer faults, guests and nodes that breaks what ``setup`` breaks, and what comes of it."""
    best = player(setup)
    wanted, left, shorter = kinds_of(best.violations), TRIES, True
    while shorter and left > 0:
        shorter = False
        for smaller in _smaller(setup):
            left -= 1
            result = player(smaller)
            if wanted & kinds_of(result.violations):
                setup, best, shorter = smaller, result, True
                break
            if left <= 0:
                break
    return setup, best


def _smaller(setup: Setup) -> Iterator[Setup]:
    """Halves of the faults first, then single ones, then guests and nodes that nothing speaks of."""
    faults = [step for step in setup.steps if step.verbs[0].name == "fault"]
    size = len(faults) // 2
    while size >= 1:
        for begin in range(0, len(faults), size):
            yield _without(setup, faults[begin : begin + size])
        size //= 2
    for sid in setup.guests:
        if len(setup.guests) > 1:
            yield replace(setup, guests={name: guest for name, guest in setup.guests.items() if name != sid})
    named = {verb.node for step in setup.steps for verb in step.verbs} | {g.node for g in setup.guests.values()}
    for name in reversed(list(setup.nodes)):
        if name not in named and len(setup.nodes) > 1:
            yield replace(setup, nodes={node: what for node, what in setup.nodes.items() if node != name})


def _without(setup: Setup, faults: list[Step]) -> Setup:
    return replace(setup, steps=tuple(step for step in setup.steps if step not in faults))
