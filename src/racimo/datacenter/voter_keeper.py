"""Carries out the plan of ``voters``: desired state, one change, look again. A crash anywhere heals on the next turn.

Every node keeps its own member: it joins as a learner, starts, is promoted when it has caught up, ends when dropped.
The manager alone writes who is to vote and drops members.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING

import structlog

from racimo.datacenter.etcd_member import EtcdMember, Membership, member_name
from racimo.datacenter.forget import sweep_ghosts
from racimo.datacenter.host import PEER_PORT, url
from racimo.datacenter.identity import Identity, read_identity, write_identity
from racimo.datacenter.learning import Learning
from racimo.datacenter.services import ETCD_UNIT
from racimo.datacenter.silence import Silence
from racimo.datacenter.voters import PATIENCE_S, Choose, Drop, Member, View, plan_voters
from racimo.errors import Conflict, RacimoError, StoreError
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from racimo.datacenter.host import Host
    from racimo.datacenter.quorum import Quorum
    from racimo.model.node import Node
    from racimo.store.base import Compare, Put, Store

log = structlog.get_logger()

TURN_S = 10.0
BUSY_TURN_S = 0.5
CHANGING_TURN_S = 1.0
LINGER_S = 3.0
"""How long a surplus voter stays, once the others vote: every node then learns of those within its next turn."""
SETTLED = "the voters are as they should be"


class VoterKeeper:
    """One node's part in keeping the voters. ``is_manager`` says whether this node may act on others' behalf now.

    ``patience``: for how many seconds a voter may be silent before a spare takes its place. ``on_endpoints`` is told
    the store's client URLs when they change; ``node.json`` is already rewritten then.
    """

    def __init__(
        self,
        host: Host,
        store: Store,
        quorum: Quorum,
        *,
        is_manager: Callable[[], bool],
        on_endpoints: Callable[[tuple[str, ...]], None] = lambda _: None,
        clock: Callable[[], float] = time.monotonic,
        patience: float = PATIENCE_S,
    ) -> None:
        self.host, self.layout, self.quorum = host, Layout(store), quorum
        self.is_manager, self.on_endpoints = is_manager, on_endpoints
        self.silence, self.clock = Silence(self.layout, quorum, clock), clock
        self.patience, self.learning = patience, Learning(clock)
        self._changing = False
        self._surplus: tuple[int, float] | None = None

    async def run(self) -> None:
        """Turn for ever: at each change of a node's record, and every ten seconds. Ends when cancelled."""
        said = ""
        while True:
            try:
                sentence = await self.turn()
            except (RacimoError, OSError) as error:
                sentence = f"the voters cannot be looked after now: {error}"
            if sentence != said:
                log.info("Voters", turn=sentence)
                said = sentence
            settled = CHANGING_TURN_S if self._changing else TURN_S
            await self._wait(settled if sentence == SETTLED else BUSY_TURN_S)

    async def turn(self) -> str:
        """One look, at most one change; says in one sentence what it did or waits for."""
        identity = read_identity(self.host.paths)
        nodes = {held.record.name: held for held in (await self.layout.nodes.all()).values()}
        members = await self.quorum.members()
        self.refresh_endpoints(members)
        by_node, strays = assign_members([held.record for held in nodes.values()], members)
        voting = {name for name, member in by_node.items() if not member.learner}
        self._changing = bool(strays) or voting != {name for name, held in nodes.items() if held.record.voter}
        if self.is_manager() and (sentence := await self.manage(members)):
            return sentence
        held = nodes.get(identity.name)
        if held is None or held.record.id != identity.id:
            return "this node is not of the datacenter any more"
        return await self.look_after_own(identity, held.record.voter, by_node.get(identity.name), members)

    async def manage(self, members: Sequence[Member] | None = None) -> str:
        """The manager's part of a turn: says what it did, or "" when there was nothing to do."""
        nodes = await self.layout.nodes.records()
        by_node, strays = assign_members(nodes, members or await self.quorum.members())
        silent = await self.silence.measure(nodes, by_node)
        view = View(nodes=nodes, members=by_node, strays=strays, silent=silent, patience=self.patience)
        for step in plan_voters(view):
            if isinstance(step, Choose):
                return await self._choose(step.voters)
            if isinstance(step, Drop):
                if step.serves and not self._lingered(step):
                    return f"waiting until all know that {step.node or 'a stray'} is to vote no more"
                await self.quorum.remove(step.member)
                return f"dropped the member of {step.node or 'no node'}: {step.why}"
        swept = await sweep_ghosts(self.layout)
        return f"swept up what was left of {', '.join(swept)}" if swept else ""

    async def look_after_own(
        self, identity: Identity, wanted: bool, own: Member | None, members: Sequence[Member]
    ) -> str:
        """Bring the member on this node one step nearer to what it is to be."""
        member = EtcdMember(self.host, identity)
        if own is None:
            if wanted:
                return await self._add(identity, member, members)
            if member.has_data or await member.active():
                await member.end()
                return "ended this node's member, which was dropped"
            return SETTLED
        if own.learner and wanted and (why := await self._given_up(own)):
            return await self._start_over(own, member, why)
        if not await member.active():
            # Only one that does not run is begun: it might get through meanwhile, and then lose what it was told. The
            # others take it for one that still knows that, and it ends at once, for ever.
            if not own.name and not member.has_data:
                await self._begin(identity, member, members)
                return "started this node's member for the first time"
            await member.resume()
            return "started this node's member again"
        if not own.name:
            return "this node's member is on its way up for the first time"
        if own.learner and wanted:
            if await self.quorum.promote(own.id):
                return "this node's member votes now"
            return "this node's member is catching up before it may vote"
        return SETTLED

    async def _given_up(self, own: Member) -> str:
        """Why the learner is not waited for any more; empty while it is."""
        health = (await self.quorum.health()).get(own.id)
        if not self.learning.out_of_patience(own.id, answers=health is not None and health.reachable):
            return ""
        return health.why if health and health.why else "it does not answer"

    async def _start_over(self, own: Member, member: EtcdMember, why: str) -> str:
        """Drop the learner, which costs nothing as it has no vote; the next turn adds it anew, without data."""
        log.warning(
            "This node's member does not come to serve: it is dropped, and added anew",
            silent_s=self.learning.patience, why=why, it_logged=await member.said(),
        )  # fmt: skip
        await self.quorum.remove(own.id)
        await member.end()
        self.learning.started_over()
        return f"dropped this node's member, which did not come to serve ({why}), to add it anew"

    async def _add(self, identity: Identity, member: EtcdMember, members: Sequence[Member]) -> str:
        if any(other.learner for other in members):
            return "waiting until another node's learner votes: one learns at a time"
        await member.host.services.stop(ETCD_UNIT)
        member.put_data_aside()  # before it is added: what is found beside a member that was not started yet is its own
        members = await self.quorum.add_learner(url(identity.address, PEER_PORT))
        await self._begin(identity, member, members)
        return "added this node as a learner and started its member"

    async def _begin(self, identity: Identity, member: EtcdMember, members: Sequence[Member]) -> None:
        own = url(identity.address, PEER_PORT)
        peers = {other.name or f"unnamed-{other.id:x}": other.peer_url for other in members if other.peer_url != own}
        peers[member_name(identity)] = own
        await member.begin(Membership(peers=peers, existing=True, token="racimo"))  # noqa: S106

    async def _choose(self, voters: frozenset[str]) -> str:
        compares: list[Compare] = []
        puts: list[Put] = []
        for name, held in (await self.layout.nodes.all()).items():
            compares.append(held.compare)
            if held.record.voter != (name in voters):
                puts.append(self.layout.nodes.put(name, dataclasses.replace(held.record, voter=name in voters), held))
        if await self.layout.store.txn(compares, puts) is None:
            raise Conflict("The nodes changed while the voters were chosen", todo="Nothing: it is tried again")
        return f"chose as voters: {', '.join(sorted(voters))}"

    def _lingered(self, step: Drop) -> bool:
        now = self.clock()
        if self._surplus is None or self._surplus[0] != step.member:
            self._surplus = (step.member, now)
        return now - self._surplus[1] >= LINGER_S

    def refresh_endpoints(self, members: Sequence[Member]) -> None:
        """Write into ``node.json`` where the store serves clients, if that has changed."""
        identity, endpoints = read_identity(self.host.paths), endpoints_of(members)
        if identity.clustered and endpoints and set(endpoints) != set(identity.endpoints):
            write_identity(self.host.paths, dataclasses.replace(identity, endpoints=endpoints))
            self.on_endpoints(endpoints)

    async def _wait(self, seconds: float) -> None:
        """Until a node's record changes, or ``seconds`` have passed."""
        layout = self.layout
        with contextlib.suppress(TimeoutError, StoreError):
            async with asyncio.timeout(seconds):
                revision = await layout.store.revision()
                async with contextlib.aclosing(layout.store.watch(layout.nodes.prefix, revision)) as changes:
                    async for _ in changes:
                        return
        if seconds < 1:
            await asyncio.sleep(seconds)


def assign_members(nodes: Sequence[Node], members: Sequence[Member]) -> tuple[dict[str, Member], list[Member]]:
    """Each node's member, known by the peer URL; and those of no node."""
    urls = {url(node.address, PEER_PORT): node.name for node in nodes}
    by_node = {urls[member.peer_url]: member for member in members if member.peer_url in urls}
    return by_node, [member for member in members if member.peer_url not in urls]


def endpoints_of(members: Sequence[Member]) -> tuple[str, ...]:
    """The client URLs of the voters, in order."""
    return tuple(sorted(member.client_url for member in members if member.client_url and not member.learner))
