"""Which rules cannot be kept, and why: checks over the whole set, each rule judged as it was written."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.model.rule import Affinity, RuleKind

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from racimo.model.rule import Rule

Conflict = tuple[str, str]
"""A rule's name, and why it cannot be kept."""


@dataclass(frozen=True, slots=True)
class Group:
    """Resources that several "together" rules join, because they share some."""

    resources: tuple[str, ...]
    rules: tuple[str, ...]


def connected(rules: Sequence[Rule]) -> list[Group]:
    """The rules' resources, joined where they overlap; in order of their names."""
    root: dict[str, str] = {}

    def find(sid: str) -> str:
        while root.setdefault(sid, sid) != sid:
            root[sid] = sid = root[root[sid]]
        return sid

    for rule in rules:
        for sid in rule.resources:
            first, second = sorted((find(rule.resources[0]), find(sid)))
            root[second] = first
    members: dict[str, set[str]] = defaultdict(set)
    names: dict[str, list[str]] = defaultdict(list)
    for rule in rules:
        if rule.resources:
            members[find(rule.resources[0])].update(rule.resources)
            names[find(rule.resources[0])].append(rule.name)
    return [Group(tuple(sorted(members[key])), tuple(sorted(names[key]))) for key in sorted(members)]


def conflicts(rules: Sequence[Rule], nodes: Collection[str]) -> dict[str, str]:
    """The rules that cannot be kept, with the first reason found for each."""
    at_home = [rule for rule in rules if rule.kind is RuleKind.NODES]
    positive = [rule for rule in rules if rule.kind is RuleKind.RESOURCES and rule.affinity is Affinity.POSITIVE]
    negative = [rule for rule in rules if rule.kind is RuleKind.RESOURCES and rule.affinity is Affinity.NEGATIVE]
    groups = connected(positive)
    found: dict[str, str] = {}
    for check in (
        _two_homes(at_home),
        _too_few([*positive, *negative]),
        _more_than_nodes(negative, nodes),
        _together_and_apart(groups, negative),
        _several_priorities([*positive, *negative], at_home),
        _two_homes_of_a_group(groups, at_home),
        _too_few_nodes(negative, at_home),
        _no_room_at_home(groups, negative, at_home),
    ):
        for name, why in check:
            found.setdefault(name, why)
    return found


def _two_homes(at_home: Sequence[Rule]) -> Iterator[Conflict]:
    of: dict[str, list[str]] = defaultdict(list)
    for rule in at_home:
        for sid in sorted(set(rule.resources)):
            of[sid].append(rule.name)
    for sid, names in of.items():
        for name in names if len(names) > 1 else ():
            yield name, f"{sid} has another node affinity rule, {_list(other for other in names if other != name)}"


def _too_few(rules: Sequence[Rule]) -> Iterator[Conflict]:
    for rule in rules:
        if len(set(rule.resources)) < 2:
            yield rule.name, "it names fewer than two resources"


def _more_than_nodes(negative: Sequence[Rule], nodes: Collection[str]) -> Iterator[Conflict]:
    for rule in negative:
        count = len(set(rule.resources))
        if count > len(nodes):
            yield rule.name, f"it keeps {count} resources apart, and there are {len(nodes)} nodes"


def _together_and_apart(groups: Sequence[Group], negative: Sequence[Rule]) -> Iterator[Conflict]:
    for group in groups:
        for rule in negative:
            both = sorted(set(group.resources) & set(rule.resources))
            if len(both) < 2:
                continue
            pair = _list(both[:2])
            yield rule.name, f"it keeps {pair} apart, and {_list(group.rules)} keeps them together"
            for name in group.rules:
                yield name, f"it keeps {pair} together, and {rule.name} keeps them apart"


def _several_priorities(among: Sequence[Rule], at_home: Sequence[Rule]) -> Iterator[Conflict]:
    """Which priority applies depends on who is online and where the others are: it cannot be promised beforehand."""
    for rule in among:
        sharing = [home for home in at_home if set(home.resources) & set(rule.resources)]
        graded = [home.name for home in sharing if len(set(home.nodes.values())) > 1]
        if not graded:
            continue
        yield rule.name, f"its resources have nodes of several priorities by {_list(graded)}"
        for home in sharing:
            yield home.name, f"resources of it are in {rule.name} too, which allows nodes of one priority only"


def _two_homes_of_a_group(groups: Sequence[Group], at_home: Sequence[Rule]) -> Iterator[Conflict]:
    for group in groups:
        sharing = [home.name for home in at_home if set(home.resources) & set(group.resources)]
        if len(sharing) < 2:
            continue
        for name in group.rules:
            yield name, f"the resources that it keeps together have several node affinity rules, {_list(sharing)}"
        for name in sharing:
            others = _list(other for other in sharing if other != name)
            yield name, f"{_list(group.rules)} keeps its resources together with those of {others}"


def _too_few_nodes(negative: Sequence[Rule], at_home: Sequence[Rule]) -> Iterator[Conflict]:
    for rule in negative:
        sharing = [home for home in at_home if set(home.resources) & set(rule.resources)]
        bound = {sid for home in sharing for sid in home.resources if sid in rule.resources}
        room = {node for home in sharing for node in home.nodes}
        if len(room) >= len(bound):
            continue
        names = _list(home.name for home in sharing)
        yield rule.name, f"it keeps {len(bound)} resources apart to which {names} gives {len(room)} nodes only"
        for home in sharing:
            yield home.name, f"{rule.name} keeps {len(bound)} resources apart, which have {len(room)} nodes only by it"


def _no_room_at_home(groups: Sequence[Group], negative: Sequence[Rule], at_home: Sequence[Rule]) -> Iterator[Conflict]:
    """Strict rules, those of a resource's group among them, that leave no way to give each resource its own node."""
    with_all = {sid: group.resources for group in groups for sid in group.resources}
    homes: dict[str, Rule] = {}
    for home in at_home:
        if home.strict:
            homes |= {other: home for sid in home.resources for other in with_all.get(sid, (sid,))}
    for rule in negative:
        bound = {sid: homes[sid] for sid in sorted(set(rule.resources)) if sid in homes}
        if len(bound) < 2 or _each_its_own({sid: sorted(home.nodes) for sid, home in bound.items()}):
            continue
        names = sorted({home.name for home in bound.values()})
        yield rule.name, f"{_list(names)} leaves no node for each of the resources that it keeps apart"
        for name in names:
            yield name, f"{rule.name} keeps its resources apart, and it does not leave each of them a node"


def _each_its_own(nodes: dict[str, list[str]]) -> bool:
    """Whether each resource can have a node of its own among its ``nodes`` (a matching, by augmenting paths)."""
    taken: dict[str, str] = {}

    def settle(sid: str, tried: set[str]) -> bool:
        for node in nodes[sid]:
            if node in tried:
                continue
            tried.add(node)
            if node not in taken or settle(taken[node], tried):
                taken[node] = sid
                return True
        return False

    return all(settle(sid, set()) for sid in nodes)


def _list(names: Iterator[str] | Sequence[str]) -> str:
    *most, last = names
    return f"{', '.join(most)} and {last}" if most else last
