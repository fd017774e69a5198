"""How guests behave when they are started, stopped and moved: as the setup says, well by default."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from racimo.ha.simulate.setup import Failures

if TYPE_CHECKING:
    from racimo.ha.simulate.setup import GuestSetup, Setup


class Behaviour:
    """Each answer is the reason of a failure, empty for success. Counts of failures begin anew with each success."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._guests: dict[int, GuestSetup] = {int(sid[3:]): guest for sid, guest in setup.guests.items()}
        self._starts: Counter[int] = Counter()
        self._moves: Counter[int] = Counter()
        self._limits: dict[int, float] = {}

    def _fails(self, vmid: int) -> Failures:
        guest = self._guests.get(vmid)
        return guest.fails if guest else Failures()

    def start(self, vmid: int, node: str) -> str:
        """Started on ``node``."""
        fails = self._fails(vmid)
        if fails.only_on is not None and fails.only_on != node:
            return f"it starts on {fails.only_on} alone"
        self._starts[vmid] += 1
        if self._starts[vmid] <= fails.start:
            return f"start {self._starts[vmid]} of {fails.start} that fail"
        self._starts[vmid] = 0
        return ""

    def migrate(self, vmid: int) -> str:
        """Moved live."""
        self._moves[vmid] += 1
        if self._moves[vmid] <= self._fails(vmid).migrate:
            return f"migration {self._moves[vmid]} of {self._fails(vmid).migrate} that fail"
        self._moves[vmid] = 0
        return ""

    def stop(self, vmid: int) -> str:
        """Shut down."""
        forced = self._limits.pop(vmid, None) is not None
        return "it does not shut down" if self._fails(vmid).stop and not forced else ""

    def limit_stop(self, vmid: int, seconds: float) -> None:
        """Its next stop is by force after so long."""
        self._limits[vmid] = seconds

    def stop_s(self, vmid: int) -> float:
        """How long its shutdown takes, in seconds."""
        usual = self._setup.durations.stop
        limit = self._limits.get(vmid)
        if limit is None:
            return usual
        return limit if self._fails(vmid).stop else min(usual, limit)
