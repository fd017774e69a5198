"""What a scenario file expects, compared with what came of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from racimo.ha.simulate.report import checkpoint_json

if TYPE_CHECKING:
    from racimo.ha.simulate.history import Result


def differences(result: Result, expect: list[dict[str, Any]]) -> list[str]:
    """What is not as expected: each expectation names a moment, and of guests and nodes only what it cares for."""
    looks = {look.at: checkpoint_json(look) for look in (*result.checkpoints, result.final)}
    found = []
    for expected in expect:
        look = looks[expected["at"]]
        for kind in ("guests", "nodes"):
            for name, fields in expected.get(kind, {}).items():
                seen = look[kind].get(name)
                if fields is None or seen is None:
                    if fields is not seen:
                        found.append(f"at {expected['at']}: {name} is {seen}, expected {fields}")
                    continue
                wrong = {field: seen[field] for field, value in fields.items() if seen[field] != value}
                if wrong:
                    found.append(f"at {expected['at']}: {name} has {wrong}, expected {fields}")
    return found
