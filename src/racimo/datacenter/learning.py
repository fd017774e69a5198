"""This node's learner on its way to a vote: for how long it has not answered, and when it is time to start it over."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE_S = 30.0
"""For how many seconds a learner may not answer before it is dropped and added anew; twice that the next time, and so
on: one that only needs long for what it has to fetch gets there."""


class Learning:
    """``clock`` in seconds, monotonic."""

    def __init__(self, clock: Callable[[], float], patience: float = PATIENCE_S) -> None:
        self.clock, self.patience = clock, patience
        self._silent_since: tuple[int, float] | None = None

    def out_of_patience(self, member: int, *, answers: bool) -> bool:
        """Whether the learner ``member`` has not answered for too long; to be asked at each look at it."""
        now = self.clock()
        if answers:
            self._silent_since = None
            return False
        if self._silent_since is None or self._silent_since[0] != member:
            self._silent_since = (member, now)
        return now - self._silent_since[1] >= self.patience

    def started_over(self) -> None:
        """The learner was dropped; its successor is given more time."""
        self._silent_since = None
        self.patience *= 2
