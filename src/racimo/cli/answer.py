"""What a node answered: JSON, read through names and types, so that a missing field never ends in a stack trace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import JsonValue

Json: TypeAlias = "JsonValue"


@dataclass(frozen=True, slots=True)
class Row:
    """One JSON object. ``fields`` is what came over the wire, whole; that is what ``--json`` prints."""

    fields: dict[str, Json]

    def text(self, name: str, default: str = "") -> str:
        """The field as text; ``default`` where it is absent or null."""
        value = self.fields.get(name)
        if value is None:
            return default
        return value if isinstance(value, str) else str(value)

    def number(self, name: str) -> float | None:
        """The field as a number; None where it is absent or none."""
        value = self.fields.get(name)
        if isinstance(value, bool | int | float):
            return float(value)
        try:
            return float(value) if isinstance(value, str) else None
        except ValueError:
            return None

    def flag(self, name: str) -> bool:
        """The field as a yes or no; the API writes 1 and 0."""
        return self.fields.get(name) in (True, 1, "1", "on", "yes", "true")

    def row(self, name: str) -> Row:
        """The object under ``name``; an empty one where there is none."""
        value = self.fields.get(name)
        return Row(value) if isinstance(value, dict) else Row({})

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)


def row(answer: Json) -> Row:
    """The answer as one object; an empty one when it is something else."""
    return Row(answer) if isinstance(answer, dict) else Row({})


def rows(answer: Json) -> list[Row]:
    """The answer as a list of objects, anything else in it left out."""
    return [Row(item) for item in answer if isinstance(item, dict)] if isinstance(answer, list) else []
