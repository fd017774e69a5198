"""Nodes of the lab and the faults that can befall them, on real containers that boot systemd."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from racimo.errors import BadParameter, Conflict, NotFound
from racimo.lab.cleanup import clean_up, mount_points
from racimo.lab.lab import Lab
from racimo.lab.network import NAMESPACES
from racimo.lab.process import run
from racimo.lab.together import together

if TYPE_CHECKING:
    from conftest import MakeLab

    from racimo.lab.node import LabNode
    from racimo.lab.place import LabPlace

pytestmark = [pytest.mark.lab, pytest.mark.root]

PROBE = "import socket; socket.create_connection(('{}', 9), 1)"
ARM = "import socket; s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); s.sendto(b'{}', '/run/racimo-lab/watchdog')"


async def reaches(node: LabNode, address: str) -> bool:
    """Whether a packet gets there and back: nobody listens on port 9, so the far node refuses."""
    return "ConnectionRefused" in (await node.execute("python3", "-c", PROBE.format(address))).err


def left_behind(place: LabPlace) -> list[str]:
    namespaces = [str(path) for path in NAMESPACES.glob(f"{place.name}*")]
    cgroups = [str(path) for path in Path("/sys/fs/cgroup").glob(f"**/{place.name}*")]
    mounts = [point for point in mount_points() if place.name in point or str(place.state) in point]
    nspawn = [str(path) for path in Path("/run/systemd/nspawn").glob(f"*/{place.name}*")]
    return [*namespaces, *cgroups, *mounts, *nspawn, *([str(place.state)] if place.state.exists() else [])]


async def test_nodes_boot_with_their_own_name_and_networks_and_nothing_of_the_host(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=2, bare=True)
    n1, n2 = lab.nodes
    assert (await n1.succeed("hostname")).strip() == "n1"
    assert (await n1.succeed("systemctl", "is-active", "multi-user.target")).strip() == "active"
    units = await n1.succeed("systemctl", "list-units", "--type=service", "--plain", "--no-legend")
    assert {line.split(".")[0] for line in units.splitlines()} & {"etcd", "postgresql", "cron", "ssh"} == set()
    for network in ("public", "cluster", "storage", "replication"):
        assert await reaches(n1, n2.address(network))
    assert sorted((await n1.succeed("ls", "/sys/class/net")).split()) == ["clu0", "lo", "pub0", "rep0", "sto0", "vmbr0"]


async def test_the_host_sees_and_routes_nothing_of_the_lab(make_lab: MakeLab) -> None:
    before = await run("ip", "-json", "address")
    lab = await make_lab(nodes=1, bare=True)
    assert [link["ifname"] for link in json.loads(await run("ip", "-json", "address"))] == [
        link["ifname"] for link in json.loads(before)
    ]
    assert lab.nodes[0].address() not in await run("ip", "route", "show", "table", "all")


async def test_a_power_cut_ends_every_process_and_keeps_the_disk(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=1, bare=True)
    node = lab.nodes[0]
    await node.succeed("sh", "-c", "echo kept >/root/file; echo gone >/run/file")
    await node.succeed("systemd-run", "--quiet", "sleep", "1000")
    assert await node.power_cut()
    assert node.cgroup.processes() == []
    assert not await node.power_cut()
    with pytest.raises(Conflict, match="n1 is off"):
        await node.execute("true")
    await node.boot()
    assert await node.succeed("cat", "/root/file") == "kept\n"
    assert (await node.execute("cat", "/run/file")).code == 1


async def test_the_log_of_a_node_can_be_read_when_it_is_off(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=1, bare=True)
    node = lab.nodes[0]
    await node.shut_down()
    assert "Reached target multi-user.target" in await run(*node.journalctl("-o", "cat"))


async def test_a_frozen_node_stands_still_until_it_is_thawed(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=1, bare=True)
    node = lab.nodes[0]
    await node.succeed("touch", "/root/ticks")
    await node.succeed(
        "systemd-run", "--quiet", "--unit=ticks", "sh", "-c", "while :; do echo tick >>/root/ticks; done"
    )
    ticks = node.disk.upper / "root/ticks"
    await node.freeze()
    assert node.cgroup.frozen
    before = ticks.stat().st_size
    await asyncio.sleep(0.3)
    assert ticks.stat().st_size == before
    await node.thaw()
    async with asyncio.timeout(30):
        while ticks.stat().st_size <= before:  # noqa: ASYNC110 - a file of another machine tells no event
            await asyncio.sleep(0.05)
    await node.freeze()
    assert await node.power_cut()
    await node.boot()


async def test_a_partition_cuts_every_network_and_healing_joins_them(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=3, bare=True)
    n1, n2, n3 = lab.nodes
    await lab.network.partition([["n1", "n2"], ["n3"]])
    assert await reaches(n1, "n2")
    for network in ("public", "cluster", "storage", "replication"):
        assert not await reaches(n3, n1.address(network))
    await lab.network.partition([["n1"], ["n2", "n3"]])
    assert await reaches(n2, "n3")
    assert not await reaches(n1, "n2")
    await lab.network.heal()
    assert await reaches(n1, "n3")
    with pytest.raises(BadParameter, match="no node called n9"):
        await lab.network.partition([["n1"], ["n9"]])


async def test_the_watchdog_resets_a_node_that_armed_it_and_feeds_it_no_more(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=1, bare=True)
    node = lab.nodes[0]
    first = node.demand_leader()
    await node.succeed("python3", "-c", ARM.format("arm 0.5"))
    assert await first.ended(5)
    async with asyncio.timeout(20):
        while node.leader in (None, first):  # noqa: ASYNC110 - the supervisor starts it again by itself
            await asyncio.sleep(0.05)


async def test_the_watchdog_of_a_node_without_power_does_not_reset_it_after_its_next_start(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=1, bare=True)
    node = lab.nodes[0]
    await node.succeed("python3", "-c", ARM.format("arm 1.5"))
    assert await node.power_cut()
    await node.boot(ready=False)
    assert not await node.demand_leader().ended(2.5)


async def test_the_watchdog_leaves_a_node_alone_that_disarmed_it(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=1, bare=True)
    node = lab.nodes[0]
    await node.succeed("systemctl", "stop", "racimo-guard")
    await node.succeed("python3", "-c", ARM.format("arm 0.5") + "; s.sendto(b'disarm', '/run/racimo-lab/watchdog')")
    assert not await node.demand_leader().ended(1.5)


async def test_down_removes_everything_even_what_a_crash_left(make_lab: MakeLab, place: LabPlace) -> None:
    lab = await make_lab(nodes=2, bare=True)
    await lab.nodes[1].freeze()
    supervisor = lab.supervisor
    assert supervisor is not None
    place.supervisor.unlink()
    (place.node("n1") / "process.json").unlink()
    assert supervisor.signal(9)
    assert await supervisor.ended(5)
    removed = await clean_up(place)
    assert removed.anything
    assert left_behind(place) == []
    assert not (await clean_up(place)).anything


async def test_a_second_lab_at_the_same_place_is_refused_and_harms_nothing(make_lab: MakeLab) -> None:
    lab = await make_lab(nodes=1, bare=True)
    with pytest.raises(Conflict, match="There is a lab already"):
        await make_lab(nodes=1, bare=True)
    assert lab.nodes[0].leader is not None


async def test_nodes_are_found_by_another_process_and_unknown_ones_are_named(
    make_lab: MakeLab, place: LabPlace
) -> None:
    await make_lab(nodes=2, bare=True)
    found = Lab.find(place)
    await together(*(node.power_cut() for node in found.nodes))
    with pytest.raises(NotFound, match="It has n1, n2"):
        found.node("n7")
