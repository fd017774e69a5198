"""Which bridges this node has, kept up to date in its record: HA gives a guest only to a node that has its bridges."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from racimo.errors import RacimoError

if TYPE_CHECKING:
    from racimo.model.node import Node
    from racimo.store.layout import Layout

log = structlog.get_logger()

LOOK_S = 5.0
NET = Path("/sys/class/net")


def bridges(net: Path = NET) -> tuple[str, ...]:
    """The names of this machine's bridges, in order."""
    return tuple(sorted(device.parent.name for device in net.glob("*/bridge")))


async def keep_bridges(layout: Layout, node: str, net: Path = NET) -> None:
    """Write them down whenever they change, for ever."""
    known: tuple[str, ...] | None = None
    while True:
        found = bridges(net)
        if found != known:

            def with_bridges(record: Node, found: tuple[str, ...] = found) -> Node:
                return replace(record, facts=replace(record.facts, bridges=found))

            try:
                if (await layout.nodes.get(node)).facts.bridges != found:
                    await layout.nodes.update(node, with_bridges)
                known = found
            except RacimoError as error:
                log.info("this node's bridges are written down later", why=str(error))
        await asyncio.sleep(LOOK_S)
