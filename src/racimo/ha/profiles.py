"""Which set of times a datacenter can live with: ``fast`` only where the store takes heartbeats quickly enough."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.errors import BadParameter, Refused
from racimo.ha.timing import PROFILES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.ha.timing import Profile
    from racimo.model.ha import Heartbeat

DEFAULT = "default"
SHARE = 0.5
"""A heartbeat may take so much of the time between two of them."""


def slowest_ms(profile: Profile) -> int:
    """How long a heartbeat may take to be committed, at the 99th percentile, in milliseconds."""
    return round(profile.beat * SHARE * 1000)


def demand_quick(name: str, heartbeats: Mapping[str, Heartbeat]) -> None:
    """Raise ``Refused`` with the numbers where a profile shorter than the default is too short for a node.

    Switching while guests run is safe in either direction: a node cuts its lease before it sends the first heartbeat
    of a shorter one, and observers count each heartbeat by the profile that it names.
    """
    profile = PROFILES.get(name)
    if profile is None:
        raise BadParameter({"ha_profile": f"'{name}' is none of {', '.join(PROFILES)}"})
    if profile.lease >= PROFILES[DEFAULT].lease:
        return
    limit = slowest_ms(profile)
    slow = {node: beat.commit_ms for node, beat in sorted(heartbeats.items()) if not 0 < beat.commit_ms <= limit}
    if not slow:
        return
    told = ", ".join(f"{node}: {f'{ms} ms' if ms else 'not measured yet'}" for node, ms in slow.items())
    raise Refused(
        f"The profile '{name}' is too fast for this datacenter",
        why=f"99 of 100 heartbeats must be committed within {limit} ms; they take {told}",
        todo="Look for a slow disk or network under the store: racimo ha profile shows the times of each node",
    )
