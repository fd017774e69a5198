"""From records to what is to be said: one function per subject. Pure.

Each returns what holds (``Begin``), what does not (``Over``), and nothing where that is not settled yet: a node that is
fenced and begins to show life is neither. Whether it was said before is not known here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.ha import NodeHealth, ServiceState
from racimo.model.notification import EventType, Severity
from racimo.notification.events import Begin, Over, Verdict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.model.ha import NodeStatus, Service
    from racimo.task.record import TaskRecord

DAY_S = 86400.0
NODE_WARNING_S = 30 * DAY_S
"""A node's certificate is renewed when a third of its year is left: with a month left that has failed."""
AUTHORITY_WARNING_S = 180 * DAY_S
ALIVE = (NodeHealth.ONLINE, NodeHealth.MAINTENANCE)
WAITING = (ServiceState.RECOVERY, ServiceState.FENCE)
SETTLED = (ServiceState.STARTED, ServiceState.STOPPED, ServiceState.ERROR)
NOT_A_FAILURE = ("Cancelled",)


def judge_node(name: str, status: NodeStatus | None) -> list[Verdict]:
    """Fenced, or back; whether it could be switched on again."""
    key, fields = f"fencing:{name}", {"hostname": name, "node": name}
    power, kind = f"power:{name}", EventType.FENCING
    if status is None or status.health is NodeHealth.GONE:
        text, title = f"{name} is no longer a member of the datacenter.", f"{name} was removed"
        return [Over(key, kind, title, text, fields), Over(power, kind, title, text, fields)]
    if status.health in ALIVE:
        text, title = f"{name} takes part again: {status.why}.", f"{name} is switched on"
        return [Over(key, kind, f"{name} is back", text, fields), Over(power, kind, title, text, fields)]
    if status.health is not NodeHealth.FENCE:
        return []
    severity = Severity.NOTICE if status.mode else Severity.ERROR
    title = f"{name} was shut down and is fenced" if status.mode else f"{name} is fenced"
    text = f"{status.why}. Its HA guests are started on other nodes.\nProof: {status.proof}"
    found: list[Verdict] = [Begin(key, kind, severity, title, text, fields)]
    if status.power and not status.switched_on:
        text = f"{name} was fenced, and {status.power}.\nSwitch it on by hand, and see why: racimo ha fence test {name}"
        found.append(Begin(power, kind, Severity.WARNING, f"{name} stays off", text, fields))
    return found


def judge_service(sid: str, service: Service | None, statuses: Mapping[str, NodeStatus]) -> list[Verdict]:
    """In error or not; recovered from a fenced node or not."""
    return [*_error(sid, service), *_recovery(sid, service, statuses)]


def _about(sid: str, service: Service | None) -> dict[str, str]:
    fields = {"guest": sid.partition(":")[2]}
    return fields if service is None else {**fields, "hostname": service.node, "node": service.node}


def _error(sid: str, service: Service | None) -> list[Verdict]:
    key, fields = f"error:{sid}", _about(sid, service)
    if service is None:
        return [Over(key, EventType.SERVICE_ERROR, f"{sid} is no longer under HA", f"{sid} left HA.", fields)]
    if service.state is ServiceState.ERROR:
        todo = f"See what is wrong, then clear it: racimo ha set {sid} --state disabled"
        text = f"HA gave {sid} up on {service.node}: {service.why}.\n{todo}"
        return [Begin(key, EventType.SERVICE_ERROR, Severity.ERROR, f"{sid} is in error", text, fields)]
    text = f"{sid} is {service.state}: {service.why}."
    return [Over(key, EventType.SERVICE_ERROR, f"{sid} is no longer in error", text, fields)]


def _recovery(sid: str, service: Service | None, statuses: Mapping[str, NodeStatus]) -> list[Verdict]:
    key, kind, fields = f"recovery:{sid}", EventType.RECOVERY, _about(sid, service)
    if service is None:
        return [Over(key, kind, f"{sid} is no longer under HA", f"{sid} left HA.", fields)]
    if service.state in WAITING:
        text = f"{sid} waits to be started elsewhere than on {service.node}: {service.why}."
        return [Begin(key, kind, Severity.WARNING, f"{sid} waits for recovery", text, fields)]
    if service.state is ServiceState.REQUEST_START and (origin := moved_from(service)):
        status = statuses.get(origin)
        if status is not None and status.health is NodeHealth.FENCE:
            text = f"{sid} is being started on {service.node} instead of {origin}: {service.why}."
            return [Begin(key, kind, Severity.WARNING, f"{sid} is recovered from {origin}", text, fields)]
    if service.state is ServiceState.STARTED:
        text = f"{sid} runs on {service.node}: {service.why}."
        return [Over(key, kind, f"{sid} runs again on {service.node}", text, fields)]
    if service.state in SETTLED:
        text = f"{sid} is {service.state} on {service.node}: {service.why}."
        return [Over(key, kind, f"{sid} is {service.state} after its recovery", text, fields)]
    return []


def moved_from(service: Service) -> str:
    """The node that its last step took it away from; empty if that was no move."""
    origin, arrow, _ = service.history[-1].what.partition(" → ") if service.history else ("", "", "")
    return origin if arrow else ""


def judge_certificate(node: str, left_s: float, *, authority: bool = False) -> list[Verdict]:
    """Expiring, or good for long. ``left_s``: seconds until it ends; ``authority``: it is the datacenter's own."""
    limit = AUTHORITY_WARNING_S if authority else NODE_WARNING_S
    what = "The datacenter's certificate authority" if authority else f"The certificate of {node}"
    key, fields = "certificate:authority" if authority else f"certificate:{node}", {"hostname": node, "node": node}
    days = int(left_s // DAY_S)
    if left_s > limit:
        text = f"{what} is good for {days} more days."
        return [Over(key, EventType.CERTIFICATE, f"{what} is renewed", text, fields)]
    severity = Severity.ERROR if left_s <= 0 else Severity.WARNING
    title = f"{what} has expired" if left_s <= 0 else f"{what} expires in {days} days"
    why = "" if authority else f" See why it was not renewed: journalctl -u racimo-node on {node}."
    return [Begin(key, EventType.CERTIFICATE, severity, title, f"{title}.{why}", fields)]


def judge_task(task: TaskRecord) -> list[Verdict]:
    """Failed, or well done where the same one failed before. What a person cancelled is neither."""
    if task.running:
        return []
    upid = task.upid
    subject = upid.subject or upid.node
    key = f"task:{upid.kind}:{upid.node}:{subject}"
    fields = {"hostname": upid.node, "node": upid.node, "task": upid.kind, "user": upid.user}
    if upid.subject.isdigit():
        fields["guest"] = upid.subject
    if task.succeeded:
        text = f"Task {upid.kind} of {subject} on {upid.node} ended well: {task.exitstatus}.\n{upid}"
        return [Over(key, EventType.TASK, f"Task {upid.kind} of {subject} works again", text, fields)]
    if task.failure is not None and task.failure.kind in NOT_A_FAILURE:
        return []
    text = f"{task.exitstatus}\nSee its log: racimo task log {upid}"
    title = f"Task {upid.kind} of {subject} failed on {upid.node}"
    return [Begin(key, EventType.TASK, Severity.ERROR, title, text, fields)]
