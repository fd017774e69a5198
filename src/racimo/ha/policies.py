"""What is done about a guest that runs but should not run there, or is not well. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from racimo.model.ha import ServiceState
from racimo.placement.pick import Picked

if TYPE_CHECKING:
    from racimo.ha.states import Decision
    from racimo.ha.step import Step
    from racimo.model.ha import Outcome

CLEARED: dict[str, Any] = {
    "restarts": 0, "relocations": 0, "failed_nodes": (), "target": "", "renew": False, "not_before": 0.0,
}  # fmt: skip
"""No failure is counted any more."""


def failed_start(step: Step, error: str) -> Decision | None:
    """On the same node again, then on another, then an error that waits for an administrator."""
    service, resource, node = step.service, step.resource, step.node
    tries = service.restarts + 1
    failed = f"start {tries} on {node} failed ({error})"
    if service.restarts < resource.max_restart:
        why = f"{failed}; try {tries + 1} of {resource.max_restart + 1}"
        return step.command(ServiceState.REQUEST_START, why, restarts=tries)
    if service.relocations >= resource.max_relocate:
        return step.to(ServiceState.ERROR, f"{failed} and no tries are left; request disabled, then started")
    if step.runs:
        return step.to(ServiceState.STARTED, f"it runs on {node}, though its start was reported as failed ({error})")
    if not step.proof_c():
        return None
    nodes = (*service.failed_nodes, node)
    found = step.pick(step.barred(*nodes))
    if not isinstance(found, Picked):
        return step.to(ServiceState.ERROR, f"{failed}; {found.why}; request disabled, then started")
    return step.move(
        found.node, f"{failed}; {found.why}", restarts=0, relocations=service.relocations + 1, failed_nodes=nodes
    )


def unwell(step: Step, health: Outcome) -> Decision | None:
    """Its application is not well: as if its start had failed. Once it is well nothing is counted any more."""
    service, resource, node = step.service, step.resource, step.node
    if not resource.probe:
        return None
    if health.ok:
        if not (service.restarts or service.relocations):
            return None
        return step.to(ServiceState.STARTED, "its application answers", **CLEARED)
    failed, tries = f"its application is not well on {node} ({health.error})", service.restarts + 1
    if service.restarts < resource.max_restart:
        why = f"{failed}; restart {tries} of {resource.max_restart}"
        return step.command(ServiceState.REQUEST_START, why, restarts=tries, renew=True)
    if service.relocations >= resource.max_relocate:
        return step.to(ServiceState.ERROR, f"{failed} and no tries are left; request disabled, then started")
    nodes = (*service.failed_nodes, node)
    found = step.pick(step.barred(*nodes))
    if not isinstance(found, Picked):
        return step.to(ServiceState.ERROR, f"{failed}; {found.why}; request disabled, then started")
    return step.command(
        ServiceState.RELOCATE, f"{failed}; {found.why}",
        target=found.node, restarts=0, relocations=service.relocations + 1, failed_nodes=nodes,
    )  # fmt: skip


def where_it_should_be(step: Step) -> Decision | None:
    """It runs: does its node shut down, is it in maintenance, does the guest belong elsewhere?"""
    node, scene = step.node, step.scene
    if why := scene.freeze.get(node):
        return step.command(ServiceState.FREEZE, f"{why}; it is stopped and starts again when {node} is back")
    if why := scene.fail_over.get(node):
        return step.command(ServiceState.RELOCATE, f"{why}; it is stopped and starts elsewhere", target="")
    if step.is_paused() or step.sid in step.snapshot.locks:
        return None
    if why := scene.leave.get(node):
        return _leave(step, why)
    if step.service.home and (decision := _go_home(step)):
        return decision
    return _by_rules(step)


def _migrate(step: Step, target: str, why: str, **fields: Any) -> Decision | None:
    """By the manager's own wish, so it has to be possible without stopping it; a locked guest is busy."""
    step.turn.choosing.take(step.sid, target)
    return step.command(ServiceState.MIGRATE, why, target=target, **fields)


def _leave(step: Step, why: str) -> Decision | None:
    found = step.turn.choosing.pick(step.sid)
    if not isinstance(found, Picked):
        return step.to(ServiceState.STARTED, f"{why}, and it stays: {found.why}")
    home = step.service.home or step.node
    return _migrate(step, found.node, f"{why}; {found.why}", home=home)


def _go_home(step: Step) -> Decision | None:
    home = step.service.home
    if home == step.node:
        return step.to(ServiceState.STARTED, f"it is on {home}, where it belongs", home="")
    if home not in step.snapshot.nodes:
        return step.to(ServiceState.STARTED, f"it stays on {step.node}: {home} is no longer a member", home="")
    choosing = step.turn.choosing
    if home not in step.scene.open or choosing.refusal(step.sid, home):
        return None
    if home not in choosing.options(step.sid, led=True).preferred:
        return None
    return _migrate(step, home, f"{home} is back, which it had left")


def _by_rules(step: Step) -> Decision | None:
    """A rule says that it belongs elsewhere, and there is a node for it that the rule likes better."""
    choosing, node = step.turn.choosing, step.node
    if not choosing.bound(step.sid):
        return None
    broken = choosing.misplaced(step.sid, node, failback=False)
    why = broken or choosing.misplaced(step.sid, node, failback=step.resource.failback)
    if not why:
        return None
    found = choosing.pick(step.sid)
    if not isinstance(found, Picked) or found.node == node:
        return None
    if choosing.misplaced(step.sid, found.node, failback=False):
        return None
    if not broken and not choosing.prefers(step.sid, found.node, node):
        return None
    return _migrate(step, found.node, f"{why}; {found.why}")
