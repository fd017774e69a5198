"""Daemons that die or are restarted: no guest notices, and all guests are found again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ha_lab import VMID, until

from racimo.lab.datacenter import api
from racimo.lab.together import together

if TYPE_CHECKING:
    from ha_lab import HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

DAEMONS = ("racimo-guard", "racimo-ha", "racimo-node")


async def kill_hard(ha: HaLab, node: LabNode, *units: str) -> None:
    """SIGKILL the units' daemons at once, and wait until systemd has started each again."""
    before = {unit: await ha.unit_pid(node, unit) for unit in units}
    assert all(before.values())
    await node.succeed("kill", "-KILL", *(str(pid) for pid in before.values()))
    for unit, pid in before.items():

        async def again(unit: str = unit, pid: int = pid) -> bool | None:
            active = (await node.execute("systemctl", "is-active", unit)).out.strip() == "active"
            return True if active and await ha.unit_pid(node, unit) not in (0, pid) else None

        await until(f"{unit} restarted on {node.name}", again, 20)


async def shows_it_running(node: LabNode) -> bool | None:
    """Whether the node's API knows that its guest runs."""
    async with api(node) as client:
        status = await client.get(f"/nodes/{node.name}/qemu/{VMID}/status/current")
    return True if isinstance(status, dict) and status["status"] == "running" else None


@pytest.mark.parametrize("units", [("racimo-node",), ("racimo-ha",), ("racimo-node", "racimo-ha")], ids="+".join)
async def test_a_killed_daemon_stops_no_guest_and_finds_it_again(three: HaLab, units: tuple[str, ...]) -> None:
    process, node = three.running(), three.owner()
    await kill_hard(three, node, *units)
    await until("the API shows the guest running", lambda: shows_it_running(node), 20)
    await three.at_rest()
    assert three.running() == process
    await three.move_to(three.others(node)[0])
    await three.assert_sound()


async def test_restarting_every_daemon_on_all_nodes_at_once_stops_no_guest(three: HaLab) -> None:
    process = three.running()
    await together(*(node.succeed("systemctl", "restart", *DAEMONS) for node in three.nodes))
    await three.at_rest()
    assert three.running() == process
    await until("the API shows the guest running", lambda: shows_it_running(three.owner()), 20)
    await three.assert_sound()


async def test_restarting_every_daemon_and_the_whole_store_at_once_stops_no_guest(three: HaLab) -> None:
    process = three.running()
    await together(*(node.succeed("systemctl", "restart", "racimo-etcd", *DAEMONS) for node in three.nodes))
    await three.at_rest()
    assert three.running() == process
    await three.assert_sound()
