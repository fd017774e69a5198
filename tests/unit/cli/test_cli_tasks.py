from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cli_node import RunningNode
    from conftest import Process, Racimo


def test_a_command_waits_for_its_task(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "start", "100")
    assert (said.code, said.out.splitlines()[0]) == (0, "Guest 100 runs on n1.")
    assert 100 in node.world.running


def test_the_end_of_a_task_is_one_json_document(node: RunningNode, racimo: Racimo) -> None:
    document = racimo("guest", "start", "100", "--json").document
    assert isinstance(document, dict)
    assert (document["status"], document["exitstatus"]) == ("stopped", "OK")


def test_no_wait_prints_the_upid_alone(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "start", "200", "--no-wait")
    assert said.code == 0
    assert said.out.strip().startswith("UPID:n1:")
    assert 200 not in node.world.running


def test_a_failed_task_says_why_and_what_to_do(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "start", "300")
    assert said.code == 4
    assert said.err.splitlines() == [
        "Error: Guest 300 cannot start",
        "Why:   no space is left",
        "Do:    Free some space",
    ]


def test_a_task_is_listed_shown_and_its_log_printed(node: RunningNode, racimo: Racimo) -> None:
    upid = racimo("guest", "start", "100", "--json").document["upid"]  # type: ignore[index]
    assert upid in racimo("task", "list").out
    assert upid in racimo("task", "list", "--node", "n1").out
    assert "qmstart 100" in racimo("task", "show", upid).out
    log = [json.loads(line) for line in racimo("task", "log", upid, "--json").out.splitlines()]
    assert log[0] == {"n": 1, "t": "starting 100"}


def test_a_task_that_is_none_is_code_3(node: RunningNode, racimo: Racimo) -> None:
    assert racimo("task", "show", "100").code == 3


def test_following_a_log_ends_with_the_task(node: RunningNode, racimo_process: type[Process], racimo: Racimo) -> None:
    upid = racimo("guest", "start", "200", "--no-wait").out.strip()
    node.wait_until_starting()
    following = racimo_process("task", "log", upid, "--follow")
    node.open_gate()
    said = following.end()
    assert said.code == 0
    assert said.out.splitlines() == ["starting 200", "TASK OK"]


def test_cancelling_a_task_from_elsewhere_ends_the_wait(
    node: RunningNode, racimo_process: type[Process], racimo: Racimo
) -> None:
    waiting = racimo_process("guest", "start", "200")
    node.wait_until_starting()
    running = racimo("task", "list", "--json").document
    assert isinstance(running, list)
    assert racimo("task", "cancel", running[0]["upid"]).code == 0
    assert waiting.end().code == 130


def test_ctrl_c_leaves_the_task_running_and_tells_its_upid(node: RunningNode, racimo_process: type[Process]) -> None:
    waiting = racimo_process("guest", "start", "200", "--json")
    node.wait_until_starting()
    waiting.ctrl_c()
    said = waiting.end()
    assert said.code == 130
    document = json.loads(said.out)
    assert (document["status"], document["detached"]) == ("running", True)
    assert document["upid"] in said.err
    node.open_gate()


def test_a_second_ctrl_c_cancels_the_task(node: RunningNode, racimo_process: type[Process], racimo: Racimo) -> None:
    waiting = racimo_process("guest", "start", "200")
    node.wait_until_starting()
    waiting.ctrl_c()
    waiting.read_error_until("Ctrl-C again cancels it")
    waiting.ctrl_c()
    said = waiting.end()
    assert (said.code, said.err.splitlines()[-3]) == (130, "Error: Cancelled")
    assert 200 not in node.world.running


def test_a_task_that_ends_after_the_first_ctrl_c_is_told_as_ever(
    node: RunningNode, racimo_process: type[Process]
) -> None:
    waiting = racimo_process("guest", "start", "200")
    node.wait_until_starting()
    waiting.ctrl_c()
    waiting.read_error_until("Ctrl-C again cancels it")
    node.open_gate()
    said = waiting.end()
    assert (said.code, said.out.splitlines()[0]) == (0, "Guest 200 runs on n1.")
