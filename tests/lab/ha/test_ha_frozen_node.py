"""A node that stands still: short enough, nothing happens; too long, and it is reset before its guest runs twice."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from racimo.errors import Conflict
from racimo.lab.watch import boot_clock

if TYPE_CHECKING:
    from ha_lab import HaLab

pytestmark = [pytest.mark.lab, pytest.mark.root]

SHORT_S = 2.5
"""Less than the watchdog's time-out and the lease."""
LEASE_S = 10.0


async def test_a_node_that_stood_still_for_a_moment_goes_on_with_its_guests(three: HaLab) -> None:
    process, node = three.running(), three.owner()
    await node.freeze()
    await asyncio.sleep(SHORT_S)
    await node.thaw()
    await three.writes(10)
    await three.at_rest()
    assert three.running() == process
    await three.assert_sound()


async def test_a_node_that_stands_still_longer_than_its_lease_is_reset_and_never_writes_beside_another(
    three: HaLab, figures: list[str]
) -> None:
    old, node = three.running(), three.owner()
    leader = node.demand_leader()
    async with three.death() as death:
        at = boot_clock()
        await node.freeze()
        failover = await three.failover(old, at)
        dead = await death
    assert dead < failover.process.began
    assert failover.began_s > LEASE_S or failover.target == node.name
    with suppress(Conflict):  # it may just be off
        await node.thaw()
    figures.append(f"frozen {failover}; reset by the watchdog, dead after {dead - at:.2f} s")
    await three.at_rest()
    assert node.leader != leader
    await three.assert_sound()
