"""Looks at each start and each move that a manager decides, in the moment of its commit: rules, memory, the target.

What people ask for by hand, outside HA, may break rules: such guests are passed over until HA moves them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.ha import ArmPhase, ServiceState

if TYPE_CHECKING:
    from racimo.ha.simulate.world import World
    from racimo.model.ha import Service

KEEPS_NO_PLACE = (None, ServiceState.STOPPED, ServiceState.QUEUED, ServiceState.REQUEST_START_BALANCE)
HOUR_S = 3600.0
ACTIVE = "active"


class Overseer:
    """The oracle of invariants 7 and 10."""

    def __init__(self, world: World) -> None:
        self.world, self.witness = world, world.witness
        self.by_hand: set[str] = set()
        """Guests that people have put where they are."""
        self._for_balance: list[float] = []
        """When guests were moved that nothing but balance calls for."""

    def look(self, sid: str, old: Service | None, new: Service, given: bool) -> None:
        """The manager wrote ``new`` for the guest; ``given``: it gave it to another node in the same transaction."""
        commanded = new.state in (ServiceState.REQUEST_START, ServiceState.MIGRATE, ServiceState.RELOCATE)
        if not commanded or (old is not None and old.attempt == new.attempt):
            return
        arming = self.witness.arming
        if arming is not None and arming.phase is ArmPhase.DISARMED:
            self._violate(sid, "is commanded while HA is disarmed", new)
        if given:
            self.by_hand.discard(sid)
            self._placed(sid, new.node, new)
            self._with_its_group(sid, old, new)
        elif new.state is ServiceState.MIGRATE:
            self._placed(sid, new.target, new)
            self._counted(sid, new)
        elif new.state is ServiceState.REQUEST_START:
            self._started_in_place(sid, old, new)

    def _violate(self, sid: str, text: str, service: Service) -> None:
        self.world.oracle.violate(f"7 {sid} {text} ({service.why})")

    def _placed(self, sid: str, node: str, service: Service) -> None:
        if not self._spared(sid, node) and (why := self.world.judge.forbids(sid, node)):
            self._violate(sid, f"is given to {node}: {why}", service)
        if why := self._closed(node):
            self._violate(sid, f"is given to {node}: {why}", service)

    def _started_in_place(self, sid: str, old: Service | None, new: Service) -> None:
        """Where it keeps its place it needs no room that is free."""
        if self.world.oracle.runners(int(sid[3:])) or self._spared(sid, new.node):
            return
        keeps = old is not None and old.state not in KEEPS_NO_PLACE
        if why := self.world.judge.forbids(sid, new.node, room=not keeps):
            self._violate(sid, f"is started on {new.node}: {why}", new)

    def _spared(self, sid: str, node: str) -> bool:
        """Whether people had a hand in who is on the node."""
        return sid in self.by_hand or any(node in self.world.judge.surely(other) for other in self.by_hand)

    def _closed(self, node: str) -> str:
        """Why the node may not be given guests, if that was so for longer than a manager may take to see it."""
        world, since = self.world, self.world.loop.time() - self.world.profile.lease
        if self.witness.maintenance.get(node, since) < since:
            return "it is in maintenance"
        beat, (mode, changed) = self.witness.heartbeats.get(node), self.witness.modes.get(node, (ACTIVE, since))
        if mode != ACTIVE and changed < since:
            return f"it shuts down ({mode})"
        if beat is None and world.beats.get(node, 0.0) < since:
            return "it shows no life"
        return ""

    def _with_its_group(self, sid: str, old: Service | None, service: Service) -> None:
        """Given away from where its group is, though there is room for it and nobody asked for that."""
        judge, asked = self.world.judge, old is not None and old.target == service.node
        group = {other for other in judge.group(sid) if other in self.witness.resources}
        places = {node for other in group for node in judge.surely(other)}
        if not places or service.node in places or asked or self.by_hand & group:
            return
        likes = judge.priority(sid, service.node)
        good = [node for node in sorted(places) if self._is_open(node) and judge.priority(sid, node) >= likes]
        if could := [node for node in judge.could_be_on(sid, good) if node not in service.failed_nodes]:
            self._violate(sid, f"is given to {service.node}, away from its group on {could[0]}", service)

    def _is_open(self, node: str) -> bool:
        status, arming = self.witness.statuses.get(node), self.witness.arming
        beat = self.witness.heartbeats.get(node)
        return (
            beat is not None
            and beat.mode == ACTIVE
            and not beat.leaving
            and beat.armed == (arming.generation if arming else 0)
            and node not in self.witness.maintenance
            and status is not None
            and status.health.value == "online"
            and self.world.loop.time() - self.world.beats.get(node, 0.0) < 2 * self.world.profile.beat
        )

    def _counted(self, sid: str, service: Service) -> None:
        """A move that neither people, nor rules, nor the guest's node call for is one for balance."""
        options, judge, now = self.world.setup.options, self.world.judge, self.world.now()
        resource = self.witness.resources.get(sid)
        if (resource is not None and resource.target) or service.home or judge.is_bound(sid):
            return
        if service.node in self.witness.maintenance or self.witness.modes.get(service.node, (ACTIVE,))[0] != ACTIVE:
            return
        self._for_balance = [at for at in self._for_balance if now - at < HOUR_S] + [now]
        most = options.moves_per_hour if options.auto_rebalance else 0
        if len(self._for_balance) > most:
            count = len(self._for_balance)
            self.world.oracle.violate(f"10 {sid} is move {count} for balance within an hour, of {most} ({service.why})")

    def look_at_the_end(self) -> None:
        """All is healed, and was left alone for minutes: what runs where it should not be, though it could go?"""
        judge, nodes = self.world.judge, [name for name in self.world.hosts if name not in self.world.buried]
        for sid in sorted(self.witness.resources):
            runners = self.world.oracle.runners(int(sid[3:]))
            if len(runners) != 1 or sid in self.by_hand:
                continue
            here = runners[0]
            elsewhere = [node for node in judge.could_be_on(sid, nodes) if node != here]
            if elsewhere and (why := judge.forbids(sid, here, room=False)):
                self.world.oracle.violate(f"7 {sid} stays on {here}, and could be on {elsewhere[0]}: {why}")
            elif elsewhere and (why := self._alone(sid, here, elsewhere)):
                self.world.oracle.violate(f"7 {sid} stays on {here}: {why}")

    def _alone(self, sid: str, here: str, elsewhere: list[str]) -> str:
        """Whether more of its group are where it could be too."""
        judge = self.world.judge
        others = [node for other in judge.group(sid) for node in self.world.oracle.runners(int(other[3:]))]
        for node in elsewhere:
            if others.count(node) > others.count(here) and judge.priority(sid, node) >= judge.priority(sid, here):
                return f"{others.count(node)} of its group are on {node}"
        return ""
