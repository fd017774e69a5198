from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rulebook import apart, home, together

from racimo.placement.fleet import Demand, Fleet, Machine, Scoring
from racimo.placement.rebalance import Goal, Method, imbalance, rebalance, rounds_above
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from racimo.model.rule import Rule

GIB = 1 << 30
NODE = Machine(cpus=24, memory=128 * GIB)
ALL = Goal(threshold=0, margin=0, moves=100)


def fleet(places: dict[str, str], *rules: Rule, machines: dict[str, Machine] | None = None) -> Fleet:
    machines = machines or dict.fromkeys(("n1", "n2", "n3"), NODE)
    demands = {sid: Demand(cpus=4, memory=16 * GIB) for sid in places}
    return Fleet(
        machines,
        demands,
        {sid: (node,) for sid, node in places.items()},
        compile_rules(rules, machines),
        Scoring.STATIC,
    )


def test_imbalance_is_the_deviation_over_the_mean() -> None:
    # (4/24 + 16/128) / 2 per guest: two on n1, none on n2 and n3; deviation over mean of (2, 0, 0) is the root of 2
    assert imbalance(fleet({"a": "n1", "b": "n1"})) == pytest.approx(2**0.5)
    assert imbalance(fleet({"a": "n1", "b": "n2", "c": "n3"})) == pytest.approx(0)
    assert imbalance(fleet({})) == 0


def test_the_best_move_is_made_and_explained() -> None:
    plan = rebalance(fleet({"a": "n1", "b": "n1", "c": "n2"}), {"a", "b", "c"}, Goal())
    assert [(move.sid, move.source, move.target) for move in plan.moves] == [("a", "n1", "n3")]
    assert (plan.before, plan.after) == (pytest.approx(0.816, abs=0.001), 0)
    assert plan.moves[0].why == "it takes load from n1 to n3: the imbalance goes from 0.816 to 0.000"
    assert plan.why == "1 moves take the imbalance from 0.82 to 0.00"


def test_below_the_threshold_nothing_is_moved() -> None:
    plan = rebalance(fleet({"a": "n1", "b": "n1", "c": "n2"}), {"a", "b", "c"}, Goal(threshold=0.9))
    assert not plan.moves and plan.why == "the imbalance of 0.82 is not above 0.9"


def test_a_move_that_takes_too_little_away_is_not_made() -> None:
    machines = dict.fromkeys((f"n{number}" for number in range(1, 20)), NODE)
    start = fleet(dict.fromkeys("abcdefgh", "n1"), machines=machines)
    plan = rebalance(start, set("abcdefgh"), Goal(margin=0.2))
    assert not plan.moves and "less than 20% of it" in plan.why
    assert rebalance(start, set("abcdefgh"), Goal(margin=0.2, moves=3)).moves


def test_no_more_guests_are_moved_than_allowed() -> None:
    start = fleet(dict.fromkeys("abcdef", "n1"), together("t", "a b"))
    plan = rebalance(start, set("abcdef"), Goal(threshold=0, moves=3))
    assert len(plan.moves) == 3
    assert plan.after < plan.before


def test_what_is_together_moves_together_or_not_at_all() -> None:
    start = fleet(dict.fromkeys("abcd", "n1"), together("t", "a b"), together("u", "c d"))
    plan = rebalance(start, set("abcd"), ALL)
    assert [(move.sid, move.target) for move in plan.moves] == [("a", "n2"), ("b", "n2")]
    assert plan.moves[0].why.startswith("with b, kept together with it, it takes load")
    assert not rebalance(start, {"a", "c"}, ALL).moves
    assert not rebalance(start, set("abcd"), Goal(threshold=0, moves=1)).moves


def test_a_step_may_be_a_group() -> None:
    start = fleet(dict.fromkeys("abcd", "n1"), together("t", "a b"))
    plan = rebalance(start, set("abcd"), Goal(threshold=0, moves=10, steps=1))
    assert [(move.sid, move.target) for move in plan.moves] == [("a", "n2"), ("b", "n2")]


def test_rules_storages_and_memory_say_where_not() -> None:
    start = fleet(
        {"a": "n1", "b": "n1", "c": "n2", "d": "n1"}, apart("s", "a c"), home("h", "b", "n1 n2", strict=True),
        machines={"n1": NODE, "n2": NODE, "n3": Machine(cpus=24, memory=8 * GIB)},
    )  # fmt: skip
    plan = rebalance(start, set("abcd"), ALL, allowed={"d": {"n1"}})
    assert [(move.sid, move.target) for move in plan.moves] == [("b", "n2")]


def test_a_guest_is_not_moved_to_where_it_is_liked_less() -> None:
    start = fleet({"a": "n1", "b": "n1"}, home("h", "a b", {"n1": 2, "n2": 1}))
    assert not rebalance(start, {"a", "b"}, ALL).moves


def test_a_guest_on_the_move_stays_out_of_it() -> None:
    start = fleet({"a": "n1", "b": "n1"})
    start.place("a", "n2")
    start.place("b", "n2")
    assert not rebalance(start, {"a", "b"}, ALL).moves


def test_the_fleet_itself_stays_as_it_is() -> None:
    start = fleet(dict.fromkeys("abcdef", "n1"))
    assert rebalance(start, set("abcdef"), ALL).after == pytest.approx(0)
    assert start.guests == [6, 0, 0]


@pytest.mark.parametrize("method", list(Method))
def test_both_methods_level_a_skewed_datacenter(method: Method) -> None:
    start = fleet(dict.fromkeys("abcdef", "n1"))
    plan = rebalance(start, set("abcdef"), Goal(threshold=0, margin=0, moves=9, method=method))
    assert len(plan.moves) == 4 and plan.after == pytest.approx(0)


def test_nodes_of_unknown_size_are_left_out() -> None:
    start = fleet({"a": "n1", "b": "n1"}, machines={"n1": NODE, "n2": Machine(), "n3": NODE})
    assert [(move.sid, move.target) for move in rebalance(start, {"a", "b"}, ALL).moves] == [("a", "n3")]
    assert imbalance(fleet({"a": "n1"}, machines={"n1": Machine()})) == 0


def test_the_imbalance_has_to_last() -> None:
    goal = Goal()
    assert rounds_above(1, 0.31, goal) == 2
    assert rounds_above(2, 0.3, goal) == 0
