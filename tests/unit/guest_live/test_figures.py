"""What a running guest uses is kept over time; and keys are pressed."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from qcow2_guests import SUM, a_guest, add

from racimo.errors import BadParameter, OperationFailed
from racimo.guest.operations import StartGuest
from racimo.node.historian import Historian
from racimo.node.status import ProcMeter

if TYPE_CHECKING:
    from guest_nodes import Datacenter


async def test_what_a_guest_uses_is_told_over_time_and_forgotten_with_the_guest(place: Datacenter) -> None:
    node, known = await a_guest(place, SUM), [100]
    await node.run(StartGuest(vmid=100))
    assert await add(node, 1) == 1
    historian = Historian(node.history, node.host, ProcMeter().read, lambda: known)
    found: Any = []
    async with asyncio.timeout(30):
        while not found or not found[-1].get("cpu"):  # its first tick may come late on a busy machine
            await add(node, 1)
            await historian.once()
            found = await node.api("GET", "/100/rrddata", "timeframe=hour&cf=MAX")
    assert found[-1]["maxmem"] == 32 << 20 and found[-1]["mem"] > 0 and found[-1]["cpu"] < 8
    assert {"netin", "netout", "diskread", "diskwrite", "time"} <= found[-1].keys()
    assert [slot.figures["maxcpu"] > 0 for slot in await node.history.read("node", "year", found[-1]["time"])] == [True]
    await node.host.kill(100)
    known.clear()
    await historian.once()
    assert await node.api("GET", "/100/rrddata", "timeframe=day") == []
    with pytest.raises(BadParameter, match="timeframe"):
        await node.api("GET", "/100/rrddata", "timeframe=decade")


async def test_keys_are_pressed_by_their_names(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    assert await node.api("PUT", "/100/sendkey", "key=ctrl-alt-delete") is None
    with pytest.raises(OperationFailed, match="nosuchkey"):
        await node.api("PUT", "/100/sendkey", "key=nosuchkey")


async def test_what_clients_send_along_with_start_and_stop_is_taken(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.task("POST", "/100/status/start", "timeout=60&skiplock=0")
    assert await node.states() == {100: "running"}
    with pytest.raises(BadParameter, match="timeout"):
        await node.api("POST", "/100/status/stop", "timeout=soon")
