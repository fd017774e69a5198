from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from rulebook import apart, home, together

from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from racimo.model.rule import Rule

NODES = ("n1", "n2", "n3")


def left_out(*rules: Rule) -> dict[str, str]:
    return dict(compile_rules(rules, NODES).left_out)


def test_rules_that_agree_are_all_kept() -> None:
    assert not left_out(home("h", "a", "n1 n2"), together("t", "a b"), apart("s", "a c"))


def test_a_resource_in_two_node_rules_switches_both_off() -> None:
    found = left_out(home("h1", "a b", "n1"), home("h2", "a", "n2"), home("h3", "c", "n1"))
    assert found == {
        "h1": "a has another node affinity rule, h2",
        "h2": "a has another node affinity rule, h1",
    }


def test_more_resources_apart_than_nodes_cannot_be() -> None:
    assert left_out(apart("s", "a b c d")) == {"s": "it keeps 4 resources apart, and there are 3 nodes"}
    assert not left_out(apart("s", "a b c"))


def test_a_pair_both_together_and_apart_switches_both_off() -> None:
    found = left_out(together("t", "a b c"), apart("s", "b c"))
    assert found == {
        "t": "it keeps b and c together, and s keeps them apart",
        "s": "it keeps b and c apart, and t keeps them together",
    }


def test_together_through_a_third_and_apart_is_a_contradiction_too() -> None:
    assert set(left_out(together("t1", "a b"), together("t2", "b c"), apart("s", "a c"))) == {"t1", "t2", "s"}


def test_a_rule_for_one_resource_says_nothing() -> None:
    assert left_out(together("t", "a"), apart("s", "b b")) == dict.fromkeys("ts", "it names fewer than two resources")


def test_a_node_rule_that_leaves_too_few_nodes_is_left_out_with_what_it_contradicts() -> None:
    found = left_out(home("h", "a b", "n1"), apart("s", "a b"))
    assert found["s"] == "it keeps 2 resources apart to which h gives 1 nodes only"
    assert found["h"] == "s keeps 2 resources apart, which have 1 nodes only by it"


def test_strict_homes_that_cannot_be_given_one_each_are_found() -> None:
    rules = (home("h1", "a b", "n1", strict=True), home("h2", "c", "n2 n3", strict=True), apart("s", "a b c"))
    assert set(left_out(*rules)) == {"h1", "h2", "s"}


def test_the_home_of_a_group_counts_for_who_is_apart_from_it() -> None:
    rules = (home("h1", "x", "n1", strict=True), home("h2", "b", "n1", strict=True), together("t", "a x"))
    assert set(left_out(*rules, apart("s", "a b"))) == {"h1", "h2", "s"}


def test_several_priorities_do_not_go_with_resource_affinity() -> None:
    found = left_out(home("h", "a", {"n1": 2, "n2": 1}), together("t", "a b"))
    assert found["t"] == "its resources have nodes of several priorities by h"
    assert found["h"] == "resources of it are in t too, which allows nodes of one priority only"


def test_a_group_with_two_homes_is_a_contradiction() -> None:
    found = left_out(home("h1", "a", "n1"), home("h2", "b", "n2"), together("t", "a b"))
    assert set(found) == {"h1", "h2", "t"}


def test_a_rule_that_is_switched_off_neither_holds_nor_contradicts() -> None:
    off = replace(apart("s", "a b"), disable=True)
    rules = compile_rules([together("t", "a b"), off], NODES)
    assert not rules.left_out and not rules.apart and rules.together["a"] == ("a", "b")


def test_connected_together_rules_merge() -> None:
    rules = compile_rules([together("t1", "a b"), together("t2", "c d"), together("t3", "b c")], NODES)
    assert {rules.together[sid] for sid in "abcd"} == {("a", "b", "c", "d")}
    assert rules.joined_by["d"] == "t1, t2, t3"


def test_together_inherits_apart_and_the_home() -> None:
    rules = compile_rules([together("t", "a b"), apart("s", "a c"), home("h", "b", "n1", strict=True)], NODES)
    assert rules.apart == {"a": {"c": "s"}, "b": {"c": "s"}, "c": {"a": "s", "b": "s"}}
    assert rules.homes["a"] is rules.homes["b"] and "c" not in rules.homes


@pytest.mark.parametrize(("strict", "expected"), [(True, None), (False, -1)])
def test_other_nodes_than_home_are_the_last_resort_or_none(strict: bool, expected: int | None) -> None:
    rules = compile_rules([home("h", "a", {"n1": 2, "n2": 0}, strict=strict)], NODES)
    assert [rules.homes["a"].priority(node) for node in NODES] == [2, 0, expected]
