"""Where a guest can go and where it goes best, with a sentence of why for each node that cannot have it."""

from __future__ import annotations

from dataclasses import dataclass
from heapq import nsmallest
from operator import truediv
from typing import TYPE_CHECKING

from racimo.placement.fleet import Scoring
from racimo.placement.rules import ELSEWHERE
from racimo.placement.score import ALIKE, after_start, topsis

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

    from racimo.placement.fleet import Demand, Fleet

GIB = 1 << 30
NAMED = 5
"""How many nodes a sentence names before it only counts them."""


@dataclass(frozen=True, slots=True)
class Picked:
    """The node for a guest, and the sentence's end that says why."""

    node: str
    why: str


@dataclass(frozen=True, slots=True)
class Nowhere:
    """No node can have the guest: ``refused`` says why of each."""

    refused: Mapping[str, str]

    @property
    def why(self) -> str:
        """One sentence's end; nodes with the same reason are named together."""
        if not self.refused:
            return "no node is online"
        nodes: dict[str, list[str]] = {}
        for node, reason in sorted(self.refused.items()):
            nodes.setdefault(reason, []).append(node)
        return "no node can have it: " + "; ".join(f"{_named(names)} {reason}" for reason, names in nodes.items())


def anywhere(_sid: str) -> None:
    """Every node has what a guest needs."""


class Options:
    """The nodes that can have one guest now.

    ``allowed`` are the nodes that have what it needs (storages, networks); None: all. ``barred`` are nodes that must
    not be taken, each with the end of a sentence that begins with the node's name ("failed to start it"). ``led``: the
    others of its group come along, so where they are now does not matter. ``others`` says for each of them what
    ``allowed`` says for the guest itself.
    """

    def __init__(
        self,
        fleet: Fleet,
        sid: str,
        *,
        allowed: Collection[str] | None = None,
        barred: Mapping[str, str] | None = None,
        led: bool = False,
        others: Callable[[str], Collection[str] | None] = anywhere,
    ) -> None:
        self._led, self._others = led, others
        self.fleet, self.sid, self.allowed, self.barred = fleet, sid, allowed, barred or {}
        self.demand = fleet.demand(sid)
        self._home = fleet.rules.homes.get(sid)
        self._occupied = fleet.occupied(sid)
        self._here = fleet.places_of(sid)
        self.joins = False
        """Whether it goes where the others of its group are."""
        self.nodes = self._feasible()

    @property
    def preferred(self) -> list[str]:
        """The nodes of the highest priority among those that can have it, in order of their names."""
        top = max(self.nodes.values(), default=0)
        return [name for name, priority in self.nodes.items() if priority == top]

    def refused(self) -> dict[str, str]:
        """Each node that cannot have it, with the end of a sentence that begins with the node's name."""
        return {
            name: self._obstacle(at, name) or self._elsewhere()
            for at, name in enumerate(self.fleet.names)
            if name not in self.nodes
        }

    def _feasible(self) -> dict[str, int]:
        """By node, the priority; the group's node alone, where it has one."""
        free = {at: self._priority(at) for at in self._free()}
        together: Mapping[int, int] = {} if self._led else self.fleet.where_together(self.sid)
        top = max(free.values(), default=ELSEWHERE)
        if any(self._priority(at) < top for at in together):
            better = self._where_all_can(at for at in free if free[at] == top)
            if better:
                free = {at: free[at] for at in better}
                together = {at: count for at, count in together.items() if self._priority(at) >= top}
        if together:
            joined = [at for at in free if at in together]
            self.joins = bool(joined)
            free = {at: free[at] for at in joined and [min(joined, key=lambda at: (-together[at], at))]}
        elif len(free) > 1:
            free = {at: free[at] for at in self._with_room_for_all(list(free))}
        return {self.fleet.names[at]: priority for at, priority in free.items()}

    def _priority(self, at: int) -> int:
        priority = self._home.priority(self.fleet.names[at]) if self._home else 0
        return ELSEWHERE - 1 if priority is None else priority

    def _where_all_can(self, nodes: Iterable[int]) -> list[int]:
        """Those of ``nodes`` that the whole group can go to, each of it and all at once: the others will follow."""
        fleet, group = self.fleet, self.fleet.rules.together[self.sid]
        others = [
            Options(fleet, sid, allowed=self._others(sid), led=True).nodes
            for sid in group
            if sid != self.sid and fleet.places_of(sid)
        ]
        found = []
        for at in nodes:
            coming = sum(fleet.demand(sid).memory for sid in group if at not in fleet.places_of(sid))
            has = fleet.machines[at].memory
            if all(fleet.names[at] in each for each in others) and (not has or fleet.memory[at] + coming <= has):
                found.append(at)
        return found

    def _free(self) -> list[int]:
        """The nodes against which nothing stands: what ``_obstacle`` says, in bulk."""
        fleet, demand, here, names = self.fleet, self.demand, self._here, self.fleet.names
        free = [
            at
            for at, (machine, held) in enumerate(zip(fleet.machines, fleet.memory, strict=True))
            if ((not machine.memory or held + demand.memory <= machine.memory)
            and (not machine.cpus or demand.cpus <= machine.cpus))
            or at in here
        ]  # fmt: skip
        if self.allowed is not None:
            free = [at for at in free if names[at] in self.allowed]
        if self.barred:
            free = [at for at in free if names[at] not in self.barred]
        if self._occupied:
            free = [at for at in free if at not in self._occupied]
        home = self._home
        return free if home is None else [at for at in free if home.priority(names[at]) is not None]

    def _with_room_for_all(self, free: list[int]) -> list[int]:
        """Those where the others of the group fit too, and have what they need; ``free`` itself when there is none."""
        group = self.fleet.rules.together.get(self.sid, ())
        if not group:
            return free
        need = sum(self.fleet.demand(other).memory for other in group)
        allowed = [nodes for sid in group if sid != self.sid and (nodes := self._others(sid)) is not None]
        names = self.fleet.names
        roomy = [at for at in free if self._lacks(at, need) <= 0 and all(names[at] in nodes for nodes in allowed)]
        return roomy or free

    def _lacks(self, at: int, need: int) -> int:
        """How many bytes are missing on the node for ``need`` more."""
        fleet = self.fleet
        has = fleet.machines[at].memory
        return fleet.memory[at] + need - has if has and at not in self._here else 0

    def _obstacle(self, at: int, name: str) -> str:
        """Why the node cannot have the guest; empty if it can, as far as it alone is concerned."""
        if name in self.barred:
            return self.barred[name]
        if self.allowed is not None and name not in self.allowed:
            return "lacks a storage of its"
        if self._home is not None and self._home.priority(name) is None:
            return f"is not a node of the strict rule {self._home.rule}"
        if at in self._occupied:
            other = self._occupied[at]
            return f"has {other}, which rule {self.fleet.rules.apart[self.sid][other]} keeps apart from it"
        machine = self.fleet.machines[at]
        if machine.cpus and self.demand.cpus > machine.cpus and at not in self._here:
            return f"has {machine.cpus:g} CPUs, and it needs {self.demand.cpus:g}"
        if machine.memory and self._lacks(at, self.demand.memory) > 0:
            left = max(0, machine.memory - self.fleet.memory[at])
            return f"has {_gib(left)} of memory left, and it needs {_gib(self.demand.memory)}"
        return ""

    def _elsewhere(self) -> str:
        """Why a node that could have it is passed over: the group is elsewhere."""
        where = {} if self._led else self.fleet.where_together(self.sid)
        if not where:
            return "has no room for all that is kept together with it"
        nodes = _named([self.fleet.names[at] for at in sorted(where, key=lambda at: (-where[at], at))])
        return f"is not where rule {self.fleet.rules.joined_by[self.sid]} keeps it, with the others on {nodes}"


