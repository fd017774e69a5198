"""The times of high availability: how often a node shows life, how long a lease lasts, when a node counts as dead.

Standard library only. The lease file's format is in ``racimo.model.lease``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

SECOND_NS = 1_000_000_000

GUARD_TICK_S = 0.05
"""How often the guard looks at the lease."""

GUARD_REPORT_S = 0.2
"""How often the guard says that it is alive."""

GUARD_SILENT_S = 3.0
"""A guard that has not reported for so long is taken for dead: no lease is renewed until it is back."""

DRIFT = 1.05
"""An observer's clock may run this much faster than the holder's."""

SLACK_S = 0.5


@dataclass(frozen=True, slots=True)
class Profile:
    """One set of times, in seconds."""

    name: str
    beat: float
    """Between two heartbeats."""
    lease: float
    """How long a lease lasts, from before its heartbeat was sent."""
    kill_margin: float
    """How long before the lease's end the node's HA guests are killed."""
    watchdog: float
    """The hardware watchdog's time-out."""

    @property
    def expiry(self) -> float:
        """An observer that has seen no newer heartbeat for so long knows that the holder's lease has run out."""
        return self.lease * DRIFT + SLACK_S

    @property
    def suspect(self) -> float:
        """After so long without a heartbeat the node is called unknown."""
        return self.beat * 3

    @property
    def write_timeout(self) -> float:
        """How long one heartbeat's write may take before the next is tried.

        A member of the store that follows a leader that is gone loses what it is sent. With a short lease there is no
        time to wait for that: it is sent again while the others still elect a leader.
        """
        return self.lease / 4 if self.beat >= 1.0 else self.beat * 1.5

    @property
    def grace(self) -> float:
        """How long nodes may take to show life again after an outage of the store that was shorter than a lease."""
        return self.lease / 2 if self.beat >= 1.0 else self.beat * 3

    @property
    def echo_timeout(self) -> float:
        """How long an own heartbeat that was acknowledged may be missing in the view before that is read anew."""
        return self.beat * 2 if self.beat >= 1.0 else self.beat * 0.8

    @property
    def lease_ns(self) -> int:
        """``lease`` in nanoseconds."""
        return round(self.lease * SECOND_NS)

    @property
    def kill_margin_ns(self) -> int:
        """``kill_margin`` in nanoseconds."""
        return round(self.kill_margin * SECOND_NS)

    @property
    def watchdog_ns(self) -> int:
        """``watchdog`` in nanoseconds."""
        return round(self.watchdog * SECOND_NS)


PROFILES = {
    profile.name: profile
    for profile in (
        Profile("default", beat=1.0, lease=10.0, kill_margin=3.0, watchdog=5.0),
        Profile("fast", beat=0.5, lease=5.0, kill_margin=1.5, watchdog=2.0),
        Profile("patient", beat=2.0, lease=30.0, kill_margin=8.0, watchdog=10.0),
    )
}


def longest_watchdog(wanted_s: float) -> float:
    """A watchdog that cannot count ``wanted_s``, a profile's time-out, may take so many seconds at most.

    It is fed only while the lease has more left than its time-out, so the beats must bring it above that in time.
    """
    return min(
        (p.lease - p.kill_margin for p in PROFILES.values() if p.watchdog == wanted_s),
        default=float(math.ceil(wanted_s)),
    )


def shorter(one: Profile, other: Profile) -> Profile:
    """The one with the shorter lease."""
    return min(one, other, key=lambda profile: profile.lease)


LONGEST = max(PROFILES.values(), key=lambda profile: profile.lease)


def profile_named(name: str) -> Profile:
    """The profile ``name``; for an unknown one (a newer version's) the one with the longest lease, which is safe."""
    return PROFILES.get(name, LONGEST)
