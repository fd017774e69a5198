"""The members of the etcd cluster behind the store: who they are, how they are, add, promote, remove, maintain."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.errors import AlreadyExists, Conflict, NotFound, Refused, StoreUnknown
from racimo.store.etcd_gateway import MEMBER_TIMEOUT, PAUSE, Done, Failure, Gateway, Json, unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from racimo.store.etcd_session import TlsFiles

MAINTENANCE_TIMEOUT = 60.0
"""Seconds that a member may take to defragment its database or to compact its history."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member. ``name`` and ``client_urls`` are empty until it has started once. A learner does not vote yet."""

    id: int
    name: str
    peer_urls: tuple[str, ...]
    client_urls: tuple[str, ...]
    learner: bool = False

    @property
    def started(self) -> bool:
        """Whether it has ever joined."""
        return bool(self.name)


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """What one member says of itself. Sizes in bytes; ``leader`` is a member's id, 0 when it knows none."""

    id: int
    version: str
    leader: int
    raft_term: int
    raft_index: int
    applied_index: int
    revision: int
    db_size: int
    db_size_in_use: int
    learner: bool = False
    errors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Alarm:
    """A standing alarm of a member: ``NOSPACE`` (its quota is used up, writes are refused) or ``CORRUPT``."""

    member: int
    kind: str


Members = list[Member]
Alarms = list[Alarm]


@dataclass(frozen=True, slots=True)
class _Step:
    """A change of the membership: what is sent, and how the list of members shows that it has happened."""

    what: str
    path: str
    body: Json = field(default_factory=dict)
    happened: Callable[[Members], Member | None] | None = None


