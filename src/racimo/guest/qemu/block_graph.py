"""The drives of a running QEMU as it knows them: which block node is behind which drive, and their snapshots.

A drive's node is asked for and never assumed: after a move of the disk it has another name than at the start.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from racimo.errors import Conflict
from racimo.guest.qemu.monitor import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from racimo.guest.qemu.monitor import Monitor

PERIPHERAL = "/machine/peripheral/"
CLOSE_TIMEOUT, CLOSE_AGAIN = 5.0, 0.02
TRANSACTION_TIMEOUT = 60.0
"""Seconds for a transaction over all drives: each flushes first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveNode:
    """The root block node of a drive. ``file`` is its image, ``size`` in bytes, ``snapshots`` those inside it."""

    node: str
    file: str
    format: str
    size: int
    snapshots: frozenset[str]


async def drive_nodes(monitor: Monitor) -> dict[str, DriveNode]:
    """The drives that have a medium, by key (``scsi0``)."""
    found: Any = await monitor.execute("query-block")
    nodes = {}
    for entry in found:
        key = str(entry.get("qdev", "")).removeprefix(PERIPHERAL).partition("/")[0]
        inserted = entry.get("inserted")
        if key and inserted:
            image = inserted.get("image", {})
            nodes[key] = DriveNode(
                node=str(inserted["node-name"]),
                file=str(inserted.get("file", "")),
                format=str(inserted.get("drv", "")),
                size=int(image.get("virtual-size", 0)),
                snapshots=frozenset(str(each["name"]) for each in image.get("snapshots", ())),
            )
    return nodes


def demand_drive(nodes: Mapping[str, DriveNode], key: str, label: str) -> DriveNode:
    """The node of the drive ``key``. Raises ``Conflict`` when the running guest has none."""
    node = nodes.get(key)
    if node is None:
        raise Conflict(
            f"The drive {key} of {label} is not plugged in",
            why="the configuration has it, and the running guest has not",
            todo="Shut the guest down and start it, then try again",
        )
    return node


async def close_image(monitor: Monitor, node: str) -> None:
    """Close a drive's image that nothing uses any more: its node, and the one of its file below.

    A device that was just unplugged holds it for a moment longer, and QEMU does not say until when.
    """
    below = f"file-{node.removeprefix('drive-')}" if node.startswith("drive-") else f"{node}-file"
    for name in (node, below):
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                while not await _closed(monitor, name):  # noqa: ASYNC110 - QEMU gives no event
                    await asyncio.sleep(CLOSE_AGAIN)
        except TimeoutError:
            raise Conflict(
                f"QEMU has {name} of {monitor.label} still open", why=f"it was in use for {CLOSE_TIMEOUT:g} s more",
                todo="It is closed when the guest stops",
            ) from None  # fmt: skip


async def _closed(monitor: Monitor, name: str) -> bool:
    try:
        await monitor.execute("blockdev-del", {"node-name": name})
    except CommandRefused as error:
        return "in use" not in error.why  # else it is closed already
    return True


async def snapshot_drives(monitor: Monitor, keys: Iterable[str], name: str) -> None:
    """One snapshot inside each of these drives' images, all at the same instant or none."""
    nodes = await drive_nodes(monitor)
    actions = [
        {"type": "blockdev-snapshot-internal-sync",
         "data": {"device": demand_drive(nodes, key, monitor.label).node, "name": name}}
        for key in keys
    ]  # fmt: skip
    if actions:
        await monitor.execute("transaction", {"actions": actions}, timeout=TRANSACTION_TIMEOUT)


async def drop_drive_snapshot(monitor: Monitor, key: str, name: str) -> bool:
    """Delete a snapshot inside a drive's image; False if it has none of that name."""
    node = demand_drive(await drive_nodes(monitor), key, monitor.label)
    if name not in node.snapshots:
        return False
    arguments = {"device": node.node, "name": name}
    await monitor.execute("blockdev-snapshot-delete-internal-sync", arguments, timeout=TRANSACTION_TIMEOUT)
    return True


async def node_files(monitor: Monitor) -> dict[str, str]:
    """The image file of every block node, by the node's name."""
    found: Any = await monitor.execute("query-named-block-nodes", {"flat": True})
    return {str(each["node-name"]): str(each.get("file", "")) for each in found}
