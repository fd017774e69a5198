"""What nodes and guests used over time: ring tables in SQLite on each node, of fixed size whatever the time.

Each figure goes into one ring for each span. A slot of a ring holds the sum, the number and the largest of the looks
that fell into it, so both averages and maxima can be told.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from pathlib import Path

SLOTS = 70
"""Slots of each ring."""
STEPS = {"hour": 60, "day": 1800, "week": 10_800, "month": 43_200, "year": 604_800}
"""Seconds of one slot, by span."""
SCHEMA = """
    CREATE TABLE IF NOT EXISTS ring (
        subject TEXT NOT NULL, span TEXT NOT NULL, slot INTEGER NOT NULL, at INTEGER NOT NULL, figures TEXT NOT NULL,
        PRIMARY KEY (subject, span, slot)
    ) WITHOUT ROWID
"""


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot: ``at`` is its beginning in seconds since the epoch."""

    at: int
    figures: dict[str, float]


class History:
    """The rings in the file ``path``. Subjects are ``node`` and ``guest/<vmid>``."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writing = asyncio.Lock()

    async def note(self, at: float, looks: Mapping[str, Mapping[str, float]]) -> None:
        """Add one look at each subject at the time ``at``."""
        async with self._writing:
            await asyncio.to_thread(self._note, int(at), looks)

    async def read(self, subject: str, span: str, now: float, *, largest: bool = False) -> list[Slot]:
        """The slots of the span that ends ``now``, oldest first: averages, or with ``largest`` maxima."""
        return await asyncio.to_thread(self._read, subject, span, int(now), largest)

    async def keep_guests(self, known: Collection[int]) -> None:
        """Of guests that are not ``known`` any more nothing is kept: a later one may get the number."""
        async with self._writing:
            await asyncio.to_thread(self._keep, {"node", *(f"guest/{vmid}" for vmid in known)})

    def _open(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        base = sqlite3.connect(self._path, timeout=10)
        base.execute("PRAGMA journal_mode=WAL")
        base.execute("PRAGMA synchronous=NORMAL")
        base.execute(SCHEMA)
        return base

    def _note(self, at: int, looks: Mapping[str, Mapping[str, float]]) -> None:
        with closing(self._open()) as base, base:
            for subject, figures in looks.items():
                for span, step in STEPS.items():
                    begin = at - at % step
                    key = (subject, span, begin // step % SLOTS)
                    found = base.execute(
                        "SELECT at, figures FROM ring WHERE subject = ? AND span = ? AND slot = ?", key
                    ).fetchone()
                    before = json.loads(found[1]) if found and found[0] == begin else {}
                    base.execute("REPLACE INTO ring VALUES (?, ?, ?, ?, ?)", (*key, begin, _joined(before, figures)))

    def _read(self, subject: str, span: str, now: int, largest: bool) -> list[Slot]:
        step = STEPS[span]
        with closing(self._open()) as base:
            rows = base.execute(
                "SELECT at, figures FROM ring WHERE subject = ? AND span = ? AND at > ? ORDER BY at",
                (subject, span, now - step * SLOTS),
            ).fetchall()
        return [Slot(int(at), _told(json.loads(figures), largest=largest)) for at, figures in rows]

    def _keep(self, subjects: set[str]) -> None:
        with closing(self._open()) as base, base:
            for (subject,) in base.execute("SELECT DISTINCT subject FROM ring").fetchall():
                if subject not in subjects:
                    base.execute("DELETE FROM ring WHERE subject = ?", (subject,))


def _joined(before: dict[str, Any], figures: Mapping[str, float]) -> str:
    """A slot's JSON with one more look: by figure its number, sum and largest."""
    joined = dict(before)
    for name, value in figures.items():
        number, total, most = joined.get(name, (0, 0.0, value))
        joined[name] = (number + 1, total + value, max(most, value))
    return json.dumps(joined, separators=(",", ":"))


def _told(figures: dict[str, Any], *, largest: bool) -> dict[str, float]:
    return {name: most if largest else total / number for name, (number, total, most) in figures.items()}
