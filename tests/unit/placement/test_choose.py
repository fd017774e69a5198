from __future__ import annotations

from racimo.placement.choose import choose


def test_the_emptiest_node_is_chosen() -> None:
    choice = choose(["n1", "n2"], {"n1": 2, "n2": 1})
    assert choice is not None
    assert (choice.node, choice.why) == ("n2", "n2 has the fewest guests of n1, n2")


def test_of_equals_the_first_by_name_is_chosen() -> None:
    choice = choose({"n3", "n2"}, {"n1": 0})
    assert choice is not None and choice.node == "n2"


def test_without_candidates_there_is_no_choice() -> None:
    assert choose([], {"n1": 0}) is None
