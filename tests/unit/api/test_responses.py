from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo import errors
from racimo.api.responses import MAX_REASON, Page, code, failure, json_value, read_answer, reason_phrase, success
from racimo.errors import (
    AlreadyExists,
    BadParameter,
    BadRequest,
    Cancelled,
    Conflict,
    NotClustered,
    NotFound,
    NotImplementedHere,
    NotLoggedIn,
    OperationFailed,
    RacimoError,
    Refused,
    StoreUnavailable,
    StoreUnknown,
    Unauthorised,
    Unreachable,
)
from racimo.task.record import Phase
from racimo.task.upid import Upid

UPID = Upid("n1", 1, 2, 3, "qmstart", "100", "root@pam")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadParameter({"vmid": "is no number"}), 400),
        (BadRequest("No"), 400),
        (NotLoggedIn("No ticket"), 401),
        (Unauthorised("Permission check failed"), 403),
        (NotClustered("No cluster"), 424),
        (NotFound("VM 100 does not exist"), 500),
        (AlreadyExists("VM 100 already exists"), 500),
        (Conflict("VM 100 already running"), 500),
        (Refused("No space"), 500),
        (OperationFailed("It broke"), 500),
        (Cancelled("Cancelled"), 500),
        (StoreUnavailable("No member answered"), 500),
        (StoreUnknown("Answer lost"), 500),
        (NotImplementedHere("Method not implemented"), 501),
        (Unreachable("No connection"), 595),
        (Unreachable("No answer", may_have_acted=True), 596),
    ],
)
def test_each_error_has_its_code_and_comes_back_as_itself(error: RacimoError, status: int) -> None:
    reply = failure(error)
    assert reply.status == code(error) == status
    back = read_answer(reply.status, reply.reason, reply.body).error
    assert type(back) is type(error)
    assert str(back) == str(error)
    in_extjs = read_answer(200, "OK", failure(error, extjs=True).body).error
    assert str(in_extjs) == str(error)


def test_every_class_of_the_error_tree_has_a_code() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RacimoError)]
    for kind in kinds:
        assert 400 <= code(kind({}) if kind is BadParameter else kind("No")) < 600


def test_malformed_parameters_are_listed_by_name() -> None:
    reply = failure(BadParameter({"vmid": "is no number"}))
    assert reply.reason == "Parameter verification failed."
    assert json.loads(reply.body)["errors"] == {"vmid": "is no number"}


def test_the_body_keeps_what_why_and_todo_apart() -> None:
    body = json.loads(failure(Conflict("VM 100 already running", why="since noon", todo="Stop it")).body)
    assert body["data"] is None
    assert body["message"] == "VM 100 already running: since noon. Stop it."
    assert (body["racimo"]["what"], body["racimo"]["why"], body["racimo"]["todo"]) == (
        "VM 100 already running",
        "since noon",
        "Stop it",
    )


@pytest.mark.parametrize(
    ("message", "phrase"),
    [
        ("a\r\nSet-Cookie: b=c", "a Set-Cookie: b=c"),
        ("a\x00b\x1bc\x7fd", "a?b?c?d"),
        ("caf\N{LATIN SMALL LETTER E WITH ACUTE} \N{GRAPES}", "cafe ?"),
        ("a\N{LINE SEPARATOR}b\x85c\x0bd", "a b c d"),
        ("", ""),
    ],
)
def test_a_reason_phrase_is_one_line_of_ascii(message: str, phrase: str) -> None:
    assert reason_phrase(message) == phrase


@given(st.text(max_size=2000))
def test_no_message_can_leave_its_reason_phrase(message: str) -> None:
    phrase = reason_phrase(message)
    assert len(phrase) <= MAX_REASON
    assert all(" " <= c <= "~" for c in phrase)


def test_results_are_shown_as_clients_expect() -> None:
    assert json_value({"a": True, "b": [False, None], 1: UPID, "c": Phase.LOCK}) == {
        "a": 1,
        "b": [0, None],
        "1": str(UPID),
        "c": "lock",
    }
    assert json.loads(success(UPID).body) == {"data": "UPID:n1:00000001:00000002:00000003:qmstart:100:root@pam:"}
    assert json.loads(success(Page([1], 7)).body) == {"data": [1], "total": 7}
    assert json.loads(success(None, extjs=True).body) == {"data": None, "success": 1}


def test_what_is_no_json_is_a_programming_error() -> None:
    with pytest.raises(TypeError):
        json_value(object())


@pytest.mark.parametrize(
    ("status", "reason", "body", "kind"),
    [
        (200, "OK", b"<html>", OperationFailed),
        (502, "Bad Gateway", b"<html>", OperationFailed),
        (400, "Parameter verification failed.", b'{"errors":{"a":"b"}}', BadParameter),
        (401, "No ticket", b"", NotLoggedIn),
        (595, "No route to host", b"", Unreachable),
        (500, "no", b'{"racimo":{"kind":"os.system","what":"x"}}', OperationFailed),
        (500, "no", b'{"racimo":[]}', OperationFailed),
    ],
)
def test_a_strange_answer_is_an_error_too(status: int, reason: str, body: bytes, kind: type[RacimoError]) -> None:
    assert type(read_answer(status, reason, body).error) is kind
