"""A node as the destination of a guest. Whoever gives a guest to a node compares the node's record as it was read here.

A node that leaves writes that down first and looks for guests of its own afterwards; so whatever was given to it was
given before it looked, and nothing is given to it later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.errors import Refused

if TYPE_CHECKING:
    from racimo.store.base import Compare
    from racimo.store.layout import Layout


async def taking_guests(layout: Layout, name: str, node_id: str = "") -> Compare:
    """The condition "the node takes guests still", for the transaction that gives it one.

    With ``node_id`` it must be that very machine. Raises ``Refused`` for a node that is gone, leaves, or is a witness.
    """
    held = await layout.nodes.find(name)
    if held is None:
        raise Refused(f"Node {name} takes no guests", why="it is no node of the datacenter", todo="Choose another node")
    if node_id and held.record.id != node_id:
        raise Refused(
            f"This machine is not the node {name} of the datacenter any more",
            why="that node was removed; another has its name by now",
            todo="Run here: racimo cluster leave --force; then join again",
        )
    if held.record.leaving or held.record.witness:
        why = "it is a witness" if held.record.witness else "it is leaving"
        raise Refused(f"Node {name} takes no guests", why=why, todo="Choose another node")
    return held.compare
