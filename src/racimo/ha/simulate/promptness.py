"""Whether each guest that should run is commanded to start within its profile's bound: the oracle of invariant 9.

The clock begins anew whenever a machine, the network or the store's leader changes, a fault begins or ends, or people
change what is wanted: the last such moment is when all was given that a recovery needs. While chance is at work (loss,
delays, starvation), or the store has no leader, nothing is promised.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.ha import ArmPhase, Requested, ServiceState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.ha.simulate.world import World
    from racimo.model.ha import Service

BOUND_S = {"default": 12.0, "fast": 6.5, "patient": 34.0}
"""From the fault to the start command, by profile: docs/architecture/ha.md."""
COMMANDED = (
    ServiceState.REQUEST_START, ServiceState.REQUEST_START_BALANCE, ServiceState.MIGRATE, ServiceState.RELOCATE,
)  # fmt: skip
ACTIVE = "active"


class Promptness:
    """Looks once the bound has passed after the last change."""

    def __init__(self, world: World) -> None:
        self.world, self.witness = world, world.witness
        self.bound = BOUND_S[world.profile.name]
        self.since = 0.0
        """The last change, on the loop's clock."""
        self._is_due = False

    def touch(self) -> None:
        """Something changed: count from now."""
        self.since = self.world.loop.time()
        if not self._is_due:
            self._is_due = True
            self.world.loop.call_at(self.since + self.bound, self._look)

    def waits(self) -> bool:
        """Whether a guest has still to be started in time."""
        return self._is_due and any(True for _ in self.late())

    def _look(self) -> None:
        loop = self.world.loop
        if loop.time() < self.since + self.bound - 1e-6:
            loop.call_at(self.since + self.bound, self._look)
            return
        late = list(self.late()) if self._is_fair() else []
        left = [seconds for sid, _ in late if (seconds := self._left(sid)) > 0]
        self._is_due = bool(left)
        if left:
            loop.call_at(loop.time() + min(left), self._look)
        for sid, why in late:
            if self._left(sid) <= 0:
                text = f"{sid} has no start command {self.bound:g} s after the last change: {why}"
                self.world.oracle.violate(f"9 {text}")

    def _left(self, sid: str) -> float:
        """Seconds of the bound that are left to a guest that ran until lately, as one does that moves."""
        oracle = self.world.oracle
        return oracle.last_end.get(int(sid[3:]), -self.bound) + self.bound - oracle.now()

    def _is_fair(self) -> bool:
        world, quorum = self.world, self.world.quorum
        if not quorum.leader or quorum.stalled or not world.network.fair():
            return False
        return not any(host.starved or host.late for host in world.hosts.values())

    def late(self) -> Iterator[tuple[str, str]]:
        """Guests that should run, do not, and were not commanded to, though there is a node for them."""
        world, witness = self.world, self.witness
        arming = witness.arming
        if arming is not None and arming.phase is not ArmPhase.ARMED:
            return
        generation, alive = arming.generation if arming else 0, [name for name in world.hosts if self._is_well(name)]
        for sid, resource in witness.resources.items():
            service, owner = witness.services.get(sid), witness.owners.get(int(sid[3:]))
            if resource.requested is not Requested.STARTED or service is None or owner is None:
                continue
            if any(name in alive for name in world.oracle.runners(int(sid[3:]))):
                continue
            if owner.node in alive and service.state in COMMANDED:
                continue
            if service.state is ServiceState.ERROR or self._is_kept(service, owner.node, generation):
                continue
            if world.judge.could_be_on(sid, [name for name in alive if self._is_open(name)]):
                yield sid, f"{service.state} on {owner.node} ({service.why})"

    def _is_kept(self, service: Service, owner: str, generation: int) -> bool:
        """Its node went down in order and keeps it, or it is not known whether it runs there."""
        if service.state is ServiceState.FREEZE and self.witness.modes.get(owner, (ACTIVE,))[0] != ACTIVE:
            return True
        return not self._is_well(owner) and not (service.guarded and service.armed == generation)

    def _is_open(self, node: str) -> bool:
        """Whether neither people nor the node itself have said that it is to be left."""
        return node not in self.witness.maintenance and self.witness.modes.get(node, (ACTIVE,))[0] == ACTIVE

    def _is_well(self, node: str) -> bool:
        host = self.world.hosts[node]
        return host.powered and not host.paused and host.answers() and self.world.quorum.reaches(node)
