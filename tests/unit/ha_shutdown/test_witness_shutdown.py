"""A witness runs no guests, so nothing holds its shutdown up."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "ha"))

from test_live import OneNode

from racimo.model.node import Node


async def test_a_witness_that_shuts_down_waits_for_nobody() -> None:
    one = OneNode()
    await one.layout.nodes.create("n1", Node(name="n1", id="1", address="1", voter=True, witness=True))
    one.ha.shutdown.wish = lambda: "poweroff"
    running = asyncio.create_task(one.ha.run())
    async with asyncio.timeout(5):
        while not one.ha.shutdown.ready:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert one.ha.status()["shutdown"]["why"] == ""
    running.cancel()
    await asyncio.wait({running})
    await one.store.close()
