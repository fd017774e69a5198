"""What is done about a service in each of its states: one function per state. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from racimo.ha.policies import CLEARED, failed_start, unwell, where_it_should_be
from racimo.model.ha import ArmPhase, Requested, ServiceState
from racimo.placement.pick import Picked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from racimo.ha.states import Decision
    from racimo.ha.step import Step


def was_moved(step: Step) -> Decision | None:
    """The guest was given to another node: by a migration that was asked for, or by hand."""
    guest, service = step.guest, step.service
    fields: dict[str, Any] = {"node": guest.node, "epoch": guest.epoch, "target": ""}
    if service.home == guest.node:
        fields["home"] = ""
    if service.node != guest.node:
        fields["guarded"] = False  # its new node's agent, which may be about to take an old mark away, says so anew
    if service.state is ServiceState.ERROR:
        return step.to(ServiceState.ERROR, service.why, **fields)
    if step.runs and step.wanted:
        why = f"it runs on {guest.node} since it was moved from {service.node}"
        done = step.resource.target == guest.node
        return step.to(ServiceState.STARTED, why, clear_target=done, **(CLEARED | fields))
    why = f"it was moved from {service.node} to {guest.node}"
    state = ServiceState.REQUEST_START if step.wanted else ServiceState.REQUEST_STOP
    return step.command(state, why, **fields)


def recover(step: Step) -> Decision | None:
    """Its node is fenced: another one, by proof A or B."""
    node, status = step.node, step.snapshot.statuses[step.node]
    if not step.wanted:
        return step.to(ServiceState.STOPPED, f"{status.why}; it is not wanted to run", target="")
    if not step.is_ended_with_its_node():
        since = " since HA was armed again" if step.scene.generation else ""
        why = f"{node} never confirmed{since} that its guard knows this guest, so it may still run there"
        return step.to(ServiceState.RECOVERY, why, target="")
    found = step.pick()
    if not isinstance(found, Picked):
        return step.to(ServiceState.RECOVERY, f"{status.why}; {found.why}", target="")
    return step.move(
        found.node, f"{status.why}; {found.why}", fenced=node, clear_target=bool(step.resource.target), **CLEARED
    )


def _request_start(step: Step) -> Decision | None:
    if not step.wanted:
        return step.command(ServiceState.REQUEST_STOP, f"it is wanted {step.resource.requested}", renew=False)
    if step.outcome is None:
        return None
    if not step.outcome.ok:
        return failed_start(step, step.outcome.error)
    why = f"{step.node} started it"
    if step.resource.probe and (step.service.restarts or step.service.relocations):
        return step.to(ServiceState.STARTED, f"{why}; its application has not answered yet", renew=False)
    return step.to(ServiceState.STARTED, why, **CLEARED)


def _request_start_balance(step: Step) -> Decision | None:
    """Wanted started, wherever it is best."""
    if not step.wanted:
        return step.command(ServiceState.REQUEST_STOP, f"it is wanted {step.resource.requested}")
    if not step.ended:
        return step.command(ServiceState.REQUEST_START, "it is wanted started")
    return step.start("it is wanted started", anew=True)


def _request_stop(step: Step) -> Decision | None:
    if step.wanted:
        return step.command(ServiceState.REQUEST_START, "it is wanted started")
    if step.ended:
        return step.to(ServiceState.STOPPED, f"it is wanted {step.resource.requested} and stopped", **CLEARED)
    if step.outcome is not None and not step.outcome.ok:
        return step.to(ServiceState.ERROR, f"{step.node} could not stop it: {step.outcome.error}")
    return None


def _stopped(step: Step) -> Decision | None:
    if step.resource.target:
        return _move_stopped(step)
    if not step.wanted:
        return None
    return _due(step, "it is wanted started")


def _due(step: Step, why: str) -> Decision | None:
    """It is to be started, or to wait until it can be."""
    if step.scene.is_taken(step.node):
        return recover(step)
    if step.node not in step.scene.online:
        return None
    if step.snapshot.options.crs_rebalance_on_start and step.service.state is not ServiceState.QUEUED:
        return step.to(ServiceState.REQUEST_START_BALANCE, why)
    return step.start(why, anew=step.snapshot.options.crs_rebalance_on_start)


def _queued(step: Step) -> Decision | None:
    if not step.wanted:
        return step.command(ServiceState.REQUEST_STOP, f"it is wanted {step.resource.requested}")
    return _due(step, step.service.why.partition("; ")[0])


def _move_stopped(step: Step) -> Decision | None:
    """A request to move a guest that does not run."""
    if refusal := target_refused(step):
        return step.to(step.service.state, refusal, clear_target=True, target="")
    if not step.proof_c():
        return None
    why = f"asked to move to {step.resource.target}; {step.node} says that it is stopped"
    return step.move(step.resource.target, why, clear_target=True, home="")


def target_refused(step: Step) -> str:
    """Why the guest cannot go where it was asked to go; empty if it can."""
    target = step.resource.target
    if target == step.node:
        return f"it is on {target} already"
    why = step.turn.choosing.refusal(step.sid, target)
    return f"it cannot move to {target}: {why}" if why else ""


def _started(step: Step) -> Decision | None:
    if not step.wanted:
        return step.command(ServiceState.REQUEST_STOP, f"it is wanted {step.resource.requested}")
    if step.ended:
        reason = (step.runtime.reason if step.runtime else "") or "it ended"
        if why := step.scene.freeze.get(step.node):
            return step.command(ServiceState.FREEZE, f"{why}; it does not run any more ({reason})")
        return step.start(f"it does not run any more ({reason})")
    if step.node not in step.scene.online:
        return None
    if step.resource.target:
        return _asked_to_move(step)
    if step.health is not None and (decision := unwell(step, step.health)):
        return decision
    return where_it_should_be(step)


def _asked_to_move(step: Step) -> Decision | None:
    target = step.resource.target
    if refusal := target_refused(step):
        return step.to(step.service.state, refusal, clear_target=True, target="")
    state = ServiceState.RELOCATE if step.resource.target_mode == "relocate" else ServiceState.MIGRATE
    step.turn.choosing.take(step.sid, target)
    return step.command(state, f"asked to move to {target}", target=target, home="")


def _migrate(step: Step) -> Decision | None:
    """A live migration is under way; when it commits, the guest's node changes (see ``was_moved``)."""
    if step.outcome is None:
        return None
    target, asked = step.service.target, bool(step.resource.target)
    failed = f"its migration to {target} failed: {step.outcome.error}"
    why = f"its migration to {target} ended without moving it" if step.outcome.ok else failed
    return step.to(ServiceState.STARTED, why, target="", clear_target=asked, not_before=step.pause())


