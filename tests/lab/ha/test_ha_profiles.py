"""The profile ``fast``: switched to and back while the guest runs, and power cuts in between that keep its promise."""

from __future__ import annotations

import itertools
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from ha_lab import until
from test_ha_power_cuts import victim_of

from racimo.ha.profiles import slowest_ms
from racimo.ha.timing import PROFILES
from racimo.lab.datacenter import api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_lab import HaLab

pytestmark = [pytest.mark.lab, pytest.mark.root]

PROMISE_S = 6.5
"""From the fault to the start command, where heartbeats are committed as quickly as the profile demands."""
ROUNDS = int(os.environ.get("RACIMO_ROUNDS", "2"))
ROLES = ("any", "manager", "leader", "both")
QUICK_WITHIN_S = 300.0
"""A machine that was busy a moment ago refuses the profile by what heartbeats took then."""


@asynccontextmanager
async def fast(three: HaLab) -> AsyncIterator[None]:
    """The profile for as long as the block lasts."""

    async def taken() -> bool:
        async with api(three.nodes[0]) as client:
            await client.put("/cluster/options", ha_profile="fast")
        return True

    await until("the profile fast is taken", taken, QUICK_WITHIN_S)
    try:
        yield
    finally:
        await three.at_rest()
        async with api(three.nodes[0]) as client:
            await client.put("/cluster/options", ha_profile="default")


async def beats_by(three: HaLab, profile: str) -> None:
    async def all_beat() -> bool | None:
        return True if all([(await three.ha(node))["profile"] == profile for node in three.nodes]) else None

    await until(f"every node beats by the profile {profile}", all_beat, 20)


@pytest.mark.timeout(900)
async def test_power_cuts_in_the_fast_profile_command_the_start_in_time_and_switching_stops_no_guest(
    three: HaLab, figures: list[str]
) -> None:
    process, late = three.running(), list[str]()
    async with fast(three):
        await beats_by(three, "fast")
        await three.writes()
        assert three.running() == process
        for role in itertools.islice(itertools.cycle(ROLES), ROUNDS):
            await three.at_rest()
            failover = await three.cut_power(await victim_of(three, role))
            took = [(await three.ha(node))["commit_ms"] for node in three.nodes if node.leader]
            figures.append(f"fast, power cut ({role}) {failover}; heartbeats take {took} ms")
            if failover.commanded_s > PROMISE_S and max(took) <= slowest_ms(PROFILES["fast"]):
                late.append(f"{failover}\n{await three.account()}")
        await three.at_rest()
        process = three.running()
    await beats_by(three, "default")
    await three.at_rest()
    assert three.running() == process
    await three.assert_sound()
    assert not late, "\n".join(late)
