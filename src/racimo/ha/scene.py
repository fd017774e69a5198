"""What one turn knows of the nodes: who shows life, who may be given guests, whom guests leave, and why. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.ha.ordering import StartOrder
from racimo.model.ha import ServiceState

if TYPE_CHECKING:
    from racimo.ha.states import Snapshot
    from racimo.model.ha import Heartbeat

SHUTDOWN = {"reboot": "reboots", "poweroff": "is switched off"}
"""The modes of a heartbeat that announce a shutdown, as people say it."""


class Scene:
    """``now`` is on the clock of the snapshot's sightings.

    ``leave``, ``freeze`` and ``fail_over`` are nodes whose guests go live, are stopped and stay, or are stopped and go;
    each with the reason.
    """

    def __init__(self, snapshot: Snapshot, now: float) -> None:
        self.snapshot, self.now, self.generation = snapshot, now, snapshot.arming.generation
        self.members = frozenset(members(snapshot))
        self.online = _online(snapshot, now)
        """Members whose heartbeat is fresh: those that are given commands."""
        self.leave: dict[str, str] = {}
        self.freeze: dict[str, str] = {}
        self.fail_over: dict[str, str] = {}
        for name in sorted(self.online):
            self._policy(name, snapshot.heartbeats[name])
        self.open = frozenset(name for name in self.online if not self.closed(name))
        """Those that may be given guests."""
        self.order = StartOrder(snapshot, self.online)
        self._waiting: set[str] | None = None

    def closed(self, node: str) -> str:
        """Why a node that shows life is not given guests; empty if it may have some."""
        for reasons in (self.leave, self.freeze, self.fail_over):
            if node in reasons:
                return reasons[node]
        if node in self.snapshot.maintenance:
            return f"{node} is in maintenance"
        if self.snapshot.heartbeats[node].armed != self.generation:
            return f"{node} has not marked the guests for its guard since HA was armed again"
        return ""

    def _policy(self, name: str, beat: Heartbeat) -> None:
        """What becomes of the guests of a node that shuts down or is in maintenance."""
        if beat.mode not in SHUTDOWN:
            if name in self.snapshot.maintenance:
                self.leave[name] = f"{name} is in maintenance"
            return
        policy, why = self.snapshot.options.ha_shutdown_policy, f"{name} {SHUTDOWN[beat.mode]}"
        if policy == "migrate" and beat.gave_up:
            policy, why = "conditional", f"{why}, and its guests did not all migrate away in the time set for it"
        if policy == "migrate":
            self.leave[name] = why
        elif policy == "freeze" or (policy != "failover" and beat.mode == "reboot"):
            self.freeze[name] = why
        else:
            self.fail_over[name] = why

    def is_taken(self, node: str) -> bool:
        """Proof B: the node was fenced with a proof and has had no heartbeat, so no lease, since."""
        return taken(self.snapshot, node)

    def may_come_up(self, node: str) -> bool:
        """Whether a node that shows no life may just be booting, as at a cold start: it was never seen alive, and the
        time after which it would be fenced is not over."""
        if node in self.online or node not in self.members:
            return False
        sighting = self.snapshot.sightings.get(node)
        return sighting is not None and not sighting.known and self.now < sighting.expires

    def waits_for(self, node: str) -> bool:
        """Whether an HA guest is assigned to ``node`` that somebody has to run, there or elsewhere."""
        if self._waiting is None:
            self._waiting = {
                guest.node
                for sid in self.snapshot.resources
                if (guest := self.snapshot.guests.get(sid)) is not None and self._is_due(sid, guest.node)
            }
        return node in self._waiting

    def _is_due(self, sid: str, node: str) -> bool:
        service = self.snapshot.services.get(sid)
        return service is None or not (service.state is ServiceState.FREEZE and keeps_its_guests(self.snapshot, node))


def taken(snapshot: Snapshot, node: str) -> bool:
    """Proof B: the node was fenced with a proof and has had no heartbeat, so no lease, since."""
    status = snapshot.statuses.get(node)
    return status is not None and bool(status.proof) and node not in snapshot.heartbeats


def guarded(snapshot: Snapshot, node: str) -> bool:
    """Whether the guard of a node with a heartbeat knows HA guests in the present generation of ``Arming``, by any word
    of the node: only then the end of its lease proves anything."""
    generation = snapshot.arming.generation
    if not generation or snapshot.heartbeats[node].armed == generation:
        return True
    return any(s.node == node and s.guarded and s.armed == generation for s in snapshot.services.values())


def keeps_its_guests(snapshot: Snapshot, node: str) -> bool:
    """Whether the node announced a shutdown in which its guests wait for it, and has shown no life otherwise since."""
    status, policy = snapshot.statuses.get(node), snapshot.options.ha_shutdown_policy
    if status is None or status.mode not in SHUTDOWN:
        return False
    return policy == "freeze" or (policy != "failover" and status.mode == "reboot")


def members(snapshot: Snapshot) -> list[str]:
    """The nodes that can run guests."""
    return [name for name, node in snapshot.nodes.items() if not node.witness]


def _online(snapshot: Snapshot, now: float) -> frozenset[str]:
    return frozenset(
        name
        for name in members(snapshot)
        if name in snapshot.heartbeats
        and not snapshot.heartbeats[name].leaving
        and not snapshot.nodes[name].leaving
        and (sighting := snapshot.sightings.get(name)) is not None
        and now < sighting.suspect
    )
