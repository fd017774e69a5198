"""A node's bridges in its record."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from racimo.model.node import Node
from racimo.node.bridges import bridges, keep_bridges
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_nodes_bridges_are_written_into_its_record(tmp_path: Path) -> None:
    for name in ("vmbr1", "vmbr0"):
        (tmp_path / name / "bridge").mkdir(parents=True)
    (tmp_path / "eth0").mkdir()
    assert bridges(tmp_path) == ("vmbr0", "vmbr1")
    store = MemoryStore()
    layout = Layout(store)
    await layout.nodes.create("n1", Node(name="n1", id="1", address="1"))
    keeping = asyncio.create_task(keep_bridges(layout, "n1", tmp_path))
    try:
        async with asyncio.timeout(5):
            while (await layout.nodes.get("n1")).facts.bridges != ("vmbr0", "vmbr1"):  # noqa: ASYNC110 - no event
                await asyncio.sleep(0.01)
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        await store.close()