def _relocate(step: Step) -> Decision | None:
    """Stop it, then give it to the target by proof C; without a target, or when that is gone, to the best node."""
    target, asked = step.service.target, bool(step.resource.target)
    if not step.wanted:
        return step.command(ServiceState.REQUEST_STOP, f"it is wanted {step.resource.requested}", target="")
    if not target and step.node in step.scene.open:
        return step.start(f"{step.node} is back", target="")  # it was to be left because it shut down
    if not target and step.scene.may_come_up(step.node):
        return None
    if step.proof_c():
        reason = f"asked to move to {target}" if asked else step.service.why
        if target in step.scene.open:
            return step.move(target, f"{reason}; {step.node} says that it is stopped", clear_target=asked)
        gone = f"{target} went offline before it could move there" if target else reason
        found = step.pick()
        if isinstance(found, Picked) and found.node != step.node:
            return step.move(found.node, f"{gone}; {found.why}", clear_target=asked)
        if isinstance(found, Picked):
            return step.command(ServiceState.REQUEST_START, gone, target="", clear_target=asked)
        return step.to(ServiceState.RECOVERY, f"{gone}; {found.why}", target="", clear_target=asked)
    if step.outcome is not None and not step.outcome.ok:
        why = f"it stays on {step.node}, which could not stop it: {step.outcome.error}"
        return step.to(ServiceState.STARTED, why, target="", clear_target=asked, not_before=step.pause())
    return None


def _recovery(step: Step) -> Decision | None:
    """Its node is not fenced (any more): it is started there, or moved by proof C if that node is to be empty."""
    if not step.wanted:
        return step.command(ServiceState.REQUEST_STOP, f"it is wanted {step.resource.requested}")
    choosing, owns = step.turn.choosing, f"{step.node} is back and still owns it"
    back = step.node in step.scene.open
    if back and not (step.proof_c() and choosing.misplaced(step.sid, step.node, failback=False)):
        return step.command(ServiceState.REQUEST_START, owns)
    if step.node not in step.scene.online and not step.ended:
        return None
    if step.scene.may_come_up(step.node):
        return None
    if not step.proof_c():
        return step.command(ServiceState.REQUEST_START, owns)
    found = step.pick()
    if isinstance(found, Picked) and found.node == step.node:
        return step.command(ServiceState.REQUEST_START, owns)
    if isinstance(found, Picked):
        return step.move(found.node, f"{step.node} says that it is stopped; {found.why}", **CLEARED)
    return None


def _frozen(step: Step) -> Decision | None:
    """It waits for its node, or for HA to be armed again."""
    node, scene = step.node, step.scene
    if step.snapshot.arming.phase is not ArmPhase.ARMED:
        return None
    if step.resource.target and step.ended:
        return _move_stopped(step)  # an administrator will not wait
    if node not in scene.online and not step.is_kept_frozen() and not step.ended:
        why = f"{node} shows no life and has not marked it since HA was armed again, so it may still run there"
        return step.to(ServiceState.RECOVERY, why)
    if node not in scene.online and not step.is_kept_frozen():
        if not step.wanted:
            return step.to(ServiceState.STOPPED, f"it is wanted {step.resource.requested} and stopped", **CLEARED)
        return step.start(f"{node} shows no life, and has said that it is stopped", **CLEARED)
    if node in scene.freeze or node not in scene.online:
        return None
    if step.snapshot.heartbeats[node].armed != scene.generation:
        return None
    back = f"{node} is back" if not scene.generation else f"{node} shows life and HA is armed"
    if not step.wanted:
        return step.command(ServiceState.REQUEST_STOP, f"{back}; it is wanted {step.resource.requested}")
    if step.runs:
        return step.to(ServiceState.STARTED, f"{back}; it runs", **CLEARED)
    return step.start(back, **CLEARED)


def _error(step: Step) -> Decision | None:
    if step.resource.requested is not Requested.DISABLED:
        return None
    return step.to(ServiceState.STOPPED, "disabled: the error is cleared", **CLEARED)


S = ServiceState
NEXT: Mapping[ServiceState, Callable[[Step], Decision | None]] = {
    S.REQUEST_START: _request_start,
    S.REQUEST_START_BALANCE: _request_start_balance,
    S.REQUEST_STOP: _request_stop,
    S.STOPPED: _stopped,
    S.STARTED: _started,
    S.MIGRATE: _migrate,
    S.RELOCATE: _relocate,
    S.RECOVERY: _recovery,
    S.FENCE: _recovery,
    S.QUEUED: _queued,
    S.FREEZE: _frozen,
    S.ERROR: _error,
}
