"""Where the guests of one turn go: placement's rules and scores over what the snapshot says. Pure.

Each choice counts for the next one of the same turn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.ha.feasible import demand_of, lacking, needs_of
from racimo.ha.states import running
from racimo.model.ha import ServiceState
from racimo.placement.fleet import Demand, Fleet, Machine, Scoring
from racimo.placement.pick import Options, pick

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.ha.scene import Scene
    from racimo.model.guest import Guest
    from racimo.model.ha import Service
    from racimo.model.storage import Storage
    from racimo.placement.pick import Nowhere, Picked

WITHOUT_PLACE = (ServiceState.STOPPED, ServiceState.QUEUED, ServiceState.REQUEST_START_BALANCE)
"""States in which a guest keeps no place on its node, unless it runs there all the same."""


class Choosing:
    """Made once per turn; the fleet is counted when it is first asked for."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.snapshot, self.rules = scene, scene.snapshot, scene.snapshot.rules
        self._fleet: Fleet | None = None
        self._lacks: dict[object, dict[str, str]] = {}
        self._goes: dict[str, str] = {}
        """Guests that were given another node in this turn."""
        self._left: set[str] = set()
        """Of those, the ones that are nowhere else any more: by a proof, not by a migration."""

    @property
    def fleet(self) -> Fleet:
        """The nodes that may be given guests, with what is on them."""
        if self._fleet is None:
            self._fleet = self._count()
        return self._fleet

    def pick(self, sid: str, barred: dict[str, str] | None = None) -> Picked | Nowhere:
        """The best node for the guest; ``barred`` are nodes that may not be taken, each with why. Takes nothing yet."""
        return pick(self.fleet, sid, allowed=self._allowed(sid), barred=self._barred(sid, barred), others=self.feasible)

    def options(self, sid: str, *, led: bool = False) -> Options:
        """The nodes that can have the guest; ``led``: wherever the others of its group are now."""
        allowed, barred = self._allowed(sid), self._barred(sid, None)
        return Options(self.fleet, sid, allowed=allowed, barred=barred, led=led, others=self.feasible)

    def refusal(self, sid: str, node: str) -> str:
        """Why ``node`` cannot have the guest, as a sentence; empty if it can.

        Its group does not keep it where it is if the others are asked to go there too, or have left that node: then
        each of them has to be able to.
        """
        if node not in self.scene.online:
            return f"{node} is not online"
        if why := self.scene.closed(node):
            return why
        others = [
            other
            for other in self.rules.together.get(sid, ())
            if other != sid and self.stays_on(other) not in ("", node)
        ]
        led = all(self._comes_along(other, node) for other in others)
        for each in (sid, *others) if led else (sid,):
            options = self.options(each, led=led)
            if node not in options.nodes:
                whose = "" if each == sid else f"{each}, which is kept together with it, cannot go there: "
                return f"{whose}{node} {options.refused().get(node, 'cannot have it')}"
        return ""

    def _comes_along(self, sid: str, node: str) -> bool:
        resource, service = self.snapshot.resources.get(sid), self.snapshot.services.get(sid)
        return (resource is not None and resource.target == node) or (service is not None and service.home == node)

    def take(self, sid: str, node: str) -> None:
        """The guest goes to ``node``."""
        self._goes[sid] = node
        if self._fleet is not None:
            self._fleet.place(sid, node)

    def give(self, sid: str, node: str) -> None:
        """The guest is ``node``'s by a proof: it is not where it was, nor on its way to where it was to go."""
        self._left.add(sid)
        if self._fleet is not None:
            for other in self._fleet.nodes_of(sid):
                if other != node:
                    self._fleet.remove(sid, other)
        self.take(sid, node)

    def is_kept_out(self, sid: str, node: str) -> bool:
        """Whether the guest keeps no place on ``node`` (open), and cannot have one: its memory is not free there, or
        a guest that is kept apart from it has not left yet."""
        fleet, at = self.fleet, self.fleet.index[node]
        if at in fleet.places_of(sid):
            return False
        has, needs = fleet.machines[at].memory, fleet.demand(sid).memory
        return bool(has and fleet.memory[at] + needs > has) or at in fleet.occupied(sid)

    def bound(self, sid: str) -> bool:
        """Whether any rule is about the guest."""
        return sid in self.rules.homes or sid in self.rules.together or sid in self.rules.apart

    def stays_on(self, sid: str) -> str:
        """The node that a guest is on, or on its way to; empty if it runs nowhere."""
        if sid in self._goes:
            return self._goes[sid]
        service = self.snapshot.services.get(sid)
        if service is None or (service.state in WITHOUT_PLACE and not self._runs(sid)):
            return ""
        return service.target or service.node

    def misplaced(self, sid: str, node: str, *, failback: bool) -> str:
        """Why the guest should not stay on ``node``, by a rule of its; empty if it may."""
        for other, rule in sorted(self.rules.apart.get(sid, {}).items()):
            if self.stays_on(other) == node:
                return f"{other} is on {node} too, and rule {rule} keeps them apart"
        if sid in self.rules.together and (why := self._away_from_its_group(sid, node)):
            return why
        home = self.rules.homes.get(sid)
        if home is None:
            return ""
        own = home.priority(node)
        if own is None:
            return f"{node} is not a node of the strict rule {home.rule}"
        better = [name for name, priority in home.nodes.items() if priority > own and name in self.scene.open]
        return f"rule {home.rule} prefers {', '.join(sorted(better))} to {node}" if better and failback else ""

    def prefers(self, sid: str, one: str, other: str) -> bool:
        """Whether the guest's node affinity rule gives ``one`` the higher priority."""
        home = self.rules.homes.get(sid)
        first, second = (home.priority(one), home.priority(other)) if home else (None, None)
        return first is not None and (second is None or first > second)

    def _away_from_its_group(self, sid: str, node: str) -> str:
        counts: dict[str, int] = {}
        for other in self.rules.together[sid]:
            at = self.stays_on(other) if other != sid and not self._ends(other) else ""
            if at in self.scene.open and self._likes_as_much(sid, at, node):
                counts[at] = counts.get(at, 0) + 1
        most = max(counts.values(), default=0)
        if counts.get(node, 0) == most:
            return ""
        where = min(name for name, count in counts.items() if count == most)
        return f"rule {self.rules.joined_by[sid]} keeps it with the others on {where}"

    def _ends(self, sid: str) -> bool:
        """Whether it is being stopped: it draws nobody to where it is."""
        service = self.snapshot.services.get(sid)
        return service is not None and service.state is ServiceState.REQUEST_STOP

    def _likes_as_much(self, sid: str, other: str, node: str) -> bool:
        """Whether the guest's home likes ``other`` no less than ``node``: from where it likes less the group leaves."""
        home = self.rules.homes.get(sid)
        if home is None:
            return True
        first, second = home.priority(other), home.priority(node)
        return first is not None and (second is None or first >= second)

    # what the fleet is made of

    def _allowed(self, sid: str) -> frozenset[str] | None:
        return self.snapshot.allowed.get(sid)

    def _barred(self, sid: str, barred: dict[str, str] | None) -> dict[str, str]:
        """What stands against nodes beside the fleet's own reasons."""
        snapshot, guest = self.snapshot, self.snapshot.guests.get(sid)
        if guest is None or snapshot.storages is None or sid in snapshot.allowed:
            return barred or {}
        return self._lacking(guest, snapshot.storages) | (barred or {})

    def _lacking(self, guest: Guest, storages: Mapping[str, Storage]) -> dict[str, str]:
        """Worked out once for all guests that need the same. The node where the guest is lacks nothing."""
        needs = needs_of(guest, storages, self.snapshot.nodes)
        if needs not in self._lacks:
            self._lacks[needs] = lacking(guest, storages, self.snapshot.nodes, self.scene.open)
        found = self._lacks[needs]
        return {name: why for name, why in found.items() if name != guest.node} if guest.node in found else found

    def feasible(self, sid: str) -> frozenset[str] | None:
        """The nodes that have what the guest needs; None: all."""
        guest, storages = self.snapshot.guests.get(sid), self.snapshot.storages
        if sid in self.snapshot.allowed or guest is None or storages is None:
            return self._allowed(sid)
        lacks = self._lacking(guest, storages)
        return self.scene.open - lacks.keys() if lacks else None

    def _count(self) -> Fleet:
        snapshot = self.snapshot
        places = {
            sid: () if sid in self._left else self._nodes_of(sid, service) for sid, service in snapshot.services.items()
        }
        demands = {sid: self._demand(guest) for sid, guest in snapshot.guests.items()}
        others: dict[str, list[Demand]] = {}
        for sid, guest in snapshot.guests.items():
            if sid not in places and running(guest, snapshot.runtimes.get(sid)):
                others.setdefault(guest.node, []).append(demands[sid])
        machines = {name: self._machine(name, others.get(name, [])) for name in self.scene.open}
        ending = frozenset(filter(self._ends, snapshot.services))
        fleet = Fleet(machines, demands, places, self.rules, _scoring(snapshot.options.crs), ending=ending)
        for sid, node in self._goes.items():
            fleet.place(sid, node)
        return fleet

    def _nodes_of(self, sid: str, service: Service) -> tuple[str, ...]:
        """Where it runs or will run. One that waits to be placed is nowhere yet: it keeps nobody away."""
        if service.state in WITHOUT_PLACE and not self._runs(sid):
            return ()
        return (service.node, service.target) if service.target else (service.node,)

    def _runs(self, sid: str) -> bool:
        guest = self.snapshot.guests.get(sid)
        return guest is not None and running(guest, self.snapshot.runtimes.get(sid))

    def _demand(self, guest: Guest) -> Demand:
        cpus, memory = demand_of(guest.config)
        load = self.snapshot.loads.get(guest.sid)
        return Demand(cpus, memory, load.cpu, load.memory) if load else Demand(cpus, memory)

    def _machine(self, name: str, others: list[Demand]) -> Machine:
        facts, load = self.snapshot.nodes[name].facts, self.snapshot.loads.get(name)
        return Machine(
            cpus=facts.cpus,
            memory=facts.memory,
            other_cpus=sum(demand.cpus for demand in others),
            other_memory=sum(demand.memory for demand in others),
            cpu_load=load.cpu if load else None,
            memory_load=load.memory if load else None,
        )


def _scoring(name: str) -> Scoring:
    """By the datacenter's option; one that a newer version wrote counts as basic."""
    return Scoring(name) if name in tuple(Scoring) else Scoring.BASIC
