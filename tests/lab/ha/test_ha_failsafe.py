"""The store without a quorum: nothing stops while all nodes speak with each other, and all stops that cannot ask."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from ha_lab import VMID, until

from racimo.lab.together import together
from racimo.lab.watch import boot_clock, guest_processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_lab import HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

ETCD = "racimo-etcd"
OUTAGE_S = 60.0
LEASE_S = 10.0


@asynccontextmanager
async def without_quorum(three: HaLab) -> AsyncIterator[float]:
    """Two of three members of the store stopped for as long as the block lasts; gives the time of it."""
    at = boot_clock()
    await together(*(stop_store(node) for node in three.nodes[:2]))
    try:
        yield at
    finally:
        for node in three.nodes[:2]:
            await node.succeed("systemctl", "unmask", "--runtime", ETCD)
            await node.succeed("systemctl", "start", "--no-block", ETCD)


async def stop_store(node: LabNode) -> None:
    """Stop its member, though other programs of the node would have it run."""
    await node.succeed("systemctl", "mask", "--runtime", ETCD)

    async def stopped() -> bool | None:
        await node.execute("systemctl", "stop", ETCD)
        return True if (await node.execute("systemctl", "is-active", ETCD)).out.strip() != "active" else None

    await until(f"the store's member stopped on {node.name}", stopped, 20)


async def test_no_guest_stops_while_the_store_is_away_for_a_minute(three: HaLab, figures: list[str]) -> None:
    process, term = three.running(), (await three.ha(three.nodes[2]))["term"]
    async with without_quorum(three) as at:
        await asyncio.sleep(OUTAGE_S)
        assert three.running() == process
        await three.writes()
        for node in three.nodes:
            status = await three.ha(node)
            assert status["extended_s_ago"] is not None and status["lease_left_s"] > 0, await three.account()
    await three.at_rest()
    figures.append(f"store without quorum for {boot_clock() - at:.0f} s until all was at rest again: the guest went on")
    assert three.running() == process
    assert (await three.ha(three.nodes[2]))["term"] - term <= 1
    await three.assert_sound()


async def test_a_node_that_is_cut_off_as_well_kills_its_guests_for_it_cannot_ask_the_others(
    three: HaLab, figures: list[str]
) -> None:
    node = three.owner()
    async with three.death() as death, without_quorum(three), three.isolated(node) as at:
        dead = await death
        assert dead - at < LEASE_S
        assert all("cannot be reached" in why or "not answer" in why for why in await refusals(three))
        assert guest_processes(three.lab, VMID) == []
    figures.append(f"store without quorum and {node.name} cut off: its guest dead after {dead - at:.2f} s")
    await three.at_rest()
    await three.assert_sound()


async def test_every_node_on_its_own_and_then_together_again(three: HaLab, figures: list[str]) -> None:
    async with three.death() as death:
        at = boot_clock()
        await three.lab.network.partition([[node.name] for node in three.nodes])
        dead = await death
        await asyncio.sleep(LEASE_S)
        assert guest_processes(three.lab, VMID) == []
    healed = boot_clock()
    await three.lab.network.heal()
    await three.at_rest()
    figures.append(
        f"every node isolated: dead after {dead - at:.2f} s, at rest {boot_clock() - healed:.1f} s after the healing"
    )
    await three.assert_sound()


async def refusals(three: HaLab) -> list[str]:
    """Why each node's lease was not extended, once each has been refused."""

    async def all_refused() -> list[str] | None:
        said = [str((await three.ha(node))["not_extended"]) for node in three.nodes]
        return said if all(said) else None

    return await until("every node refused", all_refused, 15)
