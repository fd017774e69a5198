from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cli_node import RunningNode
    from conftest import Process, Racimo


def test_the_guest_list_is_a_table_for_people(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "list")
    assert said.code == 0
    assert said.out.splitlines()[0].split() == ["VMID", "Name", "State", "Node", "HA", "CPUs", "Memory"]
    assert said.out.splitlines()[2].split()[:4] == ["100", "web", "stopped", "n1"]


def test_the_guest_list_is_one_json_document_for_scripts(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "list", "--json")
    assert [guest["vmid"] for guest in json.loads(said.out)] == [100, 200, 300]


def test_an_empty_list_says_what_to_do_first(node: RunningNode, racimo: Racimo) -> None:
    node.world.guests.clear()
    assert "racimo guest create 100" in racimo("guest", "list").out


def test_a_guest_is_created_with_own_options_and_any_other_key(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "create", "101", "--name", "mail", "--scsi0", "local:8", "--set", "onboot=1")
    assert (said.code, node.world.guests[101]) == (0, {"name": "mail", "scsi0": "local:8"})
    assert "Next: racimo guest start 101" in said.out


def test_a_guest_can_take_the_next_free_number(node: RunningNode, racimo: Racimo) -> None:
    assert racimo("guest", "create", "next").code == 0
    assert 301 in node.world.guests


def test_a_taken_number_is_refused_with_code_4(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "create", "100")
    assert said.code == 4
    assert said.err.splitlines() == [
        "Error: unable to create VM 100: it already exists",
        "Do:    Take another number",
    ]


def test_an_unknown_key_is_a_usage_error_that_names_it(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "create", "101", "--set", "colour=red")
    assert (said.code, "colour" in said.err) == (2, True)


def test_a_key_given_twice_is_refused_before_anything_is_sent(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "create", "101", "--memory", "512", "--set", "memory=1024")
    assert (said.code, 101 in node.world.guests) == (2, False)


def test_a_guest_that_does_not_exist_is_code_3(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "start", "999", "--json")
    assert said.code == 3
    error = json.loads(said.out)["error"]
    assert (error["kind"], error["exit_code"], error["todo"]) == ("NotFound", 3, "racimo guest list")


def test_a_node_standing_alone_is_told_how_to_create_a_datacenter(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("cluster", "join-info")
    assert (said.code, "racimo cluster create" in said.err) == (4, True)


def test_a_change_without_quorum_is_code_5(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("cluster", "options", "--set", "ha_profile=fast")
    assert said.code in (2, 5)


def test_no_daemon_is_code_5_and_says_how_to_look_after_it(tmp_path: Path, racimo: Racimo) -> None:
    said = racimo("--socket", str(tmp_path / "none.sock"), "guest", "list")
    assert (said.code, "systemctl status racimo-node" in said.err) == (5, True)


def test_the_socket_option_goes_before_the_environment(node: RunningNode, racimo: Racimo, tmp_path: Path) -> None:
    assert racimo("--socket", str(node.socket), "node", "list").code == 0
    assert racimo("--socket", str(tmp_path / "none.sock"), "node", "list").code == 5


def test_a_configuration_is_changed_and_keys_are_deleted(node: RunningNode, racimo: Racimo) -> None:
    assert racimo("guest", "set", "100", "memory=1024", "--delete", "name").code == 0
    assert racimo("guest", "config", "100", "--json").document == {"memory": "1024"}


def test_nothing_to_change_is_a_usage_error(node: RunningNode, racimo: Racimo) -> None:
    assert racimo("guest", "set", "100").code == 2


def test_a_value_without_a_key_is_a_usage_error(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "set", "100", "memory")
    assert (said.code, "key=value" in said.err) == (2, True)


def test_the_status_screen_names_what_is_wrong_and_why(node: RunningNode, racimo: Racimo) -> None:
    racimo("guest", "start", "300")
    said = racimo("status")
    assert "1 of 2 online" in said.out
    assert "n2's lease ran out" in said.out
    assert "Guest 300 cannot start" in said.out


def test_the_status_document_has_the_same(node: RunningNode, racimo: Racimo) -> None:
    document = racimo("status", "--json").document
    assert isinstance(document, dict)
    assert document["quorate"] is True
    assert [entry["sid"] for entry in document["not_as_wanted"]] == ["vm:200"]
    assert document["guests"] == {"total": 3, "running": 0}


def test_any_path_of_the_api_can_be_called(node: RunningNode, racimo: Racimo) -> None:
    document = racimo("api", "GET", "/api2/json/version").document
    assert isinstance(document, dict)
    assert document["version"] == "9.1"


def test_an_unknown_path_of_the_api_fails(node: RunningNode, racimo: Racimo) -> None:
    assert racimo("api", "get", "/nothing").code == 1


def test_the_serial_console_is_printed_as_it_came(node: RunningNode, racimo: Racimo) -> None:
    node.world.serial = "[    0.0] booting\nlogin: \n"
    assert racimo("guest", "serial", "100").out == "[    0.0] booting\nlogin: \n"
    assert json.loads(racimo("guest", "serial", "100", "--json", "--lines", "1").out) == {
        "vmid": 100,
        "line": "login: ",
    }


def test_following_the_serial_console_shows_each_line_once(node: RunningNode, racimo_process: type[Process]) -> None:
    node.world.serial = "booting\nnetw"
    following = racimo_process("guest", "serial", "100", "--follow", "--json")
    assert node.world.tails.acquire(timeout=20)
    node.world.serial = "booting\nnetwork is up\nlogin:"
    for _ in range(2):
        assert node.world.tails.acquire(timeout=20)
    following.ctrl_c()
    said = following.end()
    assert said.code == 130
    assert [json.loads(line)["line"] for line in said.out.splitlines()] == ["booting", "network is up"]


def test_a_storage_without_a_type_says_what_is_used_as(racimo: Racimo) -> None:
    said = racimo("storage", "add")
    assert said.code == 2
    assert said.err.splitlines()[2] == "Do:    racimo storage add --help"


def test_the_console_needs_a_terminal(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("guest", "console", "100")
    assert (said.code, "racimo guest serial 100 --follow" in said.err) == (4, True)


def test_recovering_needs_a_yes(node: RunningNode, racimo: Racimo) -> None:
    said = racimo("cluster", "recover")
    assert (said.code, "--yes" in said.err) == (2, True)
