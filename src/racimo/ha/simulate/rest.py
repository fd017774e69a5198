"""Whether a datacenter is at rest, and whether what runs is what should run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.ha import ArmPhase, Requested, ServiceState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from racimo.ha.simulate.world import World
    from racimo.model.ha import Service

RESTING = (ServiceState.STARTED, ServiceState.STOPPED, ServiceState.ERROR, ServiceState.FREEZE, ServiceState.RECOVERY)
STILL_S = 3.0
"""So long nothing new was written."""


def settled(world: World) -> bool:
    """Whether left alone it would stay as it is: nothing in hand, nobody's lease running out, nothing still to do."""
    if world.loop.time() - world.disturbed < STILL_S:
        return False
    if any(not task.end for task in world.tasks):
        return False
    if not world.quorum.leader:
        return not any(host.running for host in world.hosts.values()) and not world.quorum.possible()
    arming = world.witness.arming
    if arming is not None and arming.phase is ArmPhase.DISARMED:
        return True
    late = world.loop.time() - 3 * world.profile.beat
    if any(world.beats.get(node, 0.0) < late for node in world.witness.heartbeats):
        return False
    services = world.witness.services
    for sid, resource in world.witness.resources.items():
        if resource.requested is Requested.IGNORED:
            continue
        service = services.get(sid)
        if service is None or service.state not in RESTING:
            return False
    return True


def resting(services: Iterable[Service], now: float, *, queued: bool = False) -> bool:
    """Whether no service is on its way to another state, or waits for its time (seconds of the wall clock).

    ``queued``: what waits in a queue waits for a node, not for others that start first.
    """
    states = (*RESTING, ServiceState.QUEUED) if queued else RESTING
    return all(service.state in states and service.not_before <= now for service in services)


def wanted(world: World) -> list[str]:
    """The guests that should run now, as far as their states go."""
    arming = world.witness.arming
    if arming is not None and arming.phase is not ArmPhase.ARMED:
        return []
    return [
        sid
        for sid, resource in world.witness.resources.items()
        if resource.requested is Requested.STARTED
        and (service := world.witness.services.get(sid)) is not None
        and service.state is not ServiceState.ERROR
    ]


def kinds_of(violations: tuple[str, ...]) -> set[str]:
    """Which invariants were broken, by number; the code's own failures count as one kind."""
    return {text.partition(": ")[2].split()[0] for text in violations}
