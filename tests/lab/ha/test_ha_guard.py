"""The guard killed or stopped: it is back at once, or its node is reset; a guest never runs unguarded for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ha_lab import until

from racimo.lab.watch import boot_clock

if TYPE_CHECKING:
    from ha_lab import HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

GUARD = "racimo-guard"
UNWATCHED = "/run/systemd/system/racimo-guard.service.d/unwatched.conf"


async def restarted(ha: HaLab, node: LabNode, pid: int) -> None:
    """Wait until another guard than ``pid`` has reported."""

    async def another() -> bool | None:
        report = ha.guard(node)
        return True if report["pid"] != pid and boot_clock() - report["tick_ns"] / 1e9 < 1 else None

    await until("a new guard reports", another, 10)


@pytest.mark.parametrize("signal", ["KILL", "STOP"])
async def test_a_guard_that_is_killed_or_stopped_is_started_again_and_no_guest_stops(
    three: HaLab, signal: str, figures: list[str]
) -> None:
    process, node = three.running(), three.owner()
    pid, at = await three.unit_pid(node, GUARD), boot_clock()
    await node.succeed("kill", f"-{signal}", str(pid))
    await restarted(three, node, pid)
    figures.append(f"guard hit by SIG{signal}: another reports after {boot_clock() - at:.2f} s")
    await three.writes(10)
    assert three.running() == process


async def test_a_node_cut_off_while_its_guard_is_stopped_still_kills_before_the_guest_starts_elsewhere(
    three: HaLab, figures: list[str]
) -> None:
    old, node = three.running(), three.owner()
    async with three.death() as death, three.isolated(node) as at:
        await node.succeed("kill", "-STOP", str(await three.unit_pid(node, GUARD)))
        failover = await three.failover(old, at)
        dead = await death
    assert dead < failover.process.began
    figures.append(f"cut off, guard stopped: {failover}; dead after {dead - at:.2f} s")
    await three.at_rest()
    await three.assert_sound()


async def test_a_guard_that_stays_stopped_gets_its_node_reset_before_the_guest_starts_again(
    three: HaLab, figures: list[str]
) -> None:
    """Its supervision by systemd is switched off, so only the watchdog is left."""
    node = three.owner()
    await node.succeed("install", "-D", "/dev/stdin", UNWATCHED, feed="[Service]\nWatchdogSec=0\n")
    await node.succeed("systemctl", "daemon-reload")
    await node.succeed("systemctl", "restart", GUARD)
    await three.at_rest()
    old, leader = three.running(), node.demand_leader()
    async with three.death() as death:
        at = boot_clock()
        await node.succeed("kill", "-STOP", str(await three.unit_pid(node, GUARD)))
        failover = await three.failover(old, at)
        dead = await death
    assert dead < failover.process.began
    assert node.leader != leader
    figures.append(f"guard stopped for good: {failover}; dead after {dead - at:.2f} s")
    await three.at_rest()
    await three.assert_sound()