def pick(
    fleet: Fleet,
    sid: str,
    *,
    allowed: Collection[str] | None = None,
    barred: Mapping[str, str] | None = None,
    others: Callable[[str], Collection[str] | None] = anywhere,
) -> Picked | Nowhere:
    """The best node for a guest that is to be started, of those with the highest priority; see ``Options``.

    The fleet is not changed: ``Fleet.place`` does that.
    """
    options = Options(fleet, sid, allowed=allowed, barred=barred, others=others)
    candidates = options.preferred
    if not candidates:
        return Nowhere(options.refused())
    if len(candidates) == 1:
        return Picked(candidates[0], _why_only(options, candidates[0]))
    if fleet.scoring is Scoring.BASIC:
        return _fewest(fleet, candidates)
    return _best(fleet, fleet.demand(sid), candidates)


def _why_only(options: Options, node: str) -> str:
    rules = options.fleet.rules
    if options.joins:
        return f"rule {rules.joined_by[options.sid]} keeps it with the others on {node}"
    if len(options.nodes) > 1:
        return f"{node} is the one that rule {rules.homes[options.sid].rule} prefers"
    return f"{node} is the only node left for it"


def _fewest(fleet: Fleet, candidates: list[str]) -> Picked:
    counts = [fleet.guests[fleet.index[name]] for name in candidates]
    least = min(counts)
    best = candidates[counts.index(least)]
    if counts.count(least) > 1:
        return Picked(best, f"{best} is the first of the emptiest of {_among(candidates)}")
    return Picked(best, f"{best} has the fewest guests of {_among(candidates)}")


def _best(fleet: Fleet, demand: Demand, candidates: list[str]) -> Picked:
    found = node_scores(fleet, demand)
    scores = [found[fleet.index[name]] for name in candidates]
    enough = max(scores) - ALIKE
    best = next(name for name, score in zip(candidates, scores, strict=True) if score >= enough)
    told = nsmallest(NAMED, zip([-score for score in scores], candidates, strict=True))
    shown = ", ".join(f"{name} {-score:.4f}" for score, name in told)
    return Picked(best, f"{best} scores best of {_among(candidates)} ({shown})")


def node_scores(fleet: Fleet, demand: Demand) -> list[float]:
    """How good it is to start a guest of ``demand`` on each node of ``fleet.names``: 0 to 1, the more the better."""
    cpus, sizes = fleet.cpu_sizes, fleet.memory_sizes
    cpu = list(map(truediv, fleet.cpu_use, cpus))
    memory = list(map(truediv, fleet.memory_use, sizes))
    new_cpu = [(use + demand.cpus) / has for use, has in zip(fleet.cpu_use, cpus, strict=True)]
    new_memory = [(use + demand.memory) / has for use, has in zip(fleet.memory_use, sizes, strict=True)]
    return topsis(after_start(cpu, memory, new_cpu, new_memory))


def _among(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= NAMED else f"{len(names)} nodes"


def _named(names: list[str]) -> str:
    if len(names) <= NAMED:
        return ", ".join(names)
    return f"{', '.join(names[:NAMED])} and {len(names) - NAMED} more"


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"
