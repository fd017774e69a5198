from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rulebook import apart, home, together

from racimo.placement.fleet import Demand, Fleet, Machine, Scoring
from racimo.placement.pick import Nowhere, Options, Picked, pick
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from racimo.model.rule import Rule

GIB = 1 << 30
NODES = ("n1", "n2", "n3")
SMALL = Demand(cpus=2, memory=4 * GIB)


def fleet(
    places: Mapping[str, str],
    rules: Iterable[Rule] = (),
    scoring: Scoring = Scoring.BASIC,
    machines: Mapping[str, Machine] | None = None,
    demands: Mapping[str, Demand] | None = None,
) -> Fleet:
    machines = machines or {node: Machine(cpus=24, memory=128 * GIB) for node in NODES}
    demands = demands or dict.fromkeys([*places, *"abcde"], SMALL)
    where = {sid: nodes.split() for sid, nodes in places.items()}
    return Fleet(machines, demands, where, compile_rules(rules, NODES), scoring)


def picked(fleet: Fleet, sid: str) -> Picked:
    choice = pick(fleet, sid)
    assert isinstance(choice, Picked)
    return choice


def test_basic_takes_the_emptiest_then_the_first_by_name() -> None:
    choice = picked(fleet({"x": "n1", "y": "n1", "z": "n3"}), "a")
    assert (choice.node, choice.why) == ("n2", "n2 has the fewest guests of n1, n2, n3")
    assert picked(fleet({}), "a").why == "n1 is the first of the emptiest of n1, n2, n3"


def test_what_is_placed_counts_for_the_next() -> None:
    turn = fleet({})
    for sid, node in zip("abc", NODES, strict=True):
        assert picked(turn, sid).node == node
        turn.place(sid, node)


def test_static_looks_at_what_is_configured() -> None:
    demands = {"big": Demand(cpus=8, memory=64 * GIB), "x": SMALL, "y": SMALL, "a": SMALL}
    choice = picked(fleet({"big": "n1", "x": "n2", "y": "n2"}, scoring=Scoring.STATIC, demands=demands), "a")
    assert choice.node == "n3"
    demands |= {"z": Demand(cpus=4, memory=10 * GIB)}
    turn = fleet({"big": "n1", "x": "n2", "y": "n2", "z": "n3"}, scoring=Scoring.STATIC, demands=demands)
    choice = picked(turn, "a")
    assert choice.node == "n2" and choice.why == "n2 scores best of n1, n2, n3 (n2 1.0000, n3 0.9916, n1 0.0000)"


def test_dynamic_looks_at_what_is_measured() -> None:
    machines = {
        "n1": Machine(cpus=24, memory=128 * GIB, cpu_load=2.0, memory_load=90 * GIB),
        "n2": Machine(cpus=24, memory=128 * GIB, cpu_load=2.0, memory_load=20 * GIB),
    }
    places = {"x": "n2", "y": "n2", "z": "n2"}
    assert picked(fleet(places, scoring=Scoring.DYNAMIC, machines=machines), "a").node == "n2"
    assert picked(fleet(places, scoring=Scoring.STATIC, machines=machines), "a").node == "n1"


def test_the_highest_priority_that_is_there_wins_over_the_load() -> None:
    turn = fleet({"x": "n2", "y": "n2"}, [home("h", "a", {"n2": 2, "n3": 1})])
    assert picked(turn, "a") == Picked("n2", "n2 is the one that rule h prefers")
    gone = fleet({}, [home("h", "a", "n9")])
    assert picked(gone, "a").node == "n1"


def test_nowhere_is_explained_for_each_node() -> None:
    turn = fleet({"x": "n1"}, [home("h", "a", "n1 n2", strict=True), apart("s", "a x")])
    choice = pick(turn, "a", barred={"n2": "failed to start it"})
    assert isinstance(choice, Nowhere)
    assert choice.why == (
        "no node can have it: n1 has x, which rule s keeps apart from it; n2 failed to start it; "
        "n3 is not a node of the strict rule h"
    )
    assert pick(fleet({}, machines={"n1": Machine()}), "a", allowed=()) == Nowhere({"n1": "lacks a storage of its"})


def test_a_guest_follows_most_of_its_group() -> None:
    turn = fleet({"b": "n2", "c": "n3", "d": "n3"}, [together("t", "a b c d")])
    assert picked(turn, "a") == Picked("n3", "rule t keeps it with the others on n3")
    assert Options(turn, "a").refused()["n2"] == "is not where rule t keeps it, with the others on n3, n2"


