"""Templates of webhooks: ``{{ title }}``, ``{{ escape text }}``, ``{{ json fields }}``, ``{{ secrets.NAME }}``."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.model.notification import Message

_PLACE = re.compile(r"\{\{\s*(?:(escape|json|url-encode)\s+)?([A-Za-z][\w.-]*)\s*\}\}")
WORDS = ("id", "title", "message", "text", "severity", "type", "timestamp", "over", "about", "node", "fields")


def document(message: Message) -> dict[str, object]:
    """A message as one JSON object: what a webhook without a template gets. ``message`` is what people read."""
    return {
        "id": message.id, "type": str(message.type), "severity": str(message.severity), "title": message.title,
        "message": message.text, "text": message.text, "timestamp": int(message.at), "over": message.over,
        "at": datetime.fromtimestamp(message.at, UTC).isoformat(), "about": message.about, "node": message.by,
        "fields": dict(message.fields),
    }  # fmt: skip


def filled(template: str, message: Message, secrets: Mapping[str, str]) -> str:
    """The template with everything put in. Unknown places become empty: ``check`` refuses them beforehand."""
    known = document(message)

    def value(place: re.Match[str]) -> str:
        found = _value(place[2], known, message.fields, secrets)
        if place[1] == "json":
            return json.dumps(found)
        text = found if isinstance(found, str) else json.dumps(found)
        if place[1] == "escape":
            return json.dumps(text)[1:-1]
        return quote(text, safe="") if place[1] == "url-encode" else text

    return _PLACE.sub(value, template)


def _value(name: str, known: Mapping[str, object], fields: Mapping[str, str], secrets: Mapping[str, str]) -> object:
    family, _, rest = name.partition(".")
    if rest:
        return (fields if family == "fields" else secrets).get(rest, "")
    return known.get(name, "")


def check(template: str, secrets: Mapping[str, str]) -> None:
    """Raises ``ValueError`` naming a place that nothing stands for."""
    for place in _PLACE.finditer(template):
        family, _, rest = place[2].partition(".")
        if family == "secrets" and rest:
            if rest not in secrets:
                raise ValueError(f"'{place[0]}' names a secret that there is not")
        elif not (family == "fields" and rest) and place[2] not in WORDS:
            raise ValueError(f"'{place[0]}' stands for nothing; known are {', '.join(WORDS)}")
