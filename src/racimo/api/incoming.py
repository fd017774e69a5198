"""A request as it came in, before anybody knows which row it is for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

from racimo.api.parameters import gathered
from racimo.errors import BadParameter, BadRequest

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Who
    from racimo.api.upload import Upload

MAX_FIELDS = 1000


@dataclass(frozen=True, slots=True)
class Incoming:
    """``path`` is below the prefix; it and ``query`` are escaped as they were sent. ``forwarded_by`` names a peer."""

    who: Who
    method: str
    path: str
    query: str = ""
    content_type: str = ""
    body: bytes = b""
    extjs: bool = False
    forwarded_by: str = ""
    upload: Upload | None = None
    """The body, where it is a file that is read as it comes; ``body`` is empty then."""

    def given(self) -> dict[str, JsonValue]:
        """The parameters of query and body. Raises ``BadRequest``."""
        kind = self.content_type.partition(";")[0].strip().lower()
        if kind == "application/json":
            return self._with_json()
        if self.body and kind not in ("application/x-www-form-urlencoded", ""):
            raise BadRequest(
                f"A body of type '{kind[:80]}' is not understood",
                todo="Send application/x-www-form-urlencoded or application/json",
            )
        return gathered([*_pairs(self.query), *_pairs(_decoded(self.body))])

    def _with_json(self) -> dict[str, JsonValue]:
        values = gathered(_pairs(self.query))
        if not self.body.strip():
            return values
        try:
            fields = json.loads(self.body, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise BadRequest("The body is not JSON", why=str(error)) from error
        if not isinstance(fields, dict):
            raise BadRequest("The body is no JSON object", todo="Send parameters as an object, by name")
        doubled = dict.fromkeys(values.keys() & fields.keys(), "stands in query and body")
        if doubled:
            raise BadParameter(doubled)
        return {**values, **fields}


def _decoded(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest("The parameters cannot be read", why=str(error)) from error


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is not a number of JSON")


def _pairs(text: str) -> list[tuple[str, str]]:
    try:
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
    except ValueError as error:
        raise BadRequest("The parameters cannot be read", why=str(error)) from error
