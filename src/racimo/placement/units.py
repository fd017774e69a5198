"""What can be moved for balance: guests, and groups that are kept together, each with where it may go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from racimo.placement.fleet import Fleet


@dataclass(frozen=True, slots=True)
class Unit:
    """Guests that move as one, all on the node ``source`` (a number in ``Fleet.names``)."""

    sids: tuple[str, ...]
    source: int
    cpu: float
    """CPUs that it adds to a node, by the fleet's scoring; ``memory`` likewise, in bytes."""
    memory: float
    configured: int
    """Bytes that it must find on a node."""
    cpus: float
    """The most CPUs that one of its guests has."""
    bound: bool
    """Whether there are rules or storages to look at, beside what nodes have."""


def units(fleet: Fleet, movable: Collection[str], allowed: Mapping[str, Collection[str]]) -> list[Unit]:
    """In order of their first sids. A group of which a part must stay, is elsewhere or is moving stays as it is."""
    found: list[Unit] = []
    seen: set[str] = set()
    wanted = set(movable)
    for sid in sorted(wanted):
        if sid in seen:
            continue
        sids = tuple(other for other in fleet.rules.together.get(sid, (sid,)) if fleet.places_of(other))
        seen.update(sids)
        places = {tuple(fleet.places_of(other)) for other in sids}
        if len(places) != 1 or not wanted.issuperset(sids):
            continue
        where = places.pop()
        if len(where) == 1:
            found.append(_unit(fleet, sids, where[0], allowed))
    return found


def _unit(fleet: Fleet, sids: tuple[str, ...], source: int, allowed: Mapping[str, Collection[str]]) -> Unit:
    loads = [fleet.load(sid) for sid in sids]
    demands = [fleet.demand(sid) for sid in sids]
    rules = fleet.rules
    return Unit(
        sids=sids,
        source=source,
        cpu=sum(cpu for cpu, _ in loads),
        memory=sum(memory for _, memory in loads),
        configured=sum(demand.memory for demand in demands),
        cpus=max(demand.cpus for demand in demands),
        bound=any(sid in allowed or sid in rules.homes or sid in rules.apart for sid in sids),
    )


class Targets:
    """Which nodes can have which unit, as the fleet is at the moment."""

    def __init__(self, fleet: Fleet, allowed: Mapping[str, Collection[str]]) -> None:
        self._fleet, self._allowed = fleet, allowed

    def fits(self, unit: Unit, at: int) -> bool:
        """Whether the node has room for it, and no rule forbids it or likes it less than where the unit is."""
        machine = self._fleet.machines[at]
        if machine.memory and self._fleet.memory[at] + unit.configured > machine.memory:
            return False
        if machine.cpus and unit.cpus > machine.cpus:
            return False
        return not unit.bound or all(self._may(sid, unit.source, at) for sid in unit.sids)

    def _may(self, sid: str, source: int, at: int) -> bool:
        fleet = self._fleet
        name = fleet.names[at]
        if sid in self._allowed and name not in self._allowed[sid]:
            return False
        home = fleet.rules.homes.get(sid)
        if home is not None:
            there, here = home.priority(name), home.priority(fleet.names[source])
            if there is None or (here is not None and there < here):
                return False
        return not any(at in fleet.places_of(other) for other in fleet.rules.apart.get(sid, ()))
