"""Each deliberate break of a safety rule makes the simulation red: else a green one would prove nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from racimo.ha.simulate.generate import draw
from racimo.ha.simulate.history import play
from racimo.ha.simulate.mutations import MUTATIONS, Mutation, first_seed

SEEDS: dict[str, int] = json.loads(Path(__file__).with_name("break_seeds.json").read_text())
"""The first seed that showed each break when ``search_breaks.py`` was last run."""

FURTHER = 15
"""A change of the code changes the histories: so many seeds from there on are tried."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_oracle_sees_each_deliberate_break(mutation: Mutation) -> None:
    begin = SEEDS[mutation.name]
    assert first_seed(mutation, range(begin, begin + FURTHER)) is not None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_rules_as_they_are_stand_the_history_of_each_break(mutation: Mutation) -> None:
    assert play(draw(SEEDS[mutation.name], mutation.kinds)).violations == ()
