"""Leases that go on while the store has no quorum: extended by the word of *all* other members, never by that of some.

An extension is a heartbeat that every observer has seen. The node asks all members that its heartbeats name, in one
round; each that is out of touch with the store promises to take the node for alive until a lease sent for now would
have run out on its own clock. Only when all have promised the lease lasts from before the round was begun. So for each
observer that may count the node as expired, its count ends after the lease, as with heartbeats. Three rules keep it so
at the edges (docs/architecture/ha.md):

* a lease that has run out is never extended: whoever decided to fence the node since did so rightly, however late the
  decision reaches the store;
* all that were named in a heartbeat which may stand in the store are asked, and nobody else counts by that heartbeat;
* the extension is as long as the shortest of the profiles that observers may count by, so that one that was started
  anew, and knows nothing of its promise, still waits long enough.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import structlog

from racimo.ha.timing import LONGEST, SECOND_NS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.ha.clock import Clock
    from racimo.ha.heartbeat import Holder
    from racimo.ha.observer import Observer
    from racimo.ha.timing import Profile
    from racimo.ha.view import View
    from racimo.model.node import Node

log = structlog.get_logger()

MOST_MEMBERS = 64
"""In a larger datacenter leases are not extended: each node would have to ask all others every few seconds."""


@dataclass(frozen=True, slots=True)
class Question:
    """May the lease of ``node`` go on without the store, for ``lease_s`` seconds from before this was sent?"""

    node: str
    node_id: str
    lease_s: float


@dataclass(frozen=True, slots=True)
class Answer:
    """``promised``: nobody here counts the node as expired for that long. ``members``: whom the node that answers
    knows, by name; ``node_id``: its own. ``why``: the reason of a refusal.
    """

    node_id: str
    promised: bool
    why: str = ""
    members: tuple[str, ...] = ()


class Neighbours(Protocol):
    """The way to the other members, past the store."""

    async def ask(self, member: Node, question: Question) -> Answer:
        """One question to one member, and its answer to this question. Raises ``OSError`` or ``TimeoutError``."""


class FailSafe:
    """Both sides on one node: extends the own lease, and promises others theirs."""

    def __init__(self, node: str, view: View, holder: Holder, observer: Observer, clock: Clock) -> None:
        self.node, self.view, self.holder, self.observer, self.clock = node, view, holder, observer, clock
        self.neighbours: Neighbours | None = None
        """Without, leases are never extended."""
        self.extended_ns = 0
        """When the round that extended the lease last was begun, on CLOCK_BOOTTIME; 0 if never."""
        self.why = ""
        """Why the last round failed; empty if it did not."""
        self._extending = False

    def peers(self) -> tuple[str, ...]:
        """The members that heartbeats name: all that run HA, this node included. Empty where none is ever asked."""
        members = self._members()
        if self.neighbours is None or self.node not in members or len(members) > MOST_MEMBERS:
            return ()
        return tuple(sorted(members))

    def _members(self) -> dict[str, Node]:
        return {name: held.record for name, held in self.view.nodes.items() if not held.record.witness}

    # asking

    async def run(self) -> None:
        """Ask, for ever, whenever the lease is not renewed by the store."""
        while True:
            await self.clock.sleep(self.holder.profile().beat / 2)
            await self.look()

    async def look(self) -> None:
        """Ask if it is time to, and say when it no longer is."""
        if self._needed():
            await self.round()
        elif self._extending and self.holder.renewed_ns() > self.extended_ns:
            self._extending = False
            log.info("the store answers again: the lease goes on by heartbeats")

    @property
    def extends(self) -> bool:
        """Whether the lease goes on by promises now."""
        return self._extending

    def _needed(self) -> bool:
        """A third of the time until the guests are killed has passed without a renewal."""
        standing = self.holder.extendable()
        if self.neighbours is None or standing is None:
            return False
        return self.holder.left_s() < (standing[0].lease - standing[0].kill_margin) * 2 / 3

    async def round(self) -> bool:
        """Ask all members at once, and extend the lease if all have promised. Whether it was."""
        standing, sent = self.holder.extendable(), self.clock.boottime_ns()
        if standing is None or self.neighbours is None:
            return False
        profile, named = standing
        members = self._members()
        why = f"{', '.join(sorted(named - members.keys()))} cannot be asked" if named - members.keys() else ""
        if not why:
            why = await self._refused(self.neighbours, members, profile)
        now = self.holder.extendable()
        if not why and (now is None or not now[1] | self._members().keys() <= members.keys()):
            why = "the lease has run out, or the members have changed, while they were asked"
        if not why and self.holder.extend(sent, profile):
            self.extended_ns = sent
        self._tell(why)
        return not why

    def _tell(self, why: str) -> None:
        """Say once what is so now."""
        begun = not self._extending or self.why
        if why and why != self.why:
            log.warning("the lease is not extended without the store", why=why, lease_left_s=self.holder.left_s())
        elif not why and begun:
            log.warning("the store does not answer, and all members promise: the lease is extended")
        self.why, self._extending = why, not why

    async def _refused(self, neighbours: Neighbours, members: dict[str, Node], profile: Profile) -> str:
        """Why not all have promised; empty if all have."""
        own = members.get(self.node)
        question = Question(self.node, own.id if own else "", profile.lease)
        others = [member for name, member in sorted(members.items()) if name != self.node]
        limit = min(2 * profile.beat, max(profile.beat, self.holder.left_s() / 2))
        async with asyncio.TaskGroup() as group:
            asked = [group.create_task(_ask(neighbours, member, question, limit, members)) for member in others]
        return "; ".join(refusal for task in asked if (refusal := task.result()))

    # answering

    def answer(self, question: Question) -> Answer:
        """Promise, unless the store may be reached from here: who manages acts only while it is in touch with it."""
        members, now = self._members(), self.clock.monotonic()
        own, asker = members.get(self.node), members.get(question.node)
        own_id, known = own.id if own else self.holder.node_id, tuple(sorted(members))
        why = ""
        if self.view.revision and (asker is None or asker.id != question.node_id):
            why = f"{question.node} is not known here as a member"
        elif self.observer.in_touch(now):
            why = "it reaches the store, or did a moment ago"
        elif not 0 < question.lease_s <= LONGEST.lease:
            why = f"a lease of {question.lease_s:g} s is longer than any known here"
        if why:
            return Answer(own_id, False, why, known)
        self.observer.promise(question.node, question.lease_s, now)
        return Answer(own_id, True, "", known)

    def extended_s_ago(self) -> float | None:
        """Seconds since the round that last extended the lease was begun; None if there was none."""
        if not self.extended_ns:
            return None
        return round((self.clock.boottime_ns() - self.extended_ns) / SECOND_NS, 1)


async def _ask(
    neighbours: Neighbours, member: Node, question: Question, limit_s: float, members: Mapping[str, Node]
) -> str:
    """Why ``member`` has not promised; empty if it has."""
    try:
        async with asyncio.timeout(limit_s):
            answer = await neighbours.ask(member, question)
    except TimeoutError:
        return f"{member.name} did not answer within {limit_s:.1f} s"
    except OSError as error:
        return f"{member.name} cannot be reached: {error}"
    if answer.node_id != member.id:
        return f"at {member.address} answers another machine than {member.name}"
    if unknown := sorted(set(answer.members) - members.keys()):
        return f"{member.name} knows {', '.join(unknown)}, unknown here"
    return "" if answer.promised else f"{member.name} refuses: {answer.why}"
