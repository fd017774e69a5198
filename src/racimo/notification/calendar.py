"""Times of the week in which a matcher matches: ``mon..fri 8:00-17:00``, ``22:00-6:00``, ``sat,sun``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK = re.compile(r"(\d{1,2})(?::(\d{2}))?-(\d{1,2})(?::(\d{2}))?")
DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class Span:
    """From ``start`` up to ``end`` on ``days``: minutes after midnight, the end left out.

    Over midnight if it ends before it starts: then the day is the one on which it starts.
    """

    days: frozenset[int]
    start: int = 0
    end: int = DAY_MINUTES

    def holds(self, moment: datetime) -> bool:
        """Whether ``moment``, local time, lies within."""
        minute, day = moment.hour * 60 + moment.minute, moment.weekday()
        if self.start < self.end:
            return day in self.days and self.start <= minute < self.end
        yesterday = (day - 1) % 7
        return (day in self.days and minute >= self.start) or (yesterday in self.days and minute < self.end)


def parse_span(text: str) -> Span:
    """Raises ``ValueError`` saying what is expected."""
    words = text.lower().split()
    days, start, end = frozenset(range(7)), 0, DAY_MINUTES
    if words and words[0][:1].isalpha():
        days = frozenset(day for part in words.pop(0).split(",") for day in _days(part, text))
    if words:
        match = _CLOCK.fullmatch(words.pop(0))
        if match is None or words:
            raise ValueError(_expected(text))
        start, end = _minute(match[1], match[2], text), _minute(match[3], match[4], text)
    elif not text.strip():
        raise ValueError(_expected(text))
    if start == end:
        raise ValueError(_expected(text))
    return Span(days, start, end)


def _days(part: str, text: str) -> list[int]:
    first, _, last = part.replace("..", "-").partition("-")
    if first not in DAYS or (last and last not in DAYS):
        raise ValueError(_expected(text))
    begin, finish = DAYS.index(first), DAYS.index(last or first)
    return [day % 7 for day in range(begin, finish + 1 if finish >= begin else finish + 8)]


def _minute(hour: str, minute: str | None, text: str) -> int:
    total = int(hour) * 60 + int(minute or 0)
    if total > DAY_MINUTES or int(minute or 0) > 59:
        raise ValueError(_expected(text))
    return total


def _expected(text: str) -> str:
    return f"'{text}' is not a time such as mon..fri 8:00-17:00, 22:00-6:00 or sat,sun"
