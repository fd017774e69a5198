"""Scenario files that are wrong say where, why and what to write; the command ends as it should."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from racimo.cli.main import main
from racimo.errors import BadRequest
from racimo.ha.simulate.history import play
from racimo.ha.simulate.scenario_file import parse_scenario, read_scenario

NODES = {"n1": {}, "n2": {}, "n3": {}}
GUESTS = {"vm:101": {"node": "n1", "state": "started"}}


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"nodes": {}}, "nodes"),
        ({"guests": {"vm:101": {"node": "n9"}}}, "there is no node 'n9'"),
        ({"guests": {"vm:101": {"node": "n1", "state": "on"}}}, "guests.vm:101.state"),
        ({"guests": {"web": {"node": "n1"}}}, "not like vm:100"),
        ({"gests": {}}, "gests"),
        ({"options": {"profile": "quick"}}, "options.profile"),
        ({"rules": [{"id": "a", "type": "resource-affinity", "resources": ["vm:101"]}]}, "rules.a.affinity"),
        ({"steps": [{"at": 20, "do": ["power n1 up"]}]}, "'up' is not one of on, off"),
        ({"steps": [{"at": 20, "do": ["explode n1"]}]}, "is no verb"),
        ({"steps": [{"at": 20, "do": ["guest vm:109 stopped"]}]}, "there is no guest vm:109"),
        ({"steps": [{"at": 20, "do": ["pause n1 long"]}]}, "'long' is no number"),
        ({"steps": [{"at": 20, "do": ["power n1 on now"]}]}, "'now' is too much"),
        ({"steps": [{"at": 20, "do": ["partition n1,n2|n2"]}]}, "a node is in two groups"),
        ({"steps": [{"at": 20, "do": []}, {"at": 10, "do": []}]}, "is before the step before"),
        ({"steps": [{"at": 20, "do": []}], "end": 10}, "before the last step"),
        ({"state": {"guests": {"vm:102": {"node": "n1", "state": "started"}}}}, "there is no such guest"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_way_out(wrong: dict[str, object], told: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_scenario(json.dumps({"nodes": NODES, "guests": GUESTS, **wrong}))
    assert told in str(caught.value)
    assert caught.value.todo


def test_broken_json_is_told_with_its_line() -> None:
    with pytest.raises(BadRequest, match="line 2"):
        parse_scenario('{"nodes":\n }')


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(BadRequest, match="cannot be read"):
        read_scenario(Path("/nowhere/at-all.json"))


def test_a_manager_that_gives_its_office_back_leaves_the_number_of_its_term() -> None:
    steps = [{"at": 20, "do": [f"power {node} on" for node in NODES]}, {"at": 60, "do": ["ha n1 stop"]}]
    result = play(parse_scenario(json.dumps({"nodes": NODES, "guests": GUESTS, "steps": steps, "end": 90})))
    terms = [event.what for event in result.events if event.kind == "manager"]
    assert terms == ["manages, term 1", "gave its office back", "manages, term 2"]
    assert result.violations == ()


def test_the_command_prints_the_document_of_a_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"nodes": {"n1": {"power": "on"}}, "guests": GUESTS, "end": 60}))
    assert main(["simulate", "--scenario", str(file), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"checkpoints", "final", "events", "max_copies", "violations"}
    assert told["final"]["guests"]["vm:101"] == {
        "node": "n1",
        "state": "started",
        "requested": "started",
        "running_on": ["n1"],
    }
    assert told["final"]["settled"] is True


def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"nodes": NODES, "steps": [{"at": 1, "do": ["jump"]}]}))
    assert main(["simulate", "--scenario", str(file)]) != 0
    assert "steps.0.do" in capsys.readouterr().err
