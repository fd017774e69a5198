"""A request for another node is handed on to it as it came, and its answer handed back as it comes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.api.peers import FORWARDED_HEADER, PREFIX, USER_HEADER
from racimo.api.responses import Reply, reason_phrase
from racimo.errors import Conflict

if TYPE_CHECKING:
    from racimo.api.incoming import Incoming
    from racimo.api.peers import Peers

GRACE = 5.0
"""Seconds longer than the row's own time-out: the node that answers should be the one that says it took too long."""


async def forward(peers: Peers, node: str, incoming: Incoming, timeout: float) -> Reply:
    """Ask ``node`` in the name of who asked us. Raises ``Conflict`` for a loop, ``NotFound``, ``Unreachable``."""
    if incoming.forwarded_by:
        raise Conflict(
            f"Node '{incoming.forwarded_by}' forwarded a request for '{node}' to '{peers.node_name}'",
            why="a request is forwarded once: the nodes disagree about who is who",
            todo="Compare the addresses of the nodes: racimo node list",
        )
    headers = {USER_HEADER: incoming.who.user, FORWARDED_HEADER: peers.node_name}
    if incoming.content_type:
        headers["Content-Type"] = incoming.content_type
    prefix = PREFIX.replace("json", "extjs") if incoming.extjs else PREFIX
    body = incoming.upload.pieces() if incoming.upload else incoming.body or None
    received = await peers.send(
        node, incoming.method, prefix + incoming.path, incoming.query,
        headers=headers, body=body, timeout=timeout + GRACE,
    )  # fmt: skip
    return Reply(received.status, reason_phrase(received.reason), received.body, received.content_type)