class EtcdMembers:
    """Membership and upkeep, asked of any member at ``endpoints``; ``request_timeout`` in seconds bounds each call.

    A change whose answer was lost is looked up in the list of members before it is sent again, so none is made twice.
    Raises ``StoreUnavailable`` when no member answers, ``Conflict`` when the cluster is not ready for the change (a
    learner has not caught up), ``Refused`` when it would endanger the quorum.
    """

    def __init__(self, endpoints: Sequence[str], tls: TlsFiles | None, *, request_timeout: float = 10.0) -> None:
        self._gateway = Gateway(endpoints, tls, request_timeout=request_timeout)

    async def list(self) -> Members:
        """Every member, learners too."""
        answer = await self._gateway.ask("/v3/cluster/member/list", {})
        return [_member(entry) for entry in answer.get("members", [])]

    async def add(self, peer_urls: Sequence[str], learner: bool = True) -> Member:
        """Make room for a member reached at ``peer_urls``; start its etcd afterwards. ``AlreadyExists`` if known."""
        wanted = set(peer_urls)
        if any(wanted & set(member.peer_urls) for member in await self.list()):
            raise AlreadyExists(f"A member of the store already has one of the addresses {', '.join(peer_urls)}")
        body: Json = {"peerURLs": list(peer_urls), **({"isLearner": True} if learner else {})}
        step = _Step(
            f"The member at {', '.join(peer_urls)} could not be added",
            "/v3/cluster/member/add",
            body,
            lambda members: next((member for member in members if wanted & set(member.peer_urls)), None),
        )
        added = await self._change(step)
        if added is None:
            raise StoreUnknown(step.what, why="the members do not list it", todo="List the members and try again")
        return added

    async def promote(self, member: int) -> None:
        """Let a learner vote. ``Conflict`` while it has not caught up with the leader: try again later."""
        step = _Step(
            f"Member {member:x} could not be promoted",
            "/v3/cluster/member/promote",
            {"ID": str(member)},
            lambda members: next((m for m in members if m.id == member and not m.learner), None),
        )
        await self._change(step)

    async def remove(self, member: int) -> None:
        """Take a member out, dead or alive; none of that id is as good as removed."""
        step = _Step(
            f"Member {member:x} could not be removed",
            "/v3/cluster/member/remove",
            {"ID": str(member)},
            lambda members: None if any(m.id == member for m in members) else _gone(member),
        )
        await self._change(step)

    async def update_peer_urls(self, member: int, peer_urls: Sequence[str]) -> None:
        """Tell the cluster at which addresses the others reach a member from now on."""
        step = _Step(
            f"The addresses of member {member:x} could not be changed",
            "/v3/cluster/member/update",
            {"ID": str(member), "peerURLs": list(peer_urls)},
            lambda members: next((m for m in members if m.id == member and set(m.peer_urls) == set(peer_urls)), None),
        )
        await self._change(step)

    async def status(self, endpoint: str, *, timeout: float = MEMBER_TIMEOUT) -> MemberStatus:
        """What the member at this client URL says, within ``timeout`` seconds, else ``StoreUnavailable``."""
        answer = await self._at(endpoint, "/v3/maintenance/status", {}, timeout)
        header = answer.get("header", {})
        return MemberStatus(
            id=int(header.get("member_id", 0)),
            version=str(answer.get("version", "")),
            leader=int(answer.get("leader", 0)),
            raft_term=int(answer.get("raftTerm", 0)),
            raft_index=int(answer.get("raftIndex", 0)),
            applied_index=int(answer.get("raftAppliedIndex", 0)),
            revision=int(header.get("revision", 0)),
            db_size=int(answer.get("dbSize", 0)),
            db_size_in_use=int(answer.get("dbSizeInUse", 0)),
            learner=bool(answer.get("isLearner", False)),
            errors=tuple(str(error) for error in answer.get("errors", ())),
        )

    async def defragment(self, endpoint: str) -> None:
        """Give the free space in one member's database back to its disk; it serves nothing meanwhile."""
        await self._at(endpoint, "/v3/maintenance/defragment", {}, MAINTENANCE_TIMEOUT)

    async def alarms(self) -> Alarms:
        """The standing alarms."""
        answer = await self._gateway.ask("/v3/maintenance/alarm", {"action": "GET"})
        return [Alarm(int(entry.get("memberID", 0)), str(entry.get("alarm", ""))) for entry in answer.get("alarms", [])]

    async def disarm(self, alarm: Alarm) -> None:
        """Take an alarm back, once its cause is removed."""
        body = {"action": "DEACTIVATE", "memberID": str(alarm.member), "alarm": alarm.kind}
        await self._gateway.ask("/v3/maintenance/alarm", body)

    async def compact(self, revision: int) -> None:
        """Forget the history up to ``revision``; a watch from before it is lost."""
        deadline = asyncio.get_running_loop().time() + MAINTENANCE_TIMEOUT
        for endpoint in self._gateway.endpoints:
            left = deadline - asyncio.get_running_loop().time()
            try:
                await self._gateway.attempt(endpoint, "/v3/kv/compaction", _compaction(revision), left)
                return
            except Failure as failure:
                if failure.done is Done.REFUSED:
                    if "has been compacted" in failure.reason:
                        return
                    raise
                last = failure
        raise unavailable({last.endpoint: last.reason})

    async def close(self) -> None:
        """Close all connections."""
        await self._gateway.close()

    async def _at(self, endpoint: str, path: str, body: Json, timeout: float) -> Json:
        try:
            return await self._gateway.attempt(endpoint.rstrip("/"), path, body, timeout)
        except Failure as failure:
            raise unavailable({failure.endpoint: failure.reason}) from failure

    async def _change(self, step: _Step) -> Member | None:
        """Carry a change out once. Returns the member it is about, where it still is one."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._gateway.request_timeout
        failures: dict[str, str] = {}
        unsure = False
        while loop.time() < deadline:
            endpoint = self._gateway.endpoints[0]
            try:
                answer = await self._gateway.attempt(endpoint, step.path, step.body, MEMBER_TIMEOUT * 2)
                members = [_member(entry) for entry in answer.get("members", [])]
                return step.happened(members) if step.happened else None
            except Failure as failure:
                failures[endpoint] = failure.reason
                unsure = unsure or failure.done is Done.UNKNOWN
                self._gateway.avoid(endpoint)
                found = step.happened(await self.list()) if step.happened else None
                if found is not None:
                    return found
                if failure.done is Done.REFUSED and not unsure:
                    raise _refusal(step.what, failure) from failure
            await asyncio.sleep(PAUSE)
        error = unavailable(failures)
        raise StoreUnknown(step.what, why=error.why, todo=error.todo) if unsure else error


def _compaction(revision: int) -> Json:
    return {"revision": str(revision), "physical": True}


def _member(entry: Json) -> Member:
    return Member(
        id=int(entry["ID"]),
        name=str(entry.get("name", "")),
        peer_urls=tuple(entry.get("peerURLs", ())),
        client_urls=tuple(entry.get("clientURLs", ())),
        learner=bool(entry.get("isLearner", False)),
    )


def _gone(member: int) -> Member:
    return Member(member, "", (), ())


def _refusal(what: str, failure: Failure) -> NotFound | Conflict | Refused:
    reason = f"{failure.endpoint} answered: {failure.reason}"
    if "not found" in failure.reason:
        return NotFound(what, why=reason)
    if "in sync" in failure.reason or "too many learner" in failure.reason:
        return Conflict(what, why=reason, todo="Try again when the new member has caught up")
    return Refused(what, why=reason, todo="Bring the other members back first (racimo cluster status)")
