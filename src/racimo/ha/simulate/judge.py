"""What rules and sizes forbid, worked out from the setup, the disks and the commits, without placement's code.

``surely`` counts on a node what runs there, or was commanded to; ``perhaps`` also what keeps a place there. A start is
wrong only where it is wrong by the first, and a node could have had a guest only if it could by the second.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.ha import ServiceState
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.ha.simulate.setup import RuleSetup
    from racimo.ha.simulate.world import World
    from racimo.model.rule import Rule

MIB = 1 << 20
WAITING = (ServiceState.QUEUED, ServiceState.REQUEST_START_BALANCE)
COMMANDED = (ServiceState.REQUEST_START, ServiceState.STARTED, ServiceState.MIGRATE)


class Judge:
    """Knows what holds in one world. Guests go by sid."""

    def __init__(self, world: World, records: list[Rule]) -> None:
        self.world, self.witness = world, world.witness
        left_out = compile_rules(records, list(world.setup.nodes)).left_out
        held = [rule for rule in world.setup.rules if not rule.disabled and rule.id not in left_out]
        self.homes = {sid: rule for rule in held if rule.type == "node-affinity" for sid in rule.resources}
        self.groups = _joined([set(rule.resources) for rule in held if _is(rule, "positive")])
        self.apart = [(rule.id, rule.resources) for rule in held if _is(rule, "negative")]

    def group(self, sid: str) -> set[str]:
        """The others that rules keep together with it."""
        return next((group - {sid} for group in self.groups if sid in group), set())

    def apart_from(self, sid: str) -> Iterator[tuple[str, str]]:
        """Whom it may not meet, each with the rule; those that are kept together share it."""
        own = {sid} | self.group(sid)
        for name, resources in self.apart:
            if own & set(resources):
                for other in resources:
                    if other not in own:
                        yield from ((each, name) for each in {other} | self.group(other))

    def strict_for(self, sid: str) -> RuleSetup | None:
        """The strict rule about the guest or its group."""
        rules = (self.homes.get(each) for each in sorted({sid} | self.group(sid)))
        return next((rule for rule in rules if rule is not None and rule.strict), None)

    def priority(self, sid: str, node: str) -> int:
        """How much its rule likes the node; -1 for one that is not named."""
        for each in sorted({sid} | self.group(sid)):
            if each in self.homes:
                return self.homes[each].nodes.get(node, -1)
        return -1

    def is_bound(self, sid: str) -> bool:
        """Whether any rule is about the guest."""
        return bool(self.group(sid)) or sid in self.homes or any(sid in named for _, named in self.apart)

    # who is where

    def surely(self, sid: str) -> set[str]:
        """The nodes where a process of the guest is, or was commanded to be."""
        found, service = set(self.world.oracle.runners(int(sid[3:]))), self.witness.services.get(sid)
        if service is not None and service.state in COMMANDED:
            found |= {service.target} if service.target else {service.node}
        return found

    def perhaps(self, sid: str) -> set[str]:
        """The nodes where it may keep a place too."""
        found, service = set(self.world.oracle.runners(int(sid[3:]))), self.witness.services.get(sid)
        owner = self.witness.owners.get(int(sid[3:]))
        if service is None or service.state is ServiceState.STOPPED or (service.state in WAITING and not found):
            return found
        return found | {node for node in (service.node, service.target, owner.node if owner else "") if node}

    def memory(self, sid: str) -> int:
        """Bytes that are configured for the guest."""
        owner = self.witness.owners.get(int(sid[3:]))
        text = owner.config.get("memory", "") if owner else ""
        return int(text) * MIB if text.isdigit() else 0

    def _filled(self, sid: str, node: str, *, surely: bool) -> int:
        """Bytes of the node that the others have."""
        where = self.surely if surely else self.perhaps
        return sum(self.memory(other) for other in self.witness.resources if other != sid and node in where(other))

    def forbids(self, sid: str, node: str, *, surely: bool = True, room: bool = True) -> str:
        """Why the guest may not be given to the node; empty if it may. ``room``: it needs memory that is free."""
        rule = self.strict_for(sid)
        if rule is not None and node not in rule.nodes:
            return f"{node} is not a node of the strict rule {rule.id}"
        where = self.surely if surely else self.perhaps
        for other, name in self.apart_from(sid):
            if other in self.witness.resources and node in where(other):
                return f"{other} is on {node}, and rule {name} keeps them apart"
        if not room:
            return ""
        has, own = self.world.setup.nodes[node].memory, self.memory(sid)
        filled = self._filled(sid, node, surely=surely)
        if filled + own > has:
            return f"{node} has {has / MIB:.0f} MiB, {filled / MIB:.0f} are taken, and it needs {own / MIB:.0f}"
        return ""

    def could_be_on(self, sid: str, nodes: list[str]) -> list[str]:
        """Those of ``nodes`` that the guest could be started on now, beside what is there; with its group, where that
        is."""
        free = [node for node in nodes if not self.forbids(sid, node, surely=False)]
        held = {node for other in self.group(sid) if other in self.witness.resources for node in self.perhaps(other)}
        return [node for node in free if node in held] if held & set(nodes) else free


def _is(rule: RuleSetup, affinity: str) -> bool:
    return rule.type == "resource-affinity" and (rule.affinity or "positive") == affinity


def _joined(groups: list[set[str]]) -> list[set[str]]:
    """Groups that share a resource are one."""
    found: list[set[str]] = []
    for group in groups:
        sharing = [other for other in found if other & group]
        found = [other for other in found if not other & group] + [group.union(*sharing)]
    return found
