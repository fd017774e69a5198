"""What goes back: results as JSON, and the one place where errors become HTTP codes.

The reason phrase of the status line carries the message, because the field's clients read it there. The body carries
it too, and the three parts of the error (what, why, todo) under ``racimo``.
"""

from __future__ import annotations

import dataclasses
import json
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

from racimo.errors import (
    BadParameter,
    BadRequest,
    NotClustered,
    NotImplementedHere,
    NotLoggedIn,
    OperationFailed,
    RacimoError,
    StoreUnavailable,
    Unauthorised,
    Unreachable,
)
from racimo.task.failure import Failure
from racimo.task.upid import Upid

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

MAX_REASON = 512
"""Characters of a reason phrase; the body has all of it."""
NOT_REACHED, NO_ANSWER = 595, 596

_CODES: tuple[tuple[type[RacimoError], int], ...] = (
    (NotLoggedIn, 401),
    (Unauthorised, 403),
    (BadRequest, 400),
    (NotClustered, 424),
    (NotImplementedHere, 501),
    (RacimoError, 500),
)
"""The first class that fits gives the code. Missing objects are 500, as clients of the Proxmox VE API expect."""


class Reply(NamedTuple):
    """What is sent: code, reason phrase, body."""

    status: int
    reason: str
    body: bytes
    content_type: str = "application/json;charset=UTF-8"


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list; ``total`` is how many entries there are in all, and stands beside ``data`` in the body."""

    entries: Sequence[JsonValue]
    total: int


def success(result: object, *, extjs: bool = False) -> Reply:
    """A result. Booleans become 1 and 0, UPIDs text, dataclasses objects."""
    body: dict[str, JsonValue] = {"data": json_value(result.entries if isinstance(result, Page) else result)}
    if isinstance(result, Page):
        body["total"] = result.total
    if extjs:
        body["success"] = 1
    return Reply(200, "OK", _encoded(body))


def failure(error: RacimoError, *, extjs: bool = False) -> Reply:
    """An error. In the ``extjs`` form the HTTP code is 200 and the body's ``status`` has the real one."""
    status, message = code(error), text(error)
    body: dict[str, JsonValue] = {"data": None, "message": message, "racimo": json_value(Failure.of(error))}
    if isinstance(error, BadParameter):
        body["errors"] = dict(error.parameters)
    if extjs:
        return Reply(200, "OK", _encoded({**body, "success": 0, "status": status}))
    return Reply(status, reason_phrase(message), _encoded(body))


def code(error: RacimoError) -> int:
    """The HTTP code of an error: 595 for a node that could not be reached, 596 for one that did not answer."""
    if isinstance(error, Unreachable):
        return NO_ANSWER if error.may_have_acted else NOT_REACHED
    return next(status for kind, status in _CODES if isinstance(error, kind))


def text(error: RacimoError) -> str:
    """The message: bare for malformed parameters, as clients match it; else with why and what to do."""
    if isinstance(error, BadParameter):
        return "Parameter verification failed."
    if isinstance(error, StoreUnavailable):
        return f"the datacenter's store does not answer (no quorum?) - {error}"
    return str(error)


def reason_phrase(message: str) -> str:
    """``message`` as it may stand in a status line (RFC 9112, section 4): printable ASCII on one line, bounded."""
    flat = " ".join(unicodedata.normalize("NFKD", message).split())
    plain = "".join(c if " " <= c <= "~" else "?" for c in flat if not unicodedata.combining(c))
    return plain if len(plain) <= MAX_REASON else plain[: MAX_REASON - 3] + "..."


def json_value(result: object) -> JsonValue:
    """``result`` as JSON with booleans as 0 and 1. Raises ``TypeError`` for what cannot be shown."""
    try:
        return _numbers(to_jsonable_python(_plain(result)))
    except PydanticSerializationError as error:
        raise TypeError(f"The result cannot be shown as JSON: {error}") from error


class Answer(NamedTuple):
    """A body as it was received."""

    data: JsonValue
    error: RacimoError | None


_BODY: TypeAdapter[dict[str, JsonValue]] = TypeAdapter(dict[str, JsonValue])
_FAILURE: TypeAdapter[Failure] = TypeAdapter(Failure)


def read_answer(status: int, reason: str, body: bytes) -> Answer:
    """The other way round: what a node answered, with the error as it was raised there."""
    try:
        fields = _BODY.validate_python(json.loads(body)) if body else {}
    except (ValueError, ValidationError):
        fields = {}
        if status < 300:
            return Answer(None, OperationFailed("The answer is not JSON", why=f"{status} {reason}"))
    if status < 300 and fields.get("success", 1) != 0:
        return Answer(fields.get("data"), None)
    try:
        return Answer(None, _FAILURE.validate_python(fields["racimo"]).error())
    except (KeyError, ValidationError):
        return Answer(None, _foreign(status, reason, fields))


def _foreign(status: int, reason: str, fields: Mapping[str, JsonValue]) -> RacimoError:
    """An error that says no more than its code and phrase (a proxy in between, an older version)."""
    errors = fields.get("errors")
    if status == 400 and isinstance(errors, dict):
        return BadParameter({name: str(why) for name, why in errors.items()})
    what = reason or f"HTTP code {status}"
    if status in (NOT_REACHED, NO_ANSWER):
        return Unreachable(what, may_have_acted=status == NO_ANSWER)
    kinds = {400: BadRequest, 401: NotLoggedIn, 403: Unauthorised, 424: NotClustered, 501: NotImplementedHere}
    return kinds.get(status, OperationFailed)(what)


def _plain(value: object) -> object:
    """UPIDs as text, dataclasses as objects, all the way down."""
    if isinstance(value, Upid):
        return str(value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(name): _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(part) for part in value]
    return value


def _numbers(value: JsonValue) -> JsonValue:
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, dict):
        return {name: _numbers(part) for name, part in value.items()}
    if isinstance(value, list):
        return [_numbers(part) for part in value]
    return value


def _encoded(body: Mapping[str, JsonValue]) -> bytes:
    return json.dumps(body, separators=(",", ":"), ensure_ascii=False).encode(errors="replace")
