"""Who is not waited for when a node shuts down: a witness has no guests, and some guests HA does nothing about."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from one_node import OneNode

from racimo.model.guest import RunState, Runtime
from racimo.model.ha import Requested, Resource, Service, ServiceState
from racimo.model.node import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


async def shown(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@asynccontextmanager
async def runs(one: OneNode) -> AsyncIterator[None]:
    running = asyncio.create_task(one.ha.run())
    try:
        yield
    finally:
        running.cancel()
        await asyncio.wait({running})
        await one.store.close()


async def test_a_witness_that_shuts_down_waits_for_nobody() -> None:
    one = OneNode()
    await one.layout.nodes.create("n1", Node(name="n1", id="1", address="1", voter=True, witness=True))
    one.ha.shutdown.wish = lambda: "poweroff"
    async with runs(one):
        await shown(lambda: one.ha.shutdown.ready)
        assert one.ha.status()["shutdown"]["why"] == ""


@pytest.mark.parametrize("why", ["ignored", "error"])
async def test_a_guest_that_ha_leaves_alone_is_not_waited_for(why: str) -> None:
    one = OneNode()
    await one.records()
    requested = Requested.IGNORED if why == "ignored" else Requested.STARTED
    await one.layout.resources.create("vm:100", Resource(sid="vm:100", requested=requested))
    state = ServiceState.ERROR if why == "error" else ServiceState.STARTED
    await one.layout.services.create("vm:100", Service(sid="vm:100", state=state, node="n1", epoch=0))
    await one.layout.runtimes.create(100, Runtime(vmid=100, node="n1", epoch=0, state=RunState.RUNNING))
    async with runs(one):
        await shown(lambda: one.ha.holder.holds() and 100 in one.desk.marks)
        one.desk.running = {100}
        one.ha.shutdown.wish = lambda: "poweroff"
        await shown(lambda: one.ha.holder.mode == "poweroff" and one.ha.shutdown.ready)
        await one.ha.farewell()
        assert await one.layout.heartbeats.find("n1") is not None and 100 in one.desk.running
