"""Each policy of HA once, in one standing lab of three nodes, by the commands that administrators use."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from desk import SOON_S, Policies
from ha_lab import SID, VMID, until

from racimo.lab.datacenter import api, finish
from racimo.lab.demo import create_guest, put_under_ha
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from ha_lab import HaLab

pytestmark = [pytest.mark.lab, pytest.mark.root]

OTHER = 101
ROUNDS_S = 150.0
"""For several starts, each with its probes."""


@pytest.fixture
def policies(three: HaLab) -> Policies:
    return Policies(three)


async def test_maintenance_empties_a_node_live_and_the_guest_comes_back(policies: Policies) -> None:
    home, process = policies.lab.owner(), policies.lab.running()
    await policies.ha("maintenance", home.name, "on", "--comment", "new memory")
    await policies.lab.writes()

    async def away() -> bool | None:
        line = await policies.line()
        return True if line["state"] == "started" and line["node"] != home.name else None

    await until("the guest away from the node in maintenance", away, SOON_S)
    health = {line["node"]: line["status"] for line in await policies.ha("status") if line.get("type") == "lrm"}
    assert health[home.name] == "maintenance"
    await policies.ha("maintenance", home.name, "off")
    await policies.is_in("started", node=home.name)
    assert policies.lab.running().pid != process.pid
    told = "\n".join(await policies.history())
    assert f"{home.name} is in maintenance" in told and f"{home.name} is back, which it had left" in told
    await policies.lab.assert_sound()


async def test_rules_move_a_guest_to_its_node_bring_it_back_and_keep_two_apart(policies: Policies) -> None:
    first, second = policies.lab.owner(), policies.lab.others(policies.lab.owner())[0]
    await policies.ha("rule", "add", "home", "--resources", SID, "--nodes", f"{second.name}:2,{first.name}:1")
    await policies.is_in("started", node=second.name)
    await policies.ha("migrate", SID, first.name)

    async def came_back() -> bool | None:
        moves = [step for step in await policies.history() if "it runs on" in step][-2:]
        both = [f"{second.name} to {first.name}", f"{first.name} to {second.name}"]
        done = [f"{step.rpartition(' ')[2]} to {step.split(' runs on ')[1].split()[0]}" for step in moves]
        return True if done == both else None

    await until("the guest there and, by its rule, back", came_back, SOON_S)
    await policies.ha("rule", "set", "home", "--disable")
    await create_guest(second, OTHER, policies.lab.lab)
    try:
        await put_under_ha(second, OTHER)
        await policies.is_in("started", node=second.name, sid=f"vm:{OTHER}")
        await policies.ha("rule", "add", "apart", "--resources", f"{VMID},{OTHER}", "--affinity", "negative")

        async def apart() -> bool | None:
            lines = [await policies.line(), await policies.line(f"vm:{OTHER}")]
            still = all(line["state"] == "started" for line in lines)
            return True if still and lines[0]["node"] != lines[1]["node"] else None

        await until("the two guests apart", apart, SOON_S)
        both = ("--resources", f"{VMID},{OTHER}", "--affinity", "positive")
        refused = await policies.desk.execute("racimo", "ha", "rule", "add", "both", *both)
        assert refused.code != 0 and "apart keeps them apart" in refused.err
    finally:
        await policies.ha("rule", "remove", "home")
        await policies.ha("rule", "remove", "apart")
        await policies.ha("remove", f"vm:{OTHER}")
        async with api(policies.desk) as client:
            node = guest_processes(policies.lab.lab, OTHER)[0].node
            await finish(client, await client.post(f"/nodes/{node}/qemu/{OTHER}/status/stop"))
            await finish(client, await client.delete(f"/nodes/{node}/qemu/{OTHER}"))


async def test_a_guest_is_restarted_then_relocated_then_in_error_which_disabled_alone_clears(
    policies: Policies,
) -> None:
    home = policies.lab.owner()
    async with policies.without_qemu(home):
        policies.kill()
        moved = await policies.is_in("started")
        assert moved["node"] != home.name
        told = "\n".join(await policies.history())
        assert f"start 1 on {home.name} failed" in told and "try 2 of 2" in told and f"{home.name} → " in told
    async with policies.without_qemu(*policies.lab.nodes):
        policies.kill()
        failed = await policies.is_in("error")
        assert "no tries are left" in failed["why"]
    await policies.ha("set", SID, "--state", "stopped")
    assert (await policies.line())["state"] == "error"
    await policies.ha("set", SID, "--state", "disabled")
    await policies.is_in("stopped")
    await policies.ha("set", SID, "--state", "started")
    await policies.is_in("started")
    await policies.lab.writes()


async def test_disarmed_nothing_is_killed_fenced_or_started_and_armed_all_goes_on(policies: Policies) -> None:
    node, process = policies.lab.owner(), policies.lab.running()
    policies.desk = policies.lab.others(node)[0]
    await policies.ha("disarm", "freeze")

    async def disarmed() -> bool | None:
        marks = [mark for each in policies.lab.nodes for mark in (each.files / "run/racimo/ha").iterdir()]
        return True if await policies.arming() == "disarmed" and not marks else None

    await until("HA disarmed and all marks lifted", disarmed, SOON_S)
    async with policies.lab.isolated(node):
        silent = "unknown"

        async def lost() -> bool | None:
            seen = (await policies.lab.ha(policies.desk))["nodes"][node.name]
            return True if seen["silent_s"] > 13 and seen["health"] == silent else None

        await until("its lease run out", lost, 30)
        assert policies.lab.running() == process
    assert (await policies.line())["state"] == "freeze"
    policies.kill()

    async def noticed() -> bool | None:
        async with api(node) as client:
            status = await client.get(f"/nodes/{node.name}/qemu/{VMID}/status/current")
        return True if isinstance(status, dict) and status.get("status") == "stopped" else None

    await until("the guest's end written down", noticed, SOON_S)
    assert guest_processes(policies.lab.lab, VMID) == []
    await policies.ha("arm")
    await policies.is_in("started", node=node.name)
    await policies.lab.writes()
    await policies.lab.assert_sound()


async def test_a_guest_whose_application_is_silent_is_restarted_and_one_that_answers_is_left_alone(
    policies: Policies,
) -> None:
    """The lab's guest serves HTTP on port 80; nobody listens on port 81."""
    address, process = "10.77.0.100", policies.lab.running()
    options = ("--probe-failures", "2", "--probe-interval", "1", "--probe-grace", "10")
    await policies.ha("set", SID, "--probe", f"tcp:{address}:81", "--max-relocate", "0", *options)
    failed = await policies.is_in("error", within_s=ROUNDS_S)
    assert "its application is not well" in failed["why"] and f"tcp:{address}:81 does not answer" in failed["why"]
    assert "restart 1 of 1" in "\n".join(await policies.history())
    assert policies.lab.running().pid != process.pid
    await policies.ha("set", SID, "--probe", f"http://{address}/", "--max-relocate", "1", "--state", "disabled")
    await policies.is_in("stopped")
    await policies.ha("set", SID, "--state", "started")
    await policies.is_in("started")
    process = policies.lab.running()
    await policies.lab.writes(150)  # 15 s of them: past the grace
    assert policies.lab.running() == process
    await policies.ha("set", SID, "--probe", "")
    await policies.lab.assert_sound()
