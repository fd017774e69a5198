"""Deliberate breaks of the safety rules, each with a story in which the oracle must see what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import stories

from racimo.ha.daemon import HaNode
from racimo.ha.heartbeat import Holder
from racimo.ha.observer import Observer

if TYPE_CHECKING:
    from collections.abc import Callable

    from history import Story
    from world import World

    from racimo.ha.states import Sighting


def as_it_is(world: World) -> None:
    """The world is not touched."""


@dataclass(frozen=True, slots=True)
class Mutant:
    """One break: of the HA code (``make_ha``), or of what it stands on (``prepare``)."""

    name: str
    story: Story
    make_ha: type[HaNode] = HaNode
    prepare: Callable[[World], None] = as_it_is


class _Impatient(Observer):
    """Takes a node for dead before its lease has run out."""

    def sighting(self, node: str, now: float) -> Sighting | None:
        seen = super().sighting(node, now)
        return replace(seen, expires=seen.since + 4.0) if seen else None


class ImpatientHa(HaNode):
    """Its observer leaves no margin."""

    observer_kind = _Impatient


class _LateHolder(Holder):
    """Counts the lease from when the answer came."""

    def _acknowledge(self, sequence: int, revision: int) -> None:
        if sequence in self._sent:
            self._sent[sequence] = (self.clock.boottime_ns(), self._sent[sequence][1])
        super()._acknowledge(sequence, revision)


class LateHa(HaNode):
    """Its lease is counted from the reply."""

    holder_kind = _LateHolder


def without_guard(world: World) -> None:
    """A guard that feeds the watchdog and kills nothing, and no second killer."""
    for node in world.nodes.values():
        node.guard_on = node.killer_on = False


def without_epochs(world: World) -> None:
    """The nodes' daemons carry out commands of an older epoch, and do not compare the guest's record."""
    world.checks_epochs = False


MUTANTS = (
    Mutant("no observer margin", stories.cut_off, ImpatientHa),
    Mutant("lease counted from the reply", stories.answer_lost_then_cut_off, LateHa),
    Mutant("guard off", stories.cut_off, prepare=without_guard),
    Mutant("stale epoch accepted", stories.late_command, prepare=without_epochs),
)
