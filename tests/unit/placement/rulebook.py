"""Rules in few words, for the tests of placement."""

from __future__ import annotations

from racimo.model.rule import Affinity, Rule, RuleKind


def home(name: str, resources: str, nodes: dict[str, int] | str, *, strict: bool = False) -> Rule:
    """``resources`` such as "a b"; ``nodes`` such as "n1 n2"."""
    where = nodes if isinstance(nodes, dict) else dict.fromkeys(nodes.split(), 0)
    return Rule(name=name, kind=RuleKind.NODES, resources=tuple(resources.split()), nodes=where, strict=strict)


def together(name: str, resources: str) -> Rule:
    return Rule(name=name, kind=RuleKind.RESOURCES, resources=tuple(resources.split()), affinity=Affinity.POSITIVE)


def apart(name: str, resources: str) -> Rule:
    return Rule(name=name, kind=RuleKind.RESOURCES, resources=tuple(resources.split()), affinity=Affinity.NEGATIVE)
