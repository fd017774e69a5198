"""A node switched off or rebooted in order: its systemd waits until HA has done what the shutdown policy says."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from ha_lab import SID, VMID, until

from racimo.lab.datacenter import api
from racimo.lab.watch import boot_clock, guest_processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_lab import HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

SETTINGS = "/racimo/1/datacenter/settings"
LONGER_THAN_A_LEASE_S = 13.0
ENDS_WITHIN_S = 120.0


@asynccontextmanager
async def shutdown_policy(three: HaLab, policy: str, **more: int) -> AsyncIterator[None]:
    """The datacenter's policy, and ``more`` settings, for as long as the block lasts."""
    node = three.nodes[0]
    before = json.loads(await three.etcdctl(node, "get", SETTINGS, "--print-value-only"))
    await three.etcdctl(node, "put", SETTINGS, json.dumps({**before, "ha_shutdown_policy": policy, **more}))
    try:
        yield
    finally:
        await three.at_rest()
        await three.etcdctl(node, "put", SETTINGS, json.dumps(before))


async def history(node: LabNode) -> list[dict[str, Any]]:
    async with api(node) as client:
        shown = await client.get(f"/cluster/ha/resources/{SID}")
    assert isinstance(shown, dict) and isinstance(shown["history"], list)
    return [step for step in shown["history"] if isinstance(step, dict)]


async def health(seen_by: LabNode, name: str) -> tuple[str, str]:
    """State of a node and its reason, as the manager has it."""
    async with api(seen_by) as client:
        lines = await client.get("/cluster/ha/status/current")
    assert isinstance(lines, list)
    line = next(line for line in lines if isinstance(line, dict) and line["id"] == f"lrm:{name}")
    return str(line["status"]), str(line["why"])


async def test_a_node_that_is_switched_off_lets_its_guest_migrate_first_and_gets_it_back(
    three: HaLab, figures: list[str]
) -> None:
    node = three.owner()
    other = three.others(node)[0]
    async with shutdown_policy(three, "migrate"):
        at, old, since = boot_clock(), three.running(), time.time()
        await node.shut_down()
        took = boot_clock() - at
        moved = three.running()
        assert moved.node != node.name
        steps = [step for step in await history(other) if step["at"] > since]
        assert any(step["what"] == "migrate" and "is switched off" in str(step["why"]) for step in steps), steps
        assert not any("lease ran out" in str(step["why"]) for step in steps)
        await asyncio.sleep(LONGER_THAN_A_LEASE_S)
        state, why = await health(other, node.name)
        assert (state, "ended in order" in why) == ("unknown", True), why
        assert three.running() == moved
        await node.boot(ready=False)
        await until(f"the guest back on {node.name}", lambda: back(three, node, old.pid), 90)
    figures.append(f"{node.name} switched off by policy migrate within {took:.1f} s: {VMID} moved live, and back later")
    await three.assert_sound()


async def back(three: HaLab, node: LabNode, not_pid: int) -> bool | None:
    processes = guest_processes(three.lab, VMID)
    return True if [p.node for p in processes] == [node.name] and processes[0].pid != not_pid else None


async def test_a_node_that_reboots_freezes_its_guest_which_nobody_takes(three: HaLab, figures: list[str]) -> None:
    node, old, at = three.owner(), three.running(), boot_clock()
    other = three.others(node)[0]
    await node.execute("systemctl", "reboot")

    async def off() -> bool | None:
        return True if node.container is None else None

    await until(f"{node.name} off", off, ENDS_WITHIN_S)
    took = boot_clock() - at
    assert guest_processes(three.lab, VMID) == []
    assert (await three.service(other))["state"] == "freeze", await three.account()
    await asyncio.sleep(LONGER_THAN_A_LEASE_S)
    assert guest_processes(three.lab, VMID) == []
    assert (await health(other, node.name))[0] == "unknown"
    await node.boot(ready=False)
    await until(f"the guest again on {node.name}", lambda: back(three, node, old.pid), 90)
    figures.append(
        f"{node.name} rebooted by policy conditional: off after {took:.1f} s, its guest frozen and started again"
    )
    await three.at_rest()
    await three.assert_sound()


async def test_a_shutdown_gives_migrating_up_after_the_set_time_and_says_so(three: HaLab, figures: list[str]) -> None:
    node = three.owner()
    other = three.others(node)[0]
    async with shutdown_policy(three, "migrate", ha_migrate_wait=3, migration_bandwidth=1 << 20):  # takes a minute
        at, old, since = boot_clock(), three.running(), time.time()
        await node.shut_down()
        took = boot_clock() - at

        async def elsewhere() -> str | None:
            processes = guest_processes(three.lab, VMID)
            return processes[0].node if processes and processes[0].node != node.name else None

        target = await until("the guest started elsewhere", elsewhere, 60)
        steps = [step for step in await history(other) if step["at"] > since]
        why = "did not all migrate away in the time set for it"
        assert any(why in str(step["why"]) for step in steps), steps
        assert three.running().pid != old.pid
        await three.writes()
    figures.append(
        f"{node.name} gave a migration up after 3 s and was off within {took:.1f} s: {VMID} runs on {target}"
    )
    await three.assert_sound()
