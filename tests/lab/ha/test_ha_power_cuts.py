"""Power cuts: the guest of a node that is gone runs again elsewhere within seconds, and nothing is lost or doubled."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ha_lab import HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

PROMISE_S = 12.0
"""From the fault to the start command, in the default profile."""

ROLES = ("any", "manager", "leader", "any", "both", "any", "leader", "manager", "both", "any")
"""Whose node loses its power: with the guest on it, each time."""


async def victim_of(ha: HaLab, role: str) -> LabNode:
    """The node to lose its power, with the guest on it."""
    node = ha.owner()
    if role in ("manager", "both"):
        node = ha.node(await ha.manager(node))
    if role == "leader":
        node = ha.node(await ha.leader(node))
    await ha.move_to(node)
    if role == "both":
        await ha.lead(node)
    return node


@pytest.mark.timeout(600)
async def test_ten_power_cuts_each_command_the_start_in_time_and_lose_no_write(
    three: HaLab, figures: list[str]
) -> None:
    late = []
    for number, role in enumerate(ROLES, start=1):
        await three.at_rest()
        node = await victim_of(three, role)
        manager, leader = await three.manager(node), await three.leader(node)
        also = [what for what, where in (("manager", manager), ("leader", leader)) if where == node.name]
        failover = await three.cut_power(node)
        figures.append(f"power cut {number:2} ({' and '.join(['guest', *also])}) {failover}")
        if failover.commanded_s > PROMISE_S:
            late.append(str(failover))
        report = await three.assert_sound()
        assert report.writers[-1].writer.node == failover.target
    assert late == []
