"""Which targets a message goes to. Pure."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING

from racimo.model.notification import MatchMode
from racimo.notification.calendar import parse_span

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from racimo.model.notification import Matcher, Message, Target

_FIELD = re.compile(r"(exact|regex):([a-z][a-z0-9-]*)=(.+)", re.DOTALL)


def matches(matcher: Matcher, message: Message) -> bool:
    """Whether the matcher takes the message. A condition on a field that the message lacks does not hold."""
    if matcher.disable:
        return False
    held = list(_conditions(matcher, message))
    found = (any(held) if matcher.mode is MatchMode.ANY else all(held)) if held else True
    return found is not matcher.invert


def _conditions(matcher: Matcher, message: Message) -> Iterator[bool]:
    if matcher.severities:
        yield message.severity in matcher.severities
    fields = {**message.fields, "type": str(message.type), "severity": str(message.severity)}
    for condition in matcher.fields:
        yield field_holds(condition, fields)
    if matcher.calendar:
        moment = datetime.fromtimestamp(message.at).astimezone()
        yield any(parse_span(span).holds(moment) for span in matcher.calendar)


def field_holds(condition: str, fields: Mapping[str, str]) -> bool:
    """Whether one condition on a field holds."""
    way, name, wanted = parse_field(condition)
    value = fields.get(name)
    if value is None:
        return False
    values = value.split(",")  # a message about several guests or nodes names them all
    if way == "exact":
        return not set(values).isdisjoint(wanted.split(","))
    return any(re.search(wanted, one) for one in values)


def parse_field(condition: str) -> tuple[str, str, str]:
    """How, which field, and what is wanted of it. Raises ``ValueError`` saying what is expected."""
    match = _FIELD.fullmatch(condition)
    if match is None:
        raise ValueError(f"'{condition}' is not like exact:type=fencing or regex:hostname=^n[12]$")
    if match[1] == "regex":
        try:
            re.compile(match[3])
        except re.error as error:
            raise ValueError(f"'{match[3]}' is not a regular expression: {error}") from error
    return match[1], match[2], match[3]


def receivers(message: Message, matchers: Iterable[Matcher], targets: Mapping[str, Target]) -> tuple[str, ...]:
    """The targets of all matchers that take the message, each once, those that are switched off left out."""
    names = {name for matcher in matchers if matches(matcher, message) for name in matcher.targets}
    return tuple(sorted(name for name in names if name in targets and not targets[name].disable))
