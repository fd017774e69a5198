"""``racimo ha maintenance|disarm|arm|rebalance`` against a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Racimo

pytestmark = pytest.mark.usefixtures("node")


def in_maintenance(racimo: Racimo) -> dict[object, object]:
    document = racimo("ha", "maintenance", "--json").document
    assert isinstance(document, list)
    return {line["node"]: line["maintenance"] for line in document}


def test_a_node_goes_into_maintenance_and_out_of_it(racimo: Racimo) -> None:
    assert in_maintenance(racimo) == {"n1": 0, "n2": 0}
    said = racimo("ha", "maintenance", "n1", "on", "--comment", "new memory")
    assert said.code == 0 and "its HA guests leave it" in said.out
    assert in_maintenance(racimo) == {"n1": 1, "n2": 0}
    assert "new memory" in racimo("ha", "maintenance").out
    assert "come back" in racimo("ha", "maintenance", "n1", "off").out
    assert in_maintenance(racimo) == {"n1": 0, "n2": 0}


@pytest.mark.parametrize(
    ("words", "why"),
    [(("n1",), "on|off"), (("n1", "soon"), "'soon' is neither"), (("n9", "on"), "Node 'n9' does not exist")],
)
def test_maintenance_that_cannot_be_is_refused_with_the_reason(
    racimo: Racimo, words: tuple[str, ...], why: str
) -> None:
    said = racimo("ha", "maintenance", *words)
    assert said.code != 0 and why in said.err


def test_ha_is_disarmed_and_armed_again(racimo: Racimo) -> None:
    assert "HA is being disarmed (ignore)" in racimo("ha", "disarm", "ignore").out
    assert racimo("ha", "disarm", "sometimes").code == 2
    assert racimo("ha", "arm").out.startswith("HA is armed.")


def test_a_dry_run_says_why_nothing_is_to_be_moved(racimo: Racimo) -> None:
    said = racimo("ha", "rebalance", "--dry-run")
    assert said.code == 0 and "the imbalance of 0.00 is not above 0.3" in said.out
    assert racimo("ha", "rebalance", "--json").document == {
        "moves": [], "before": 0.0, "after": 0.0, "why": "the imbalance of 0.00 is not above 0.3",
    }  # fmt: skip
