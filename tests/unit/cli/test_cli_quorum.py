from __future__ import annotations

import pytest

from racimo.cli.answer import Row
from racimo.cli.commands.cluster import next_failure


def whole(present: int, needed: int, *, quorate: int = 1) -> Row:
    return Row({"type": "cluster", "quorate": quorate, "votes_present": present, "votes_needed": needed})


def voter(name: str, *, reachable: int = 1) -> Row:
    return Row({"name": name, "voter": 1, "reachable": reachable})


def test_two_of_three_votes_name_the_voter_to_bring_back() -> None:
    said = next_failure(whole(2, 2), [voter("n1"), voter("n2"), voter("n3", reachable=0)])
    assert said.endswith("bring back n3")


def test_a_lone_voter_is_told_of_the_witness() -> None:
    assert "join-info --witness" in next_failure(whole(1, 1), [voter("n1")])


@pytest.mark.parametrize("cluster", [whole(3, 2), whole(1, 2, quorate=0), Row({})], ids=["safe", "lost", "alone"])
def test_there_is_no_warning_where_none_helps(cluster: Row) -> None:
    assert next_failure(cluster, [voter("n1")]) == ""