@pytest.mark.parametrize("strict", [True, False])
def test_a_group_on_a_node_that_its_home_likes_less_does_not_hold_a_guest_back(strict: bool) -> None:
    turn = fleet({"a": "n1", "b": "n1", "c": "n1"}, [together("t", "a b c"), home("h", "b", "n3", strict=strict)])
    assert set(Options(turn, "a").preferred) == {"n3"}
    turn.place("a", "n3")
    assert set(Options(turn, "b").preferred) == {"n3"}


def test_a_guest_does_not_go_where_its_group_cannot_follow() -> None:
    machines = {"n1": Machine(memory=64 * GIB), "n2": Machine(memory=64 * GIB), "n3": Machine(memory=6 * GIB)}
    turn = fleet({"a": "n1", "b": "n1"}, [together("t", "a b"), home("h", "b", "n3")], machines=machines)
    assert set(Options(turn, "a").nodes) == {"n1"}


def only_on(where: Mapping[str, str]) -> Callable[[str], set[str] | None]:
    """What the storages of each guest allow: ``where`` such as {"b": "n1 n2"}; the others can be anywhere."""
    return lambda sid: set(where[sid].split()) if sid in where else None


def test_a_guest_does_not_lead_its_group_to_where_another_lacks_a_storage() -> None:
    turn = fleet({"a": "n1", "b": "n1"}, [together("t", "a b"), home("h", "a", "n3")])
    assert set(Options(turn, "a", others=only_on({"b": "n1 n2"})).nodes) == {"n1"}
    assert set(Options(turn, "a", others=only_on({"b": "n1 n3"})).preferred) == {"n3"}


def test_the_first_of_a_group_goes_where_the_others_have_what_they_need() -> None:
    turn = fleet({"x": "n3"}, [together("t", "a b c")])
    choice = pick(turn, "a", others=only_on({"b": "n2 n3", "c": "n1 n3"}))
    assert isinstance(choice, Picked) and choice.node == "n3"
    assert pick(turn, "a", others=only_on({"b": "n2", "c": "n1"})) == pick(turn, "a")


def test_a_guest_whose_group_comes_along_may_go_where_it_is_not() -> None:
    turn = fleet({"a": "n1", "b": "n1"}, [together("t", "a b")])
    assert set(Options(turn, "a").nodes) == {"n1"}
    assert set(Options(turn, "a", led=True).nodes) == {"n1", "n2", "n3"}


def test_the_first_of_a_group_goes_where_all_fit() -> None:
    machines = {"n1": Machine(memory=10 * GIB), "n2": Machine(memory=16 * GIB)}
    turn = fleet({"x": "n2"}, [together("t", "a b c")], machines=machines)
    assert picked(turn, "a").node == "n2"


def test_a_guest_on_the_move_keeps_others_away_from_both_nodes() -> None:
    assert set(Options(fleet({"x": "n1 n2"}, [apart("s", "a x")]), "a").nodes) == {"n3"}


def test_memory_that_is_not_there_is_not_given() -> None:
    machines = {"n1": Machine(memory=4 * GIB, other_memory=1 * GIB), "n2": Machine(memory=4 * GIB, cpus=1)}
    options = Options(fleet({}, machines=machines), "a")
    assert options.refused() == {
        "n1": "has 3.0 GiB of memory left, and it needs 4.0 GiB",
        "n2": "has 1 CPUs, and it needs 2",
    }


def test_a_guest_may_stay_on_a_node_that_is_full() -> None:
    machines = {"n1": Machine(memory=4 * GIB), "n2": Machine(memory=8 * GIB)}
    assert Options(fleet({"a": "n1"}, machines=machines), "a").nodes == {"n1": 0, "n2": 0}


def test_a_guest_that_is_taken_away_leaves_its_room() -> None:
    turn = fleet({"b": "n1"}, machines={"n1": Machine(memory=4 * GIB)})
    assert not Options(turn, "a").nodes
    turn.remove("b", "n1")
    assert (turn.guests, turn.memory, turn.memory_use) == ([0], [0], [0.0])
    assert Options(turn, "a").nodes == {"n1": 0}


@pytest.mark.parametrize("scoring", list(Scoring))
def test_nodes_that_are_alike_are_taken_by_name(scoring: Scoring) -> None:
    assert picked(fleet({"x": "n1"}, scoring=scoring), "a").node == "n2"
