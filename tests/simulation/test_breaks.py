"""Each deliberate break of a safety rule makes the simulation red: else a green one would prove nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from racimo.ha.simulate.history import play
from racimo.ha.simulate.mutations import MUTATIONS, Mutation, first_seed
from racimo.ha.simulate.report import setup_json
from racimo.ha.simulate.scenario_file import parse_scenario
from racimo.ha.simulate.shrink import shrink

SEEDS: dict[str, int] = json.loads(Path(__file__).with_name("break_seeds.json").read_text())
"""The first seed that showed each break when ``search_breaks.py`` was last run."""

FURTHER = 60
"""A change of the code changes the histories: so many seeds from there on are tried."""


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_oracle_sees_each_deliberate_break(mutation: Mutation) -> None:
    begin = SEEDS[mutation.name]
    assert first_seed(mutation, range(begin, begin + FURTHER)) is not None


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_rules_as_they_are_stand_the_history_of_each_break(mutation: Mutation) -> None:
    assert play(mutation.drawn(SEEDS[mutation.name])).violations == ()


def test_a_history_that_breaks_a_rule_is_made_short_and_breaks_it_still() -> None:
    mutation = MUTATIONS[0]
    whole = mutation.drawn(SEEDS[mutation.name])
    short, result = shrink(whole, lambda setup: play(setup, mutation.make_ha))
    assert result.violations
    assert len(short.steps) <= 3 < len(whole.steps)
    assert len(short.guests) == 1
    assert parse_scenario(json.dumps(setup_json(short))).steps == short.steps
