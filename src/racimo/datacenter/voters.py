"""Who votes: 1, 3 or 5 members of the quorum store, chosen from the nodes. Pure.

The invariant: no step leaves the store with fewer voters in touch than its quorum needs. A voter that is gone is
dropped before its successor comes; one that is merely surplus is dropped after the wanted ones are in.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from racimo.model.node import Node

PATIENCE_S = 600.0
"""How long a voter may be silent before a spare takes its place."""
IN_TOUCH_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A member of the store. It has no ``name`` until it was started for the first time."""

    id: int
    name: str
    peer_url: str
    client_url: str = ""
    learner: bool = False


@dataclass(frozen=True, slots=True)
class Choose:
    """Write who is to vote into the nodes' records."""

    voters: frozenset[str]


@dataclass(frozen=True, slots=True)
class Add:
    """Add ``node`` as a learner and start its member. Done by the node itself."""

    node: str


@dataclass(frozen=True, slots=True)
class Promote:
    """Make the learner of ``node`` a voter once it has caught up. Done by the node itself."""

    node: str
    member: int


@dataclass(frozen=True, slots=True)
class Drop:
    """Remove a member; ``node`` is empty when it belongs to none of the nodes. Done by the manager.

    ``serves``: clients may still know only this one, so they are given time to learn of the others first.
    """

    member: int
    node: str
    why: str
    serves: bool = False


Step = Choose | Add | Promote | Drop


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """What the plan is made from.

    ``members`` maps a node's name to its member; ``strays`` are members of no node. ``silent`` gives for how many
    seconds each node was not heard of (absent: not known, taken as in touch). Nodes that are leaving are not chosen.
    """

    nodes: Sequence[Node]
    members: Mapping[str, Member]
    strays: Sequence[Member] = ()
    silent: Mapping[str, float]
    patience: float = PATIENCE_S

    def in_touch(self, name: str) -> bool:
        """Whether the node was heard of just now."""
        return self.silent.get(name, 0.0) <= IN_TOUCH_S


def wanted_count(candidates: int) -> int:
    """How many voters for so many nodes and witnesses."""
    return 5 if candidates >= 5 else 3 if candidates >= 3 else 1


def choose_voters(view: View) -> frozenset[str]:
    """The nodes that are to vote. Those that do are kept, unless long silent while another is there to take over."""
    staying = [node for node in view.nodes if not node.leaving]
    plain = [node for node in staying if not node.witness]
    count = wanted_count(len(staying)) if len(plain) > 1 else min(1, len(plain))
    candidates = plain if count == 1 else staying

    def rank(node: Node) -> tuple[bool, bool, bool, bool, bool, float, str]:
        member = view.members.get(node.name)
        votes = member is not None and not member.learner
        lost = view.silent.get(node.name, 0.0) > view.patience
        return (lost, not votes, not view.in_touch(node.name), not node.voter, not node.witness, node.joined, node.name)

    return frozenset(node.name for node in sorted(candidates, key=rank)[:count])


def plan_voters(view: View) -> list[Step]:
    """The steps that may be taken now, most urgent first; empty when all is as it should be. Look again after each."""
    wanted = choose_voters(view)
    steps: list[Step] = []
    if wanted != {node.name for node in view.nodes if node.voter}:
        steps.append(Choose(wanted))
    steps += _drop_lost(view, wanted)
    if steps and isinstance(steps[-1], Drop):
        return steps
    learner = next(((name, member) for name, member in view.members.items() if member.learner), None)
    missing = sorted(name for name in wanted if name not in view.members and view.in_touch(name))
    if learner is not None:
        name, member = learner
        steps.append(Promote(name, member.id) if name in wanted else Drop(member.id, name, "it is to vote no more"))
    elif missing:
        steps.append(Add(missing[0]))
    elif all(name in view.members for name in wanted):
        steps += _drop_surplus(view, wanted)
    return steps


def _drop_lost(view: View, wanted: frozenset[str]) -> list[Step]:
    """The first member that belongs to no node, or to one that is silent and not wanted, if the others can spare it."""
    lost = [(stray, "") for stray in view.strays]
    lost += [(m, name) for name, m in sorted(view.members.items()) if name not in wanted and not view.in_touch(name)]
    for member, name in lost:
        if member.learner or may_drop(view, member):
            why = f"{name} is silent and another votes in its place" if name else "its node is not of the datacenter"
            return [Drop(member.id, name, why)]
    return []


def _drop_surplus(view: View, wanted: frozenset[str]) -> list[Step]:
    for name, member in sorted(view.members.items()):
        if name not in wanted and may_drop(view, member):
            return [Drop(member.id, name, "it is to vote no more", serves=True)]
    return []


def may_drop(view: View, member: Member) -> bool:
    """Whether those that remain without ``member`` have a quorum in touch."""
    rest = [name for name, other in view.members.items() if other.id != member.id and not other.learner]
    strays = sum(other.id != member.id and not other.learner for other in view.strays)
    in_touch = sum(view.in_touch(name) for name in rest)
    total = len(rest) + strays
    return total > 0 and in_touch >= total // 2 + 1
