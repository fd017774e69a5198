from __future__ import annotations

import io
import time
from typing import TYPE_CHECKING

import pyotp
import pytest

if TYPE_CHECKING:
    from cli_node import RunningNode
    from conftest import Racimo

pytestmark = pytest.mark.usefixtures("node")
SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def typed(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Standard input with a password on it."""
    monkeypatch.setattr("sys.stdin", io.StringIO("correct horse battery\n"))
    return monkeypatch


def test_a_user_is_added_with_a_password_from_standard_input(racimo: Racimo, typed: pytest.MonkeyPatch) -> None:
    racimo("access", "group", "add", "staff")
    assert racimo("access", "user", "add", "anna@pve", "--groups", "staff", "--email", "a@x.org").code == 0
    listed = racimo("access", "user", "list", "--json").document
    assert {"userid": "anna@pve", "realm-type": "pve", "enable": 1, "expire": 0, "email": "a@x.org",
            "groups": "staff", "tokens": []} in listed  # fmt: skip
    assert racimo("access", "user", "set", "anna@pve", "--disable").code == 0
    assert "disabled" in racimo("access", "user", "list").out
    typed.setattr("sys.stdin", io.StringIO("short\n"))
    said = racimo("access", "user", "password", "anna@pve")
    assert (said.code, "takes 8 to 64" in said.err) == (2, True)
    assert racimo("access", "user", "remove", "anna@pve").code == 0
    assert "no such user" in racimo("access", "user", "show", "anna@pve").err


def test_no_command_takes_a_password_as_an_argument(racimo: Racimo) -> None:
    assert "No such option" in racimo("access", "user", "add", "anna@pve", "--password", "x").err


def test_roles_are_given_and_shown_and_taken_away(racimo: Racimo, typed: pytest.MonkeyPatch) -> None:
    racimo("access", "user", "add", "anna@pve")
    assert racimo("access", "role", "add", "Look", "VM.Audit").code == 0
    assert racimo("access", "role", "set", "Look", "VM.Console", "--append").code == 0
    assert racimo("access", "acl", "add", "/vms/100", "--user", "anna@pve", "--role", "Look").code == 0
    assert racimo("access", "acl", "list", "--json").document == [
        {"path": "/vms/100", "type": "user", "ugid": "anna@pve", "roleid": "Look", "propagate": 1}
    ]
    assert "VM.Audit, VM.Console" in racimo("access", "user", "show", "anna@pve").out
    assert "does not exist" in racimo("access", "acl", "add", "/", "--user", "anna@pve", "--role", "Nope").err
    assert racimo("access", "acl", "remove", "/vms/100", "--user", "anna@pve", "--role", "Look").code == 0
    assert "Nobody but root@pam" in racimo("access", "acl", "list").out
    assert racimo("access", "role", "remove", "Look").code == 0
    assert "start, stop, pause" in racimo("access", "role", "privileges").out
    assert "Administrator" in racimo("access", "role", "list").out


def test_a_token_s_secret_is_shown_once(racimo: Racimo, typed: pytest.MonkeyPatch) -> None:
    racimo("access", "user", "add", "anna@pve")
    made = racimo("access", "token", "add", "anna@pve", "ci", "--no-privsep", "--json").document
    assert (made["full-tokenid"], made["info"]["privsep"], len(made["value"])) == ("anna@pve!ci", 0, 36)
    listed = racimo("access", "token", "list", "anna@pve", "--json")
    assert made["value"] not in listed.out
    assert listed.document == [{"tokenid": "ci", "privsep": 0, "expire": 0}]
    again = racimo("access", "token", "set", "anna@pve", "ci", "--regenerate", "--json").document
    assert again["value"] != made["value"]
    assert racimo("access", "token", "remove", "anna@pve", "ci").code == 0


def test_second_factors_are_added_listed_and_removed(racimo: Racimo, typed: pytest.MonkeyPatch) -> None:
    racimo("access", "user", "add", "anna@pve")
    uri = f"otpauth://totp/Racimo:anna?secret={SECRET}"
    typed.setattr("sys.stdin", io.StringIO(f"{uri}\n{pyotp.TOTP(SECRET).at(int(time.time()))}\n"))
    assert racimo("access", "tfa", "add-totp", "anna@pve", "--description", "phone").code == 0
    keys = racimo("access", "tfa", "add-recovery", "anna@pve", "--json").document["recovery"]
    listed = racimo("access", "tfa", "list", "--json")
    assert SECRET not in listed.out and keys[0] not in listed.out
    assert {(entry["type"], entry["description"]) for entry in listed.document} == {("totp", "phone"), ("recovery", "")}
    assert racimo("access", "tfa", "remove", "anna@pve", "recovery").code == 0
    assert "no such TFA entry" in racimo("access", "tfa", "remove", "anna@pve", "recovery").err


def test_pools_are_filled_and_emptied(racimo: Racimo, node: RunningNode) -> None:
    assert "There is no pool" in racimo("pool", "list").out
    assert racimo("pool", "add", "lab", "--comment", "x").code == 0
    assert racimo("pool", "list", "--json").document == [{"poolid": "lab", "comment": "x"}]
    assert "lab is empty" in racimo("pool", "show", "lab").out
    assert "VM 100 does not exist" in racimo("pool", "set", "lab", "--vms", "100").err
    assert racimo("pool", "set", "lab").code == 2
    assert racimo("pool", "remove", "lab").code == 0


def test_a_realm_becomes_the_default(racimo: Racimo) -> None:
    assert racimo("access", "realm", "set", "pve", "--default").code == 0
    realms = {realm["realm"]: realm.get("default", 0) for realm in racimo("access", "realm", "list", "--json").document}
    assert realms == {"pam": 0, "pve": 1}
