from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Racimo

pytestmark = pytest.mark.usefixtures("node")


def rules(racimo: Racimo) -> list[dict[str, object]]:
    document = racimo("ha", "rule", "list", "--json").document
    assert isinstance(document, list)
    return [{key: value for key, value in rule.items() if key not in ("digest", "order")} for rule in document]


def test_rules_are_added_listed_changed_and_removed(racimo: Racimo) -> None:
    assert "There is no rule" in racimo("ha", "rule", "list").out
    assert racimo("ha", "rule", "add", "web", "--resources", "200,vm:100", "--affinity", "negative").code == 0
    said = racimo("ha", "rule", "add", "big", "--resources", "300", "--nodes", "n2,n1:5", "--strict", "--comment", "x")
    assert said.out.startswith("Rule big is added.")
    assert rules(racimo) == [
        {
            "rule": "big",
            "type": "node-affinity",
            "resources": "vm:300",
            "nodes": "n1:5,n2",
            "strict": 1,
            "comment": "x",
        },
        {"rule": "web", "type": "resource-affinity", "resources": "vm:100,vm:200", "affinity": "negative"},
    ]
    assert racimo("ha", "rule", "set", "big", "--no-strict", "--disable", "--comment", "").code == 0
    assert racimo("ha", "rule", "remove", "web").code == 0
    assert rules(racimo) == [
        {"rule": "big", "type": "node-affinity", "resources": "vm:300", "nodes": "n1:5,n2", "strict": 0, "disable": 1}
    ]
    assert "switched off" in racimo("ha", "rule", "list").out


def test_a_rule_that_contradicts_another_is_refused_with_the_reason(racimo: Racimo) -> None:
    racimo("ha", "rule", "add", "web", "--resources", "100,200", "--affinity", "negative")
    words = ("ha", "rule", "add", "pair", "--resources", "100,200", "--affinity", "positive")
    said = racimo(*words)
    assert said.code == 2
    assert "rule 'pair' cannot be kept: it keeps vm:100 and vm:200 together, and web keeps them apart" in said.err
    assert racimo(*words, "--disable").code == 0
    assert racimo("ha", "rule", "set", "pair", "--enable").code == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--resources", "100,999", "--affinity", "negative"), "not under HA: vm:999"),
        (("--resources", "100", "--nodes", "n1,n9"), "there is no node n9 that runs guests"),
        (("--resources", "100", "--nodes", "n1:x"), "'n1:x' is not like n1 or n1:2"),
        (("--resources", "ct:1", "--nodes", "n1"), "'ct:1' is not like vm:100"),
        (("--resources", "100,200", "--affinity", "sideways"), "affinity"),
        (("--resources", "100,200"), "either --nodes or --affinity"),
        (("--resources", "100,200", "--affinity", "positive", "--strict"), "strict: is for node-affinity only"),
        (("--resources", "100", "--affinity", "positive"), "it names fewer than two resources"),
    ],
)
def test_what_cannot_be_a_rule_is_refused_with_the_reason(racimo: Racimo, words: tuple[str, ...], why: str) -> None:
    said = racimo("ha", "rule", "add", "web", *words)
    assert said.code == 2 and why in said.err
    assert not rules(racimo)


def test_what_is_not_there_and_what_is_there_already(racimo: Racimo) -> None:
    assert "no such ha rule 'web'" in racimo("ha", "rule", "set", "web", "--disable").err
    assert racimo("ha", "rule", "remove", "web").code == 3
    words = ("ha", "rule", "add", "web", "--resources", "100,200", "--affinity", "negative")
    racimo(*words)
    assert "already exists" in racimo(*words).err


def test_nothing_to_change_is_told(racimo: Racimo) -> None:
    assert "nothing to change was given" in racimo("ha", "rule", "set", "web").err


def test_a_change_of_type_and_a_stale_digest_are_refused(racimo: Racimo) -> None:
    racimo("ha", "rule", "add", "web", "--resources", "100,200", "--affinity", "negative")
    path = "/cluster/ha/rules/web"
    assert "that cannot change" in racimo("api", "put", path, "type=node-affinity").err
    assert "detected modified configuration" in racimo("api", "put", path, "disable=1", "digest=0").err
    found = racimo("api", "get", "/cluster/ha/rules", "resource=vm:100", "--json").document
    assert isinstance(found, list)
    assert racimo("api", "put", path, "disable=1", f"digest={found[0]['digest']}").code == 0
    assert racimo("api", "put", path, "delete=disable").code == 0
    assert "disable" not in rules(racimo)[0]
    assert racimo("api", "get", "/cluster/ha/rules", "type=node-affinity", "--json").document == []
