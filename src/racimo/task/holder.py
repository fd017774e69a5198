"""Whether the holder of a lock is dead, by the records of the store itself and not by a copy of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.ha import NodeHealth

if TYPE_CHECKING:
    from racimo.store.layout import Layout


async def proven_dead(layout: Layout, node: str, incarnation: str) -> bool:
    """Whether the daemon ``incarnation`` of ``node`` is over: node removed, fenced, or its daemon begun anew.

    Raises ``StoreError``. What it says stays true for a daemon that was begun anew or whose node was removed.
    """
    if await layout.nodes.find(node) is None:
        return True
    daemon = await layout.daemons.find(node)
    if daemon is not None and daemon.record.incarnation != incarnation:
        return True
    status = await layout.node_statuses.find(node)
    return status is not None and status.record.health in (NodeHealth.FENCE, NodeHealth.GONE)
