"""Scenario files, each with the outcome that an administrator expects in itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from expectations import differences

from racimo.ha.simulate.history import play
from racimo.ha.simulate.scenario_file import read_scenario
from racimo.ha.simulate.verbs import FORMS, GUEST_FORMS

FILES = sorted((Path(__file__).parent / "scenarios").rglob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_guests_are_where_and_as_an_administrator_expects(path: Path) -> None:
    expect = json.loads(path.read_text())["expect"]
    result = play(read_scenario(path))
    story = "\n".join(event.line() for event in result.events)
    assert not differences(result, expect), story
    assert not result.violations, story
    assert result.max_copies <= 1
    assert all(look.settled for look in (result.final,)), story


def test_the_scenarios_use_every_verb() -> None:
    lines = [line.split() for path in FILES for step in json.loads(path.read_text())["steps"] for line in step["do"]]
    assert {words[0] for words in lines} >= FORMS.keys() - {"fault"}
    assert {words[2] for words in lines if words[0] == "guest"} == GUEST_FORMS.keys()


def test_there_are_sixty_of_them() -> None:
    assert len(FILES) >= 60
