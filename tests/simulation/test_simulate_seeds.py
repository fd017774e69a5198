"""Random histories of the real HA code: none breaks a promise, and each is the same each time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter

import pytest

from racimo.ha.simulate.campaign import run_seeds
from racimo.ha.simulate.drawing import KINDS_OF_SETUP, kinds_of_setup
from racimo.ha.simulate.generate import draw
from racimo.ha.simulate.history import play
from racimo.ha.simulate.kinds import KINDS
from racimo.ha.simulate.report import campaign_json, setup_json
from racimo.ha.simulate.scenario_file import parse_scenario


def test_a_seed_tells_the_same_history_in_every_process() -> None:
    code = (
        "from racimo.ha.simulate.generate import draw; from racimo.ha.simulate.history import play\n"
        "for event in play(draw(5)).events: print(event.line())"
    )
    told = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": number},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for number in ("1", "2")
    ]
    assert told[0].count("\n") > 50
    assert told[0] == told[1]


@pytest.mark.parametrize("seed", range(20))
def test_every_history_lasts_ten_minutes_and_has_three_faults(seed: int) -> None:
    setup = draw(seed)
    assert setup.end >= 600
    assert sum(verb.name == "fault" for step in setup.steps for verb in step.verbs) >= 3
    assert 1 <= len(setup.nodes) <= 9


def test_a_history_written_down_as_a_scenario_plays_the_same() -> None:
    setup = draw(7)
    again = parse_scenario(json.dumps(setup_json(setup)))
    assert [event.line() for event in play(again).events] == [event.line() for event in play(setup).events]


def test_a_thousand_seeds_draw_every_fault_and_every_act() -> None:
    kinds = {verb.choice for seed in range(1000) for step in draw(seed).steps for verb in step.verbs}
    assert kinds >= set(KINDS)


@pytest.mark.parametrize("seed", [20779514, 20779611, 20779891, 20779908, 20779995])
def test_a_history_that_once_broke_a_promise_keeps_it(seed: int) -> None:
    assert play(draw(seed, arrange=False)).violations == ()


def test_three_hundred_seeds_draw_every_kind_of_datacenter() -> None:
    drawn = sum((kinds_of_setup(draw(seed)) for seed in range(300)), Counter[str]())
    assert min(drawn[kind] for kind in KINDS_OF_SETUP) >= 10
    assert set(drawn) == set(KINDS_OF_SETUP)


def test_a_campaign_sums_its_histories_up() -> None:
    campaign = run_seeds(0, 12)
    told = campaign_json(campaign)
    assert told["seeds"] == 12
    assert told["hours"] >= 2
    assert told["violations"] == []
    assert sum(told["faults"].values()) >= 36
    assert set(told["failovers"]) == {"count", "p50_s", "p99_s", "max_s"}
