"""``racimo cluster status``: the nodes, who votes, whether there is a quorum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.datacenter.identity import AFTER_REMOVAL
from racimo.datacenter.quorum import Health
from racimo.datacenter.standalone import SETTINGS
from racimo.datacenter.voter_keeper import assign_members
from racimo.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from racimo.datacenter.identity import Identity
    from racimo.datacenter.quorum import Quorum
    from racimo.datacenter.voters import Member
    from racimo.model.node import Node
    from racimo.store.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberState:
    """One node. ``voter`` and ``learner`` as the store has it, ``wanted`` as the plan is; ``why`` it is not reachable.

    ``reachable`` is about its member of the store; a node without one is not asked and counts as reachable.
    """

    name: str
    id: str
    address: str
    witness: bool = False
    voter: bool = False
    learner: bool = False
    wanted: bool = False
    reachable: bool = True
    leader: bool = False
    term: int = 0
    version: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterStatus:
    """The whole. A node that stands alone has a quorum of itself, without members. ``why`` there is no quorum."""

    id: str
    name: str
    clustered: bool
    quorum: bool
    own: str
    members: tuple[MemberState, ...] = ()
    votes_expected: int = 0
    votes_needed: int = 0
    votes_present: int = 0
    why: str = ""
    removed: str = ""
    """Why this machine is no node of the datacenter any more, and what to do; empty where it is one."""


async def cluster_status(identity: Identity, layout: Layout, quorum: Quorum) -> ClusterStatus:
    """The status as seen from here; told without quorum too, as far as any member answers."""
    if not identity.clustered:
        datacenter = await layout.datacenter.get(SETTINGS)
        alone = MemberState(name=identity.name, id=identity.id, address=identity.address)
        return ClusterStatus(
            id=datacenter.id, name=datacenter.name, clustered=False, quorum=True, own=identity.name, members=(alone,)
        )
    try:
        members, health = await quorum.members(), await quorum.health()
    except StoreError as error:
        members, health = [], {}
        reason = error.why or error.what
    else:
        reason = ""
    voters = [member for member in members if not member.learner]
    needed = len(voters) // 2 + 1
    present = sum(health.get(member.id, Health(reachable=False)).reachable for member in voters)
    try:
        datacenter, nodes = await layout.datacenter.get(SETTINGS), await layout.nodes.records()
    except StoreError as error:
        return ClusterStatus(
            id="", name="", clustered=True, quorum=False, own=identity.name,
            members=tuple(_bare(member, health.get(member.id)) for member in members),
            votes_expected=len(voters), votes_needed=needed, votes_present=present,
            why=reason or error.why or error.what,
        )  # fmt: skip
    return ClusterStatus(
        id=datacenter.id, name=datacenter.name, clustered=True, quorum=True, own=identity.name,
        members=_states(nodes, members, health),
        votes_expected=len(voters), votes_needed=needed, votes_present=present,
        removed=_removed(identity, nodes),
    )  # fmt: skip


def _removed(identity: Identity, nodes: Sequence[Node]) -> str:
    if any(node.id == identity.id for node in nodes):
        return ""
    return f"this machine does nothing: {identity.removed}. {AFTER_REMOVAL}"


def _states(nodes: Sequence[Node], members: Sequence[Member], health: Mapping[int, Health]) -> tuple[MemberState, ...]:
    by_node, strays = assign_members(nodes, members)
    found = [_state(node, by_node.get(node.name), health) for node in nodes]
    return (*found, *(_bare(stray, health.get(stray.id)) for stray in strays))


def _state(node: Node, member: Member | None, health: Mapping[int, Health]) -> MemberState:
    own = health.get(member.id) if member else None
    own = own or Health(reachable=member is None)
    return MemberState(
        name=node.name,
        id=node.id,
        address=node.address,
        witness=node.witness,
        voter=member is not None and not member.learner,
        learner=member is not None and member.learner,
        wanted=node.voter,
        reachable=own.reachable,
        leader=own.leader,
        term=own.term,
        version=own.version,
        why=own.why,
    )


def _bare(member: Member, own: Health | None) -> MemberState:
    """A member whose node is not known now: by its own name, which begins with the node's."""
    own = own or Health(reachable=False)
    address = member.peer_url.removeprefix("https://").rpartition(":")[0].strip("[]")
    return MemberState(
        name=member.name.rpartition("-")[0] or member.name,
        id="",
        address=address,
        voter=not member.learner,
        learner=member.learner,
        reachable=own.reachable,
        leader=own.leader,
        term=own.term,
        version=own.version,
        why=own.why,
    )
