"""Which nodes still show life, on this node's own monotonic clock.

A node's count starts when its newest heartbeat is *seen*, which is after it was sent; so it never ends before the
holder's lease. Having been out of touch with the store delays what is expired, never hastens it: the count itself
stays right (an unchanged heartbeat was not renewed), but nodes get time to come back before they are fenced for an
outage that struck all. A take-over still compares the heartbeat's revision, so a wrong view costs a failed transaction
at most.

A node whose lease goes on without the store (``racimo.ha.failsafe``) has asked every observer that its heartbeat names:
each counts anew from when it was asked, as from a heartbeat. An observer that the heartbeat does not name was not
asked, so the node never expires for it.

A fence device may be used sooner than the lease runs out, so it takes more to use one: the node was seen to show life
by this very observer, and any pause of the store, however short, is followed by time in which a node that lives can
show it. What is asked for is three beats missed while those of this node were acknowledged. That the view may lag
behind does no harm there: the order compares the heartbeat.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.ha.states import Sighting
from racimo.ha.timing import DRIFT, LONGEST, SLACK_S, Profile, profile_named
from racimo.store.base import ABSENT

PAUSE_BEATS = 1.75
"""A silence of the store longer than so many beats is a pause: beats of any node may have been lost in it."""

AFTER_PAUSE_S = 2.0
"""After a pause a node that lives shows it within this time, or two beats: a request that was lost is sent again. After
one of half a lease or more it has half a lease."""

if TYPE_CHECKING:
    from racimo.model.ha import Heartbeat


def names(heartbeat: Heartbeat, node: str) -> bool:
    """Whether ``node`` may count by ``heartbeat``: it is asked before that lease is extended, or nobody ever is."""
    return not heartbeat.peers or node in heartbeat.peers


@dataclass(slots=True)
class _Seen:
    revision: int
    since: float
    profile: Profile
    counts: bool = True
    """Whether this observer may count by the heartbeat: it is asked before that lease is extended."""
    alive: bool = False
    """Whether a heartbeat came while we looked; the first that is seen may have been there for long."""
    known: bool = False
    """Whether one ever came, though it may be gone by now."""


class Observer:
    """Sees heartbeats; times are seconds on the clock of the caller. ``beat`` is the own node's, in seconds."""

    def __init__(self, beat: float, now: float) -> None:
        self.beat = beat
        self._seen: dict[str, _Seen] = {}
        self._promised: dict[str, float] = {}
        self._contact, self._back, self._gap = now, now, 0.0
        self._answered, self._resumed, self._pause = now, now, 0.0

    def contact(self, now: float) -> None:
        """The store answered, and what it said is in our view. After a gap all nodes get time to come back."""
        gap = now - self._contact
        if gap > self._longest_silence:
            self._back, self._gap = now, gap
        self._contact = now

    def answered(self, now: float) -> None:
        """The store acknowledged this node's own heartbeat. After a pause of that no device is used for a while."""
        pause = now - self._answered
        if pause > PAUSE_BEATS * self.beat:
            self._resumed, self._pause = now, pause
        self._answered = now

    @property
    def _longest_silence(self) -> float:
        return 3 * self.beat

    def in_touch(self, now: float) -> bool:
        """Whether the store was heard of lately, so that silence of a node means something."""
        return now - self._contact <= self._longest_silence

    def see(self, node: str, revision: int, profile: str, now: float, *, counts: bool = True) -> None:
        """What stands in the store as ``node``'s heartbeat now; ``ABSENT`` as revision if there is none.

        ``counts``: the heartbeat names this observer's node among those that are asked, or nobody is.
        """
        seen = self._seen.get(node)
        if seen is not None and seen.revision == revision:
            return
        last = seen.profile if seen is not None else LONGEST
        profile_seen = last if revision == ABSENT else profile_named(profile)
        alive = seen is not None and revision != ABSENT
        known = alive or (seen is not None and seen.known)
        self._seen[node] = _Seen(revision, now, profile_seen, counts, alive=alive, known=known)

    def promise(self, node: str, lease: float, now: float) -> None:
        """Take ``node`` for alive until a lease of ``lease`` seconds, sent for before ``now``, has provably run out."""
        until = now + lease * DRIFT + SLACK_S
        self._promised[node] = max(until, self._promised.get(node, until))

    def forget(self, node: str) -> None:
        """The node is neither a member nor has it a heartbeat."""
        self._seen.pop(node, None)

    def nodes(self) -> list[str]:
        """The nodes that are looked for."""
        return list(self._seen)

    def revision(self, node: str) -> int | None:
        """The revision of the heartbeat that the count is about; None if the node was never looked for."""
        seen = self._seen.get(node)
        return seen.revision if seen else None

    def sighting(self, node: str, now: float) -> Sighting | None:
        """What ``decide`` is to know; None if the node was never looked for."""
        seen = self._seen.get(node)
        if seen is None:
            return None
        suspect = seen.since + seen.profile.suspect
        if not self.in_touch(now) or not seen.counts:
            return Sighting(seen.since, suspect, seen.revision, math.inf, known=seen.known)
        promised = self._promised.get(node, -math.inf)
        expires = max(seen.since + seen.profile.expiry, self._comes_back_by(seen.profile), promised)
        if self._gap:
            suspect = max(suspect, self._back + seen.profile.suspect)
        fence_from = max(promised, self._fence_from(seen, now))
        return Sighting(seen.since, suspect, seen.revision, expires, fence_from, known=seen.known)

    def _fence_from(self, seen: _Seen, now: float) -> float:
        if not seen.alive or now - self._answered > PAUSE_BEATS * self.beat:
            return math.inf
        half = seen.profile.lease / 2
        grace = half if self._pause >= half else max(AFTER_PAUSE_S, 2 * seen.profile.beat)
        return max(seen.since + seen.profile.suspect, self._resumed + grace)

    def expired(self, node: str, now: float) -> bool:
        """Whether the node's lease has provably run out."""
        sighting = self.sighting(node, now)
        return sighting is not None and now >= sighting.expires

    def sightings(self, now: float) -> dict[str, Sighting]:
        """All nodes that are looked for."""
        found = {node: self.sighting(node, now) for node in self._seen}
        return {node: sighting for node, sighting in found.items() if sighting is not None}

    def _comes_back_by(self, profile: Profile) -> float:
        """After an outage that outlasted a lease a full period, after a shorter one what the profile grants."""
        if not self._gap:
            return -math.inf
        return self._back + (profile.expiry if self._gap >= profile.lease else profile.grace)
