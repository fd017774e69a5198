"""The door of this room: what the API and the node's daemon call."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.datacenter.admit import handle_check, handle_commit
from racimo.datacenter.backup import back_up
from racimo.datacenter.candidate import JoinOrder
from racimo.datacenter.create import CreateRequest, create, tidy_up
from racimo.datacenter.identity import Identity, read_identity
from racimo.datacenter.join import finish_join, join
from racimo.datacenter.join_client import HttpsJoinClient, JoinClient
from racimo.datacenter.join_text import LIFE_S, new_join_text
from racimo.datacenter.leave import finish_leave, leave
from racimo.datacenter.open_store import follower, open_store
from racimo.datacenter.quorum import EtcdQuorum
from racimo.datacenter.remove import RemoveRequest, remove
from racimo.datacenter.standalone import certify
from racimo.datacenter.status import ClusterStatus, cluster_status
from racimo.datacenter.voter_keeper import VoterKeeper
from racimo.errors import Unauthorised
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from racimo.datacenter.candidate import Renumber
    from racimo.datacenter.host import Host
    from racimo.datacenter.join_message import JoinCheck, JoinGrant, JoinRequest
    from racimo.datacenter.join_text import JoinText
    from racimo.datacenter.quorum import Quorum
    from racimo.model.node import NodeFacts
    from racimo.store.base import Store
    from racimo.task.operation import Report


def connect_by_https(text: JoinText) -> JoinClient:
    """The way to a member that a join text names."""
    return HttpsJoinClient(text.addresses, text.fingerprint)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What this room needs of others. ``facts`` of this machine; ``renumber`` renames a guest's volumes.

    ``is_manager``: whether this node may act for all now (the HA manager). ``changed`` is awaited when the node's store
    or identity is another one: go over to the store given, and load ``node.json`` and the certificates anew.
    """

    facts: Callable[[], Awaitable[NodeFacts]]
    renumber: Renumber
    is_manager: Callable[[], bool]
    changed: Callable[[Store, Identity], Awaitable[None]]
    connect: Callable[[JoinText], JoinClient] = connect_by_https


class DatacenterService:
    """Membership of this node, over the store that it uses now. One change at a time."""

    def __init__(self, host: Host, store: Store, wiring: Wiring) -> None:
        self.host, self.store, self.wiring = host, store, wiring
        self.quorum: Quorum = EtcdQuorum(host.paths)
        self._changing = asyncio.Lock()

    @property
    def identity(self) -> Identity:
        """Who this node is now."""
        return read_identity(self.host.paths)

    @property
    def layout(self) -> Layout:
        """The records."""
        return Layout(self.store)

    async def status(self) -> ClusterStatus:
        """Nodes, votes, quorum; told without quorum too."""
        return await cluster_status(self.identity, self.layout, self.quorum)

    async def create(self, request: CreateRequest, report: Report) -> None:
        """Make this node the first of a cluster. Raises ``Refused``, ``Conflict``, ``BadParameter``."""
        async with self._changing:
            await self._go_over(await create(self.host, self.store, request, report))

    async def join_info(self, *, life: float = LIFE_S, witness: bool = False) -> str:
        """A one-time join text, good for ``life`` seconds."""
        return await new_join_text(self.layout, self.host.now(), life=life, witness=witness)

    async def join(self, text: str, address: str, report: Report, *, renumber: bool = False) -> None:
        """Join the cluster of ``text`` with this node's guests."""
        async with self._changing:
            order = JoinOrder(text=text, address=address, facts=await self.wiring.facts(), renumber=renumber)
            wiring = self.wiring
            await self._go_over(await join(self.host, self.store, order, wiring.connect, wiring.renumber, report))

    async def check_join(self, request: JoinRequest) -> JoinCheck:
        """A machine asks whether it may join."""
        return await handle_check(self.layout, self.identity.name, request, self.host.now())

    async def commit_join(self, request: JoinRequest) -> JoinGrant:
        """A machine joins."""
        return await handle_commit(self.layout, self.identity.name, request, self.host.now())

    async def leave(self, report: Report, *, force: bool = False) -> None:
        """Leave the cluster; this node stands alone then."""
        async with self._changing:
            await self._go_over(await leave(self.host, self.store, self.quorum, report, force=force))

    async def remove(self, request: RemoveRequest, report: Report) -> None:
        """Remove a dead node, or a witness."""
        await remove(self.layout, self.quorum, self.identity.name, request, report)

    async def backup(self) -> Path:
        """Back the store up now, to this node's disk."""
        return await back_up(self.host, self.store, self.identity.name)

    async def check_peer(self, node: str, node_id: str) -> None:
        """Whether a certificate's subject is a node of the datacenter today. Raises ``Unauthorised``."""
        held = await self.layout.nodes.find(node)
        if held is None or held.record.id != node_id:
            raise Unauthorised(
                f"The certificate of '{node}' is not accepted", why="it is no node of the datacenter, or not any more",
                todo="Run there: racimo cluster leave --force; then join again",
            )  # fmt: skip

    async def renew(self) -> bool:
        """Renew the node's certificate when less than a third of its life is left; true when servers must reload it."""
        return await certify(self.host, self.store, self.identity)

    @asynccontextmanager
    async def keeping_voters(self) -> AsyncIterator[VoterKeeper]:
        """Look after the voters in the background while inside; only on a node of a cluster."""
        keeper = VoterKeeper(
            self.host, self.store, self.quorum, is_manager=self.wiring.is_manager, on_endpoints=follower(self.store)
        )
        async with asyncio.TaskGroup() as group:
            running = group.create_task(keeper.run(), name="voters")
            try:
                yield keeper
            finally:
                running.cancel()

    async def close(self) -> None:
        """Free what is held; the store is its owner's."""
        await self.quorum.close()

    async def _go_over(self, store: Store) -> None:
        self.store = store
        await self.wiring.changed(store, self.identity)


async def open_node(host: Host) -> tuple[Store, Identity]:
    """At the start of a daemon: finish or undo what a crash left half done, then open the node's store.

    Sees that the node's certificate fits as far as the store answers; a node of a cluster without quorum starts too.
    """
    await tidy_up(host)
    finish_join(host)
    await finish_leave(host)
    identity = read_identity(host.paths)
    store = open_store(host.paths, identity)
    if not identity.clustered:
        await certify(host, store, identity)
    return store, identity
