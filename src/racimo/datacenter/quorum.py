"""The members of the quorum store, as this room sees and changes them."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from racimo.datacenter.identity import read_identity
from racimo.datacenter.open_store import tls_files
from racimo.datacenter.voters import Member
from racimo.errors import AlreadyExists, Conflict, NotClustered, RacimoError
from racimo.store.members import EtcdMembers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.model.paths import NodePaths
    from racimo.store import members as store_members

HEALTH_S = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Health:
    """What one member says of itself; ``why`` it could not be asked, when it is not ``reachable``."""

    reachable: bool
    leader: bool = False
    term: int = 0
    version: str = ""
    why: str = ""


class Quorum(Protocol):
    """Raises ``StoreUnavailable`` when no member answers, or none may change the membership for want of a quorum."""

    async def members(self) -> list[Member]:
        """All members, from one that answers."""

    async def add_learner(self, peer_url: str) -> list[Member]:
        """Add a member without a vote; the members then. Nothing changes when it is one already."""

    async def promote(self, member: int) -> bool:
        """Give a learner its vote; False while it has not caught up."""

    async def remove(self, member: int) -> None:
        """Remove a member; nothing happens when it is gone already."""

    async def health(self) -> Mapping[int, Health]:
        """Every member asked directly, at once, each for at most a few seconds."""

    async def close(self) -> None:
        """Free what is held."""


class EtcdQuorum:
    """``Quorum`` by the members that ``node.json`` names at the time of each call."""

    def __init__(self, paths: NodePaths) -> None:
        self.paths = paths
        self._members: EtcdMembers | None = None
        self._endpoints: tuple[str, ...] = ()

    async def members(self) -> list[Member]:
        return [_member(member) for member in await (await self._etcd()).list()]

    async def add_learner(self, peer_url: str) -> list[Member]:
        etcd = await self._etcd()
        with contextlib.suppress(AlreadyExists):  # by an earlier try that broke off
            await etcd.add([peer_url], learner=True)
        return await self.members()

    async def promote(self, member: int) -> bool:
        try:
            await (await self._etcd()).promote(member)
        except Conflict:
            return False
        return True

    async def remove(self, member: int) -> None:
        await (await self._etcd()).remove(member)

    async def health(self) -> Mapping[int, Health]:
        members = await self.members()
        async with asyncio.TaskGroup() as group:
            asked = {member.id: group.create_task(self._ask(member)) for member in members}
        return {member: task.result() for member, task in asked.items()}

    async def close(self) -> None:
        if self._members is not None:
            await self._members.close()
            self._members = None

    async def _ask(self, member: Member) -> Health:
        if not member.client_url:
            return Health(reachable=False, why="it was never started")
        try:
            status = await (await self._etcd()).status(member.client_url, timeout=HEALTH_S)
        except RacimoError as error:
            return Health(reachable=False, why=error.why or error.what)
        leads = status.leader == member.id
        why = "" if status.leader else "it knows no leader"
        return Health(reachable=True, leader=leads, term=status.raft_term, version=status.version, why=why)

    async def _etcd(self) -> EtcdMembers:
        identity = read_identity(self.paths)
        endpoints = identity.endpoints
        if not identity.clustered or not endpoints:
            raise NotClustered(
                f"The node '{identity.name}' stands alone",
                why="it has no quorum store",
                todo="Run it on a node of a cluster",
            )
        if self._members is None or endpoints != self._endpoints:
            old, self._endpoints = self._members, endpoints
            self._members = EtcdMembers(endpoints, tls_files(self.paths))
            if old is not None:
                await old.close()
        return self._members


def _member(member: store_members.Member) -> Member:
    return Member(
        id=member.id,
        name=member.name,
        peer_url=member.peer_urls[0] if member.peer_urls else "",
        client_url=member.client_urls[0] if member.client_urls else "",
        learner=member.learner,
    )
