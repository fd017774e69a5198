from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo.access.names import check_path, check_pool, check_token, check_user, check_word, parse_asker
from racimo.access.privileges import BUILT_IN, PRIVILEGES
from racimo.errors import BadParameter


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("/", "/"),
        ("//vms//100/", "/vms/100"),
        ("/access/groups/staff", "/access/groups/staff"),
        ("/pool/a/b", "/pool/a/b"),
    ],
)
def test_a_path_is_kept_in_one_way(written: str, kept: str) -> None:
    assert check_path(written) == kept


@pytest.mark.parametrize(
    "path", ["", "vms", "/vms/../nodes", "/vms/.", "/vms/a b", "/etc/passwd", "/vms/\n", "/vms" * 9]
)
def test_a_path_that_cannot_be_is_refused(path: str) -> None:
    with pytest.raises(BadParameter):
        check_path(path)


@given(st.text(max_size=40))
def test_a_path_that_is_taken_stays_as_it_is_kept(path: str) -> None:
    try:
        kept = check_path(path)
    except BadParameter:
        return
    assert check_path(kept) == kept


@pytest.mark.parametrize("name", ["anna@pve", "a.b-c_d@pam", "jörg@pve", "root@pam"])
def test_a_user_is_a_name_and_a_realm(name: str) -> None:
    assert check_user(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "anna",
        "@pve",
        "anna@",
        "an na@pve",
        "anna@pve!ci",
        "a:b@pve",
        "a/b@pve",
        "anna@1",
        "x" * 62 + "@pve",
        "a\x00@pve",
    ],
)
def test_what_is_no_user_is_refused(name: str) -> None:
    with pytest.raises(BadParameter):
        check_user(name)


@pytest.mark.parametrize("name", ["", "a b", "../x", "a/b", "!", "ä"])
def test_what_is_no_group_role_or_token_is_refused(name: str) -> None:
    with pytest.raises(BadParameter):
        check_word(name, "groupid")
    with pytest.raises(BadParameter):
        check_token(name)


def test_pools_nest_three_deep_at_most() -> None:
    assert check_pool("a/b/c") == "a/b/c"
    with pytest.raises(BadParameter):
        check_pool("a/b/c/d")


def test_a_token_is_named_with_its_user() -> None:
    assert parse_asker("anna@pve!ci") == ("anna@pve", "ci")
    assert str(parse_asker("anna@pve")) == "anna@pve"


def test_built_in_roles_hold_known_privileges_alone() -> None:
    assert set().union(*BUILT_IN.values()) <= set(PRIVILEGES)
