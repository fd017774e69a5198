"""Disarming HA and arming it again. Pure.

Disarming is safe because nothing that was confirmed before counts afterwards: the manager alone writes DISARMED, and
with it a new generation. Nodes take the marks of their guards away only then. After that no proof B speaks of a guest
until its node has marked it again and said so in the new generation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha.states import ArmingChange
from racimo.model.ha import ArmPhase, Requested, ServiceState

if TYPE_CHECKING:
    from racimo.ha.scene import Scene
    from racimo.ha.states import Decision
    from racimo.ha.step import Step

SETTLED = (ServiceState.STARTED, ServiceState.STOPPED, ServiceState.QUEUED)
FROZEN = (ServiceState.FREEZE, ServiceState.ERROR)


def may_freeze(step: Step) -> bool:
    """Nothing is under way with it, and its node shows life: else it is recovered first."""
    return step.service.state in SETTLED and step.node in step.scene.online


def freeze(step: Step) -> Decision | None:
    """Leave it as it is until HA is armed again."""
    return step.to(ServiceState.FREEZE, "HA is being disarmed", attempt=step.service.attempt + 1)


def next_phase(scene: Scene) -> ArmingChange | None:
    """From DISARMING to DISARMED once every service is frozen; else what that waits for."""
    snapshot, arming = scene.snapshot, scene.snapshot.arming
    if arming.phase is not ArmPhase.DISARMING:
        return None
    open_ones = [
        sid
        for sid, service in snapshot.services.items()
        if service.state not in FROZEN
        and sid in snapshot.resources
        and snapshot.resources[sid].requested is not Requested.IGNORED
    ]
    if open_ones:
        sid = min(open_ones)
        more = f" and {len(open_ones) - 1} more" if len(open_ones) > 1 else ""
        why = f"waits for {sid} ({snapshot.services[sid].state}: {snapshot.services[sid].why}){more}"
        return ArmingChange(replace(arming, why=why), why) if why != arming.why else None
    why = f"disarmed ({arming.mode}): nothing is fenced, moved or killed until: racimo ha arm"
    done = replace(arming, phase=ArmPhase.DISARMED, generation=arming.generation + 1, why=why, since=snapshot.wall)
    return ArmingChange(done, why)
