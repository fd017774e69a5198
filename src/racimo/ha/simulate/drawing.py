"""How a drawn datacenter is arranged: sizes, rules, options, and what its administrators do. Drawn apart from faults.

Nodes and faults are of ``generate``; a seed's datacenter has both, each from its own stream of chance.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha.simulate.kinds import ADMINISTRATION
from racimo.ha.simulate.records import rule_record
from racimo.ha.simulate.setup import GIB, NodeSetup, Options, RuleSetup, Step
from racimo.ha.simulate.verbs import Verb
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    import random
    from collections.abc import Mapping

    from racimo.ha.simulate.setup import GuestSetup, Setup

POLICIES = ("conditional", "freeze", "failover", "migrate")
MEMORY_GIB = (2, 4, 4, 8, 8, 16, 32)
NODE_GIB = (24, 32, 48, 64, 128)
MOST_RULES = 4
ACTS_S = (10.0, 60.0)
"""How long maintenance lasts, a node is off, HA disarmed."""


KINDS_OF_SETUP = (
    *(f"profile {name}" for name in ("default", "fast", "patient")),
    *(f"shutdown policy {name}" for name in POLICIES),
    *(f"crs {name}" for name in ("basic", "static", "dynamic")),
    "automatic rebalancing",
    "rebalancing on start",
    "node affinity, strict",
    "node affinity, preferred",
    "node affinity, priorities",
    "keep together",
    "keep apart",
    "no failback",
    "memory scarce when a node is gone",
)


def arranged(setup: Setup, chance: random.Random, until: float) -> Setup:
    """``setup`` with sizes, rules, options and administrators; they do nothing new after ``until`` (seconds)."""
    nodes = {name: replace(node, memory=chance.choice(NODE_GIB) * GIB) for name, node in setup.nodes.items()}
    guests = _sized(chance, setup.guests, nodes)
    steps = _administration(chance, list(nodes), until)
    return replace(
        setup,
        nodes=nodes,
        guests=guests,
        rules=_rules(chance, list(guests), list(nodes)),
        options=_options(chance, setup.options),
        steps=tuple(sorted((*setup.steps, *steps), key=lambda step: step.at)),
    )


def _options(chance: random.Random, options: Options) -> Options:
    return replace(
        options,
        shutdown_policy=chance.choice(POLICIES),
        crs=chance.choice(["basic", "static", "dynamic"]),
        rebalance_on_start=chance.random() < 0.3,
        auto_rebalance=chance.random() < 0.12,
        threshold=chance.choice([0.1, 0.3]),
        hold=chance.choice([1, 3]),
        method=chance.choice(["bruteforce", "topsis"]),
        moves_per_hour=chance.choice([1, 2, 4, 10]),
        migrate_wait=chance.choice([20, 60, 180]),
    )


def _sized(
    chance: random.Random, guests: Mapping[str, GuestSetup], nodes: Mapping[str, NodeSetup]
) -> dict[str, GuestSetup]:
    """Guests of differing size; nobody begins on a node that has no room."""
    left = {name: node.memory for name, node in nodes.items()}
    found: dict[str, GuestSetup] = {}
    for sid, guest in guests.items():
        memory, cpus = chance.choice(MEMORY_GIB) * GIB, chance.choice([1, 2, 4, 8])
        roomy = [name for name in nodes if left[name] >= memory]
        if not roomy and found:
            continue
        node = guest.node if guest.node in roomy or not roomy else chance.choice(roomy)
        left[node] -= memory
        used, busy = round(memory * chance.uniform(0.2, 1.0)), round(cpus * chance.uniform(0.05, 1.0), 2)
        failback = chance.random() < 0.7
        found[sid] = replace(
            guest, node=node, cpus=cpus, memory=memory, load_cpu=busy, load_memory=used, failback=failback
        )
    return found


def _rules(chance: random.Random, sids: list[str], nodes: list[str]) -> tuple[RuleSetup, ...]:
    """Up to a few that can be kept together: one that contradicts those before it is left away."""
    rules: list[RuleSetup] = []
    for number in range(chance.choice([0, 1, 2, 3, MOST_RULES])):
        rule = _rule(chance, f"r{number}", sids, nodes)
        records = [rule_record(each) for each in (*rules, rule)]
        if not compile_rules(records, nodes).left_out:
            rules.append(rule)
    return tuple(rules)


def _rule(chance: random.Random, name: str, sids: list[str], nodes: list[str]) -> RuleSetup:
    kind = chance.choice(["node-affinity", "node-affinity", "apart", "together"])
    if kind == "node-affinity":
        named = chance.sample(sids, chance.randint(1, len(sids)))
        some, graded = chance.sample(nodes, chance.randint(1, len(nodes))), chance.random() < 0.5
        priorities = {node: chance.randint(0, 2) if graded else 0 for node in sorted(some)}
        strict = chance.random() < 0.5
        return RuleSetup(name, "node-affinity", tuple(sorted(named)), priorities, strict=strict)
    named = chance.sample(sids, min(len(sids), chance.choice([2, 2, 3, 4])))
    affinity = "negative" if kind == "apart" else "positive"
    return RuleSetup(name, "resource-affinity", tuple(sorted(named)), affinity=affinity)


def _administration(chance: random.Random, nodes: list[str], until: float) -> list[Step]:
    steps = []
    for _ in range(chance.choice([0, 1, 1, 2, 3])):
        kind, node = chance.choice(ADMINISTRATION), chance.choice(nodes)
        at, seconds = round(chance.uniform(25.0, until - 60.0), 3), round(chance.uniform(*ACTS_S), 3)
        words = f"fault {kind} {node} {seconds:.3f}"
        steps.append(Step(at, (Verb("fault", words, node=node, choice=kind, first=seconds),)))
    return steps


def kinds_of_setup(setup: Setup) -> Counter[str]:
    """Which kinds of rules, options and sizes the datacenter has, each once."""
    options = setup.options
    found = {f"profile {options.profile}", f"shutdown policy {options.shutdown_policy}", f"crs {options.crs}"}
    if options.auto_rebalance:
        found.add("automatic rebalancing")
    if options.rebalance_on_start:
        found.add("rebalancing on start")
    for rule in setup.rules:
        if rule.type == "node-affinity":
            found.add("node affinity, strict" if rule.strict else "node affinity, preferred")
            if len(set(rule.nodes.values())) > 1:
                found.add("node affinity, priorities")
        else:
            found.add("keep together" if rule.affinity == "positive" else "keep apart")
    if any(not guest.failback for guest in setup.guests.values()):
        found.add("no failback")
    if _is_tight(setup):
        found.add("memory scarce when a node is gone")
    return Counter(found)


def _is_tight(setup: Setup) -> bool:
    """Whether not all guests have room when the largest node is gone."""
    if len(setup.nodes) < 2:
        return False
    sizes = [node.memory for node in setup.nodes.values()]
    return sum(guest.memory for guest in setup.guests.values()) > sum(sizes) - max(sizes)
