"""Rules made ready for use: contradicting ones are left out with the reason, the rest is joined per resource.

Which rules contradict each other follows Proxmox VE's HA rules, and so does the answer: each rule that takes part in a
contradiction is left out, so that what is left can be kept in every state of the datacenter.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.model.rule import Affinity, RuleKind
from racimo.placement.conflicts import conflicts, connected

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from racimo.model.rule import Rule

ELSEWHERE = -1
"""The priority of nodes that a rule does not name but allows."""


@dataclass(frozen=True, slots=True)
class Home:
    """Where a resource belongs, by the rule ``rule``."""

    nodes: Mapping[str, int]
    strict: bool
    rule: str

    def priority(self, node: str) -> int | None:
        """How much ``node`` is wanted, the higher the more; None where the rule forbids it."""
        found = self.nodes.get(node)
        if found is not None:
            return found
        return None if self.strict else ELSEWHERE


@dataclass(frozen=True, slots=True)
class RuleSet:
    """The rules that hold, per resource. A resource that is not named anywhere is free."""

    left_out: Mapping[str, str] = field(default_factory=dict)
    """Rules that contradict others, or the datacenter, with the reason; those that are switched off are not among
    them."""
    homes: Mapping[str, Home] = field(default_factory=dict)
    together: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """All resources that are kept on the node of this one, itself among them, in order of their sids."""
    joined_by: Mapping[str, str] = field(default_factory=dict)
    """The rule (or several, with commas) that keeps the resource together with others."""
    apart: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    """The resources that may not share a node with this one, each with the rule that says so."""


def compile_rules(rules: Iterable[Rule], nodes: Collection[str]) -> RuleSet:
    """What ``rules`` come to in a datacenter of ``nodes`` (all that can run guests, whether they are online or not)."""
    active = sorted((rule for rule in rules if not rule.disable), key=lambda rule: rule.name)
    left_out = conflicts(active, nodes)
    held = [rule for rule in active if rule.name not in left_out]
    groups = connected([rule for rule in held if _is(rule, Affinity.POSITIVE)])
    together = {sid: group.resources for group in groups for sid in group.resources}
    joined_by = {sid: ", ".join(group.rules) for group in groups for sid in group.resources}
    homes: dict[str, Home] = {}
    for rule in held:
        if rule.kind is RuleKind.NODES:
            home = Home(rule.nodes, rule.strict, rule.name)
            homes |= {other: home for sid in rule.resources for other in together.get(sid, (sid,))}
    return RuleSet(left_out, homes, together, joined_by, _apart(held, together))


def _apart(held: list[Rule], together: Mapping[str, tuple[str, ...]]) -> dict[str, dict[str, str]]:
    """Who may not meet whom; what is kept together shares what it is kept apart from."""
    apart: dict[str, dict[str, str]] = defaultdict(dict)
    for rule in held:
        if not _is(rule, Affinity.NEGATIVE):
            continue
        for one in rule.resources:
            for other in rule.resources:
                if one == other:
                    continue
                for mine in together.get(one, (one,)):
                    for theirs in together.get(other, (other,)):
                        apart[mine].setdefault(theirs, rule.name)
    return dict(apart)


def _is(rule: Rule, affinity: Affinity) -> bool:
    return rule.kind is RuleKind.RESOURCES and rule.affinity is affinity
