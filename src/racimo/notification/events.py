"""What can be said: that something began to hold, and that it is over."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from racimo.model.notification import EventType, Severity

FOLD_AT = 4
"""More than so many messages of one kind at once become one."""
LISTED = 40
"""So many things one message names at most, and one transaction begins or ends."""


@dataclass(frozen=True, slots=True)
class Begin:
    """Something holds that people want to know. ``key`` names it, so that it is said once."""

    key: str
    type: EventType
    severity: Severity
    title: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Over:
    """What ``key`` names holds no more. Worth saying only if it was said that it began."""

    key: str
    type: EventType
    title: str
    text: str
    fields: dict[str, str] = field(default_factory=dict)


Verdict = Begin | Over
V = TypeVar("V", Begin, Over)


def folded(verdicts: Iterable[V]) -> Iterator[tuple[V, ...]]:
    """The verdicts in groups, one message each: those of one type together where there are many. The last per key."""
    groups: dict[EventType, list[V]] = {}
    for verdict in {verdict.key: verdict for verdict in verdicts}.values():
        groups.setdefault(verdict.type, []).append(verdict)
    for group in groups.values():
        if len(group) <= FOLD_AT:
            yield from ((verdict,) for verdict in group)
            continue
        for start in range(0, len(group), LISTED):
            yield tuple(group[start : start + LISTED])


def title_of(group: tuple[V, ...]) -> str:
    """The title of one message about all of them."""
    return group[0].title if len(group) == 1 else f"{group[0].title}, and {len(group) - 1} more"


def text_of(group: tuple[V, ...]) -> str:
    """The text of one message about all of them."""
    return group[0].text if len(group) == 1 else "\n".join(f"* {verdict.text}" for verdict in group)


def fields_of(group: tuple[V, ...]) -> dict[str, str]:
    """Their fields, for matchers; several values with commas between them."""
    names = sorted({name for verdict in group for name in verdict.fields})
    values = {name: {verdict.fields[name] for verdict in group if name in verdict.fields} for name in names}
    return {name: ",".join(sorted(found)) for name, found in values.items()}
