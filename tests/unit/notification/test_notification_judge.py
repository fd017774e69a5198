from __future__ import annotations

from dataclasses import replace

import pytest

from racimo.model.ha import HistoryEntry, NodeHealth, NodeStatus, Service, ServiceState
from racimo.model.notification import Severity
from racimo.notification.events import Begin, Verdict
from racimo.notification.judge import DAY_S, judge_certificate, judge_node, judge_service, judge_task
from racimo.task.failure import Failure
from racimo.task.record import Phase, TaskRecord
from racimo.task.upid import UpidSource

FENCED = {"n1": NodeStatus(node="n1", health=NodeHealth.FENCE), "n2": NodeStatus(node="n2", health=NodeHealth.ONLINE)}


def said(verdicts: list[Verdict]) -> dict[str, str]:
    return {each.key: ("+ " if isinstance(each, Begin) else "- ") + each.title for each in verdicts}


@pytest.mark.parametrize(
    ("health", "mode", "expected"),
    [
        (NodeHealth.FENCE, "", "+ n1 is fenced"),
        (NodeHealth.FENCE, "poweroff", "+ n1 was shut down and is fenced"),
        (NodeHealth.ONLINE, "", "- n1 is back"),
        (NodeHealth.MAINTENANCE, "", "- n1 is back"),
        (NodeHealth.GONE, "", "- n1 was removed"),
        (NodeHealth.UNKNOWN, "", None),
    ],
)
def test_a_node(health: NodeHealth, mode: str, expected: str | None) -> None:
    verdicts = judge_node("n1", NodeStatus(node="n1", health=health, mode=mode, why="so it is"))
    assert {key: told for key, told in said(verdicts).items() if key != "power:n1"} == (
        {"fencing:n1": expected} if expected else {}
    )
    for verdict in verdicts:
        assert verdict.fields["node"] == verdict.fields["hostname"] == "n1"
        if isinstance(verdict, Begin):
            assert verdict.severity is (Severity.NOTICE if mode else Severity.ERROR)


def test_a_node_that_is_no_more_is_no_longer_fenced() -> None:
    assert said(judge_node("n1", None)) == {"fencing:n1": "- n1 was removed", "power:n1": "- n1 was removed"}


def test_a_node_that_could_not_be_switched_on_again() -> None:
    status = replace(FENCED["n1"], power="it could not be switched on again in 3 tries: n1-bmc does not answer")
    assert said(judge_node("n1", status)) == {"fencing:n1": "+ n1 is fenced", "power:n1": "+ n1 stays off"}
    assert "power:n1" not in said(judge_node("n1", replace(status, switched_on=True)))
    back = replace(status, health=NodeHealth.ONLINE, power="")
    assert said(judge_node("n1", back)) == {"fencing:n1": "- n1 is back", "power:n1": "- n1 is switched on"}


def service(state: ServiceState, *steps: str) -> Service:
    history = tuple(HistoryEntry(at=0, what=what, why="so") for what in steps)
    return Service(sid="vm:100", state=state, node="n2", epoch=2, why="so", history=history)


E, R = "error:vm:100", "recovery:vm:100"
FINE = "- vm:100 is no longer in error"


@pytest.mark.parametrize(
    ("state", "steps", "expected"),
    [
        (ServiceState.STARTED, (), {E: FINE, R: "- vm:100 runs again on n2"}),
        (ServiceState.STOPPED, (), {E: FINE, R: "- vm:100 is stopped after its recovery"}),
        (ServiceState.ERROR, (), {E: "+ vm:100 is in error", R: "- vm:100 is error after its recovery"}),
        (ServiceState.RECOVERY, (), {E: FINE, R: "+ vm:100 waits for recovery"}),
        (ServiceState.REQUEST_START, ("started", "n1 → n2"), {E: FINE, R: "+ vm:100 is recovered from n1"}),
        (ServiceState.REQUEST_START, ("n1 → n2", "request_start"), {E: FINE}),
        (ServiceState.REQUEST_START, ("n3 → n2",), {E: FINE}),
        (ServiceState.MIGRATE, (), {E: FINE}),
    ],
)
def test_a_service(state: ServiceState, steps: tuple[str, ...], expected: dict[str, str]) -> None:
    assert said(judge_service("vm:100", service(state, *steps), FENCED)) == expected


def test_a_service_that_left_ha_is_in_no_trouble_any_more() -> None:
    assert set(said(judge_service("vm:100", None, {})).values()) == {"- vm:100 is no longer under HA"}


@pytest.mark.parametrize(
    ("days", "authority", "expected", "severity"),
    [
        (364, False, "- The certificate of n1 is renewed", None),
        (29.5, False, "+ The certificate of n1 expires in 29 days", Severity.WARNING),
        (-1, False, "+ The certificate of n1 has expired", Severity.ERROR),
        (3000, True, "- The datacenter's certificate authority is renewed", None),
        (100, True, "+ The datacenter's certificate authority expires in 100 days", Severity.WARNING),
    ],
)
def test_a_certificate(days: float, authority: bool, expected: str, severity: Severity | None) -> None:
    verdicts = judge_certificate("n1", days * DAY_S, authority=authority)
    assert said(verdicts) == {"certificate:authority" if authority else "certificate:n1": expected}
    assert [v.severity for v in verdicts if isinstance(v, Begin)] == ([severity] if severity else [])


TASK = TaskRecord(UpidSource("n1", lambda: 0.0).draw("qmstart", "100", "ana@pve"))
KEY = "task:qmstart:n1:100"


@pytest.mark.parametrize(
    ("status", "failure", "expected"),
    [
        ("OK", None, {KEY: "- Task qmstart of 100 works again"}),
        ("WARNINGS: 2", None, {KEY: "- Task qmstart of 100 works again"}),
        ("no space", Failure(kind="Refused", what="no space"), {KEY: "+ Task qmstart of 100 failed on n1"}),
        ("interrupted: the node's daemon ended", None, {KEY: "+ Task qmstart of 100 failed on n1"}),
        ("cancelled by ana", Failure(kind="Cancelled", what="cancelled"), {}),
    ],
)
def test_a_task(status: str, failure: Failure | None, expected: dict[str, str]) -> None:
    ended = replace(TASK, phase=Phase.ENDED, exitstatus=status, failure=failure)
    verdicts = judge_task(ended)
    assert said(verdicts) == expected
    assert all(v.fields["guest"] == "100" and v.fields["user"] == "ana@pve" for v in verdicts)


def test_a_task_that_runs_says_nothing() -> None:
    assert judge_task(TASK) == []
