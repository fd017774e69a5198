"""Two nodes and a witness: either node may die."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ha_lab import HaLab

pytestmark = [pytest.mark.lab, pytest.mark.root]


async def test_with_a_witness_either_of_two_nodes_may_die(two: HaLab, figures: list[str]) -> None:
    died = []
    for _ in range(2):
        await two.at_rest()
        node = two.owner()
        figures.append(f"two nodes and a witness, power cut {await two.cut_power(node)}")
        await two.assert_sound()
        died.append(node.name)
    assert sorted(died) == ["n1", "n2"]
    await two.at_rest()


async def test_the_witness_may_die(two: HaLab) -> None:
    process = two.running()
    await two.node("witness").power_cut()
    await two.writes(20)
    assert two.running() == process
    await two.at_rest()
