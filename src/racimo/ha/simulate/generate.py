"""A datacenter and its troubles, drawn by a seed. The setup can be written down and played again as a scenario."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from racimo.ha.simulate.drawing import arranged
from racimo.ha.simulate.kinds import FAULTS
from racimo.ha.simulate.setup import Durations, GuestSetup, NodeSetup, Options, Setup, Step
from racimo.ha.simulate.verbs import Verb

if TYPE_CHECKING:
    from collections.abc import Sequence

TROUBLED_S = (420.0, 620.0)
HEALED_S = 260.0
"""How long it goes on after the last fault: all must be well by then."""
LASTS_S = (0.5, 2.0, 5.0, 9.0, 11.0, 12.0, 20.0, 45.0)
LONE = ("split", "one-way-partition", "partial-partition", "node-lost", "isolation", "flap")
"""Faults that need other nodes."""


def draw(seed: int, kinds: Sequence[str] = (), *, arrange: bool | None = None) -> Setup:
    """The setup of ``seed``: 1 to 9 nodes, at least 10 minutes, at least 3 faults.

    With ``kinds`` it has these faults alone, one soon after the other, on 3 or 5 nodes. ``arrange``: with rules, sizes,
    policies and administrators, which is the default without ``kinds``.
    """
    chance = random.Random(f"setup {seed}")  # noqa: S311 - the same each time
    count = chance.choice([3, 3, 5] if kinds else [1, 2, 3, 3, 3, 4, 5, 5, 6, 7, 9])
    nodes = {f"n{number + 1}": NodeSetup(on=True) for number in range(count)}
    guests = _guests(chance, list(nodes))
    profile = chance.choice(["default", "default", "default", "fast", "patient"])
    durations = Durations(chance.uniform(0.0, 3.0), chance.uniform(0.0, 3.0), chance.uniform(0.0, 8.0))
    troubled = chance.uniform(*TROUBLED_S)
    fences = count > 1 and chance.random() < 0.5
    if kinds:
        fences = any(kind.startswith("fence-") for kind in kinds)
    steps = _faults(chance, list(nodes), troubled, kinds, fences=fences)
    setup = Setup(
        name=f"seed {seed}",
        nodes=nodes,
        guests=guests,
        options=Options(profile=profile),
        durations=durations,
        steps=(*steps, Step(troubled, (Verb("heal", "heal"),))),
        end=troubled + HEALED_S,
        seed=seed,
        fences=fences,
        healed=True,
    )
    if arrange is False or (kinds and not arrange):
        return setup
    return arranged(setup, random.Random(f"arrangement {seed}"), troubled)  # noqa: S311 - the same each time


def _guests(chance: random.Random, nodes: list[str]) -> dict[str, GuestSetup]:
    guests = {}
    for number in range(chance.randint(1, 4 + 2 * len(nodes))):
        sid = f"vm:{100 + number}"
        state = "started" if chance.random() < 0.9 else "stopped"
        guests[sid] = GuestSetup(sid, chance.choice(nodes), state, max_restart=3, max_relocate=3)
    return guests


def _faults(chance: random.Random, nodes: list[str], until: float, only: Sequence[str], *, fences: bool) -> list[Step]:
    kinds = [kind for kind in only or FAULTS if len(nodes) > 1 or kind not in LONE]
    kinds = [kind for kind in kinds if fences or not kind.startswith("fence-")]
    steps: list[Step] = []
    at = chance.uniform(20.0, 60.0)
    lost = False
    while at < until - 60.0 or len(steps) < 3:
        kind = chance.choice(kinds)
        if kind == "node-lost" and (lost or len(nodes) < 4):
            kind = "crash"
        lost |= kind == "node-lost"
        node, seconds = chance.choice(nodes), chance.choice(LASTS_S) * chance.uniform(0.8, 1.2)
        words = f"fault {kind} {node} {seconds:.3f}"
        verb = Verb("fault", words, node=node, choice=kind, first=float(f"{seconds:.3f}"))
        steps.append(Step(round(at, 3), (verb,)))
        if only:
            at += chance.expovariate(1 / 12.0)
            continue
        # Most faults come alone; some while an earlier one is still at work.
        at += chance.expovariate(1 / 5.0) if chance.random() < 0.35 else chance.uniform(30.0, 110.0)
    return [step for step in steps if step.at < until]
