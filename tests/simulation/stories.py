"""Histories told on purpose: each is harmless with the rules as they are, and harmful without one of them."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING

from racimo.errors import RacimoError

if TYPE_CHECKING:
    from world import World


async def cut_off(world: World) -> None:
    """A node loses the store and nothing else."""
    world.nodes["n1"].link.up.clear()
    await asyncio.sleep(30)


async def answer_lost_then_cut_off(world: World) -> None:
    """A heartbeat is committed, its answer lost; seconds later the node hears of it, and is cut off for good."""
    node = world.nodes["n1"]
    link, holder = node.link, node.ha.holder
    await asyncio.sleep(3)
    link.lose_answers = 1.0
    await asyncio.sleep(1.2)
    link.up.clear()
    link.lose_answers = 0.0
    await asyncio.sleep(5.3)
    lease = holder.lease
    link.up.set()
    while holder.lease == lease:  # noqa: ASYNC110 - simulated time, and nobody tells
        await asyncio.sleep(0.0005)
    link.up.clear()
    await asyncio.sleep(30)


async def late_command(world: World) -> None:
    """A command to start arrives after the guest was given to another node and its old node came back."""
    node, vmid = world.nodes["n1"], world.vmids[0]
    epoch = (await world.layout.guests.get(vmid)).epoch
    node.power_off()
    await asyncio.sleep(13)
    node.power_on()
    await asyncio.sleep(5)
    with suppress(RacimoError):
        await node.operations.start(vmid, epoch)
    await asyncio.sleep(5)


async def busy_store(world: World) -> None:
    """The store is slow for a node, which does not make it a dead one."""
    world.nodes["n1"].link.slow = 0.5
    await asyncio.sleep(60)
