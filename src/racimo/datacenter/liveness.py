"""Is a node alive: does it speak, to the store or on the network?"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

from racimo.datacenter.host import PEER_PORT
from racimo.datacenter.join_client import API_PORT
from racimo.errors import WatchLost

if TYPE_CHECKING:
    from racimo.model.node import Node
    from racimo.store.layout import Layout

LISTEN_S = 4.0
"""Two beats of the slowest profile."""
CONNECT_S = 2.0


async def sign_of_life(
    layout: Layout, node: Node, listen: float = LISTEN_S, ports: tuple[int, ...] = (API_PORT, PEER_PORT)
) -> str:
    """What shows that the node lives, for people; "" when nothing did within ``listen`` seconds."""
    for port in ports:
        if await _answers(node.address, port):
            return f"port {port} of {node.address} answers"
    return "its heartbeat goes on" if await _beats(layout, node.name, listen) else ""


async def _answers(address: str, port: int) -> bool:
    try:
        async with asyncio.timeout(CONNECT_S):
            _, writer = await asyncio.open_connection(address, port)
    except (OSError, TimeoutError):
        return False
    writer.transport.abort()
    return True


async def _beats(layout: Layout, name: str, seconds: float) -> bool:
    held = await layout.heartbeats.find(name)
    if held is None:
        return False
    with contextlib.suppress(TimeoutError, WatchLost):
        async with asyncio.timeout(seconds):
            async for change in layout.store.watch(held.key, held.revision):
                if any(event.key == held.key and event.value is not None for event in change.events):
                    return True
    return False
