"""Proof A: a node's fence device cuts its power and says so, and its guests are commanded to start within 6 s."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from ha_lab import SID, until

from racimo.lab.datacenter import add_fence_devices, api
from racimo.lab.fence_device import FenceFault, set_fault
from racimo.lab.watch import boot_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_lab import Failover, HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

PROMISE_S = 6.0
"""From the fault to the start command, in the default profile, by a fence device."""
LEASE_S = (10.0, 12.5)
"""The same by the lease: not before it ran out, and not much later."""

ROUNDS = int(os.environ.get("RACIMO_ROUNDS", "3"))
FAULTS = ("power", "isolated", "frozen")
ROLES = ("manager", "any", "leader", "both")


@pytest.fixture
async def fenced(three: HaLab) -> AsyncIterator[HaLab]:
    """Three nodes at rest, each with a fence device of the lab."""
    await add_fence_devices(three.lab, lambda what, seconds: None)
    yield three
    for node in three.nodes:
        set_fault(node, FenceFault.NONE)
    await three.at_rest()
    async with api(three.nodes[0]) as client:
        for node in three.nodes:
            await client.delete(f"/racimo/ha/fence/devices/{node.name}-lab")


async def victim(ha: HaLab, role: str) -> LabNode:
    """The node to be struck, with the guest on it."""
    node = ha.owner()
    if role in ("manager", "both"):
        node = ha.node(await ha.manager(node))
    if role == "leader":
        node = ha.node(await ha.leader(node))
    await ha.move_to(node)
    if role == "both":
        await ha.lead(node)
    return node


async def strike(ha: HaLab, node: LabNode, fault: str) -> Failover:
    """Have the fault come over the node, and wait until its guest writes elsewhere."""
    old = ha.running()
    if fault == "isolated":
        async with ha.isolated(node) as at:
            return await ha.failover(old, at)
    at = boot_clock()
    await (node.power_cut() if fault == "power" else node.freeze())
    return await ha.failover(old, at)


async def last_fencing(ha: HaLab, node: LabNode, asked: LabNode) -> dict[str, Any]:
    """What the devices of ``node`` were last told to do, as ``asked`` shows it."""
    async with api(asked) as client:
        lines = await client.get("/racimo/ha/fence/nodes")
    assert isinstance(lines, list)
    line = next(line for line in lines if isinstance(line, dict) and line["node"] == node.name)
    assert isinstance(line["last"], dict), line
    return line["last"]


async def story(ha: HaLab, asked: LabNode) -> str:
    """The guest's HA history."""
    async with api(asked) as client:
        line = await client.get(f"/cluster/ha/resources/{SID}")
    assert isinstance(line, dict)
    return str(line["history"])


@pytest.mark.timeout(900)
async def test_a_confirmed_power_off_commands_the_start_within_six_seconds(fenced: HaLab, figures: list[str]) -> None:
    late = []
    for number in range(ROUNDS):
        fault, role = FAULTS[number % len(FAULTS)], ROLES[number % len(ROLES)]
        await fenced.at_rest()
        node = await victim(fenced, role)
        failover = await strike(fenced, node, fault)
        target = fenced.node(failover.target)
        figures.append(f"fenced {number + 1:2} ({fault} of {role}) {failover}")
        fencing = await last_fencing(fenced, node, target)
        assert (fencing["stage"], node.container) == ("confirmed", None), fencing
        assert f"{node.name}'s power is off" in await story(fenced, target)
        if failover.commanded_s > PROMISE_S:
            late.append(f"{failover}\n{await fenced.account()}")
        await fenced.assert_sound()
    assert late == []


@pytest.mark.timeout(300)
async def test_a_device_that_lies_is_not_believed_and_the_lease_decides(fenced: HaLab, figures: list[str]) -> None:
    node = await victim(fenced, "any")
    set_fault(node, FenceFault.LIES)
    async with fenced.isolated(node) as at:
        failover = await fenced.failover(fenced.running(), at)
        target = fenced.node(failover.target)
        fencing = await last_fencing(fenced, node, target)
        history = await story(fenced, target)
    figures.append(f"a lying fence device {failover}")
    assert node.container is not None
    assert fencing["stage"] != "confirmed"
    assert f"{node.name}'s lease ran out" in history.rpartition("→")[2]
    assert LEASE_S[0] <= failover.commanded_s <= LEASE_S[1]
    await fenced.assert_sound()


@pytest.mark.timeout(300)
async def test_a_node_that_was_cut_is_switched_on_again_once_its_guest_runs_elsewhere(fenced: HaLab) -> None:
    node = await victim(fenced, "any")
    code, _ = await ask(fenced.others(node)[0], "set", f"{node.name}-lab", "--power-on")
    assert code == 0
    failover = await strike(fenced, node, "frozen")
    target = fenced.node(failover.target)

    async def given_back() -> dict[str, Any] | None:
        back = (await last_fencing(fenced, node, target))["back"]
        return back if back and back["stage"] == "done" else None

    back = await until(f"{node.name} switched on again", given_back, 60.0)
    assert node.leader is not None, back
    await fenced.at_rest()
    assert fenced.running().node == failover.target, "its guest was moved for nothing"
    await fenced.assert_sound()


async def ask(node: LabNode, *words: str, feed: str = "") -> tuple[int, Any]:
    """Call ``racimo ha fence`` in a node; its exit code and document."""
    done = await node.execute("racimo", "ha", "fence", *words, "--json", feed=feed, timeout_s=90)
    return done.code, json.loads(done.out)


@pytest.mark.timeout(300)
async def test_devices_are_defined_asked_and_tried_out_from_the_command_line(fenced: HaLab) -> None:
    owner = fenced.owner()
    asker, idle = fenced.others(owner)
    code, answers = await ask(asker, "test", idle.name)
    assert (code, [answer["power"] for answer in answers]) == (0, ["on"])
    set_fault(idle, FenceFault.WRONG)
    code, told = await ask(asker, "test", idle.name, "--off", "--yes")
    assert code != 0 and "before it is cut" in told["error"]["why"], told
    set_fault(idle, FenceFault.NONE)
    code, told = await ask(asker, "test", owner.name, "--off", "--yes")
    assert code != 0 and "guests run on it" in told["error"]["why"]
    leader = idle.leader
    code, _ = await ask(asker, "test", idle.name, "--off", "--yes")
    assert code == 0
    await fenced.at_rest()
    assert idle.leader is not None and idle.leader != leader, "it was not switched off and on"
    code, told = await ask(asker, "add", idle.name, "fence_racimo_lab", "plug=n1", "password=grapes")
    assert code != 0 and "--secret password" in told["error"]["todo"]
    words = ("add", idle.name, "fence_racimo_lab", f"plug={idle.name}", "--secret", "password", "--level", "2")
    code, _ = await ask(asker, *words, "--name", "second", feed="grapes-4711\n")
    assert code == 0
    code, listed = await ask(owner, "list")
    second = next(line for line in listed["devices"] if line["device"] == "second")
    assert second["options"] == {"plug": idle.name, "password": "***"} and "grapes" not in str(listed)
    assert [(line["node"], line["failover_s"]) for line in listed["nodes"]] == [("n1", 6), ("n2", 6), ("n3", 6)]
    assert (await ask(owner, "remove", "second"))[0] == 0
