"""Random histories in which administrators disarm HA, arm it, empty nodes and shut them down, all while faults strike.

``RACIMO_SEEDS=500 RACIMO_FIRST_SEED=1000`` plays others.
"""

from __future__ import annotations

import os
import random
from dataclasses import replace

import pytest

from racimo.ha.simulate.generate import draw
from racimo.ha.simulate.history import play
from racimo.ha.simulate.setup import Setup, Step
from racimo.ha.simulate.verbs import parse_verb

SEEDS, FIRST = int(os.environ.get("RACIMO_SEEDS", "8")), int(os.environ.get("RACIMO_FIRST_SEED", "1"))


def administered(seed: int) -> Setup:
    """The seed's history, with somebody at work in it until the faults end."""
    setup, chance = draw(seed), random.Random(f"administrator {seed}")
    healed = setup.steps[-1].at
    nodes = list(setup.nodes)
    asked: list[tuple[float, str]] = []
    at = chance.uniform(10.0, 60.0)
    while at < healed - 60.0:
        node, lasts = chance.choice(nodes), chance.choice([1.0, 5.0, 15.0, 40.0])
        begin, end = chance.choice(
            [
                ("disarm freeze", "arm"),
                ("disarm ignore", "arm"),
                ("disarm freeze", "arm"),
                (f"maintenance {node} on", f"maintenance {node} off"),
                (f"reboot {node}", ""),
                (f"shutdown {node}", f"power {node} on"),
            ]
        )
        asked.append((at, begin))
        if end:
            asked.append((at + lasts, end))
        at += lasts + chance.expovariate(1 / 20.0)
    asked += [(healed - 1.0, "arm"), *((healed - 1.0, f"maintenance {node} off") for node in nodes)]
    steps = [Step(round(when, 3), (parse_verb(words, nodes, list(setup.guests)),)) for when, words in asked]
    return replace(setup, steps=tuple(sorted((*setup.steps, *steps), key=lambda step: step.at)))


@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_whatever_administrators_do_no_guest_runs_twice(seed: int) -> None:
    result = play(administered(seed))
    assert result.max_copies <= 1
    # 9 is passed over: a node that was lost while HA was disarmed keeps its guests, and some are left switched off.
    broken = [told for told in result.violations if " s: 9 " not in told]
    assert not broken, "\n".join([*broken, *(event.line() for event in result.events[-60:])])
