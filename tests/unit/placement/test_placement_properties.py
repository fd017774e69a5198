"""What holds for every datacenter: rules and capacity are never broken, balance never gets worse, answers repeat."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from racimo.model.rule import Affinity, Rule, RuleKind
from racimo.placement.fleet import Demand, Fleet, Machine, Scoring
from racimo.placement.pick import Nowhere, Options, Picked, pick
from racimo.placement.rebalance import Goal, Method, imbalance, rebalance
from racimo.placement.rules import RuleSet, compile_rules

NODES = ("n1", "n2", "n3", "n4")
SIDS = tuple(f"vm:{100 + number}" for number in range(8))
CHECKED = 1e-9


@st.composite
def rule(draw: st.DrawFn, name: str) -> Rule:
    resources = tuple(draw(st.lists(st.sampled_from(SIDS), min_size=2, max_size=4, unique=True)))
    if draw(st.booleans()):
        affinity = draw(st.sampled_from(Affinity))
        return Rule(name=name, kind=RuleKind.RESOURCES, resources=resources, affinity=affinity)
    priority = st.integers(0, 2)
    nodes = draw(st.dictionaries(st.sampled_from(NODES), priority, min_size=1, max_size=3))
    return Rule(name=name, kind=RuleKind.NODES, resources=resources, nodes=nodes, strict=draw(st.booleans()))


@st.composite
def rules(draw: st.DrawFn) -> tuple[Rule, ...]:
    return tuple(draw(rule(f"r{number}")) for number in range(draw(st.integers(1, 5))))


share = st.floats(0, 4, allow_nan=False)
bytes_up_to_8 = st.integers(0, 8)
machine = st.builds(
    Machine, cpus=st.sampled_from([4.0, 8.0]), memory=st.integers(4, 16), other_memory=st.integers(0, 4)
)
machines = st.fixed_dictionaries({}, optional=dict.fromkeys(NODES, machine))
demand = st.builds(
    Demand,
    cpus=st.sampled_from([1.0, 2.0, 6.0]),
    memory=bytes_up_to_8,
    cpu_load=share,
    memory_load=bytes_up_to_8,
)
demands = st.fixed_dictionaries(dict.fromkeys(SIDS, demand))


@dataclass(frozen=True)
class Datacenter:
    machines: dict[str, Machine]
    demands: dict[str, Demand]
    rules: tuple[Rule, ...]
    scoring: Scoring

    def fleet(self, places: dict[str, str] | None = None, scoring: Scoring | None = None) -> Fleet:
        where = {sid: (node,) for sid, node in (places or {}).items()}
        return Fleet(self.machines, self.demands, where, self.compiled, scoring or self.scoring)

    @property
    def compiled(self) -> RuleSet:
        return compile_rules(self.rules, NODES)


datacenters = st.builds(Datacenter, machines, demands, rules(), st.sampled_from(Scoring))


def start_all(given: Datacenter) -> dict[str, str]:
    """Every guest started where the rules allow, one after the other."""
    turn, places = given.fleet(), {}
    for sid in SIDS:
        choice = pick(turn, sid)
        if isinstance(choice, Picked):
            turn.place(sid, choice.node)
            places[sid] = choice.node
    return places


def assert_within_rules(given: Datacenter, places: dict[str, str]) -> None:
    """Checked against the rules as they were written, for those that hold."""
    left_out = given.compiled.left_out
    for one in (one for one in given.rules if one.name not in left_out):
        where = [places[sid] for sid in one.resources if sid in places]
        if one.kind is RuleKind.NODES:
            assert not one.strict or set(where) <= set(one.nodes), one
        elif one.affinity is Affinity.POSITIVE:
            assert len(set(where)) <= 1, one
        else:
            assert len(set(where)) == len(where), one


def assert_within_capacity(given: Datacenter, places: dict[str, str]) -> None:
    for name, machine in given.machines.items():
        here = [given.demands[sid] for sid, node in places.items() if node == name]
        if here:
            assert machine.other_memory + sum(one.memory for one in here) <= machine.memory
            assert max(one.cpus for one in here) <= machine.cpus


@given(datacenters)
def test_choices_keep_rules_and_capacity(given: Datacenter) -> None:
    places = start_all(given)
    assert_within_rules(given, places)
    assert_within_capacity(given, places)


@given(datacenters)
def test_choices_repeat_whatever_the_order_of_the_input(given: Datacenter) -> None:
    backwards = replace(
        given,
        machines=dict(reversed(given.machines.items())),
        demands=dict(reversed(given.demands.items())),
        rules=tuple(reversed(given.rules)),
    )
    assert start_all(given) == start_all(backwards)
    assert given.compiled.left_out == backwards.compiled.left_out


@given(datacenters)
def test_every_node_can_have_the_guest_or_says_why_not(given: Datacenter) -> None:
    turn = given.fleet()
    for sid in SIDS:
        options = Options(turn, sid)
        refused = options.refused()
        assert {*options.nodes, *refused} == set(given.machines) and not set(options.nodes) & set(refused)
        assert all(refused.values())
        choice = pick(turn, sid)
        assert isinstance(choice, Nowhere) == (not options.nodes)
        if isinstance(choice, Picked):
            turn.place(sid, choice.node)


goals = st.builds(
    Goal,
    threshold=st.sampled_from([0.0, 0.3]),
    margin=st.sampled_from([0.0, 0.1]),
    moves=st.integers(1, 6),
    method=st.sampled_from(Method),
)


@given(datacenters, goals)
def test_rebalancing_keeps_rules_and_capacity_and_never_makes_it_worse(given: Datacenter, goal: Goal) -> None:
    places = start_all(given)
    fleet = given.fleet(places, Scoring.DYNAMIC)
    plan = rebalance(fleet, set(places), goal)
    assert plan == rebalance(given.fleet(dict(reversed(places.items())), Scoring.DYNAMIC), sorted(places), goal)
    assert len(plan.moves) <= goal.moves
    after = dict(places)
    for move in plan.moves:
        assert after[move.sid] == move.source != move.target
        assert move.after < move.before
        after[move.sid] = move.target
    assert_within_rules(given, after)
    assert_within_capacity(given, after)
    reached = imbalance(given.fleet(after, Scoring.DYNAMIC))
    assert abs(reached - plan.after) < CHECKED
    assert not plan.moves or reached <= (1 - goal.margin) * plan.before + CHECKED


@given(datacenters)
def test_brute_force_finds_what_trying_everything_finds(given: Datacenter) -> None:
    free = replace(given, rules=())
    places = start_all(free)
    now = imbalance(free.fleet(places, Scoring.DYNAMIC))
    plan = rebalance(free.fleet(places, Scoring.DYNAMIC), set(places), Goal(threshold=0, margin=0))
    found = [now]
    for sid in places:
        for node in free.machines:
            tried = {**places, sid: node}
            if _fits(free, tried, node):
                found.append(imbalance(free.fleet(tried, Scoring.DYNAMIC)))
    assert abs(plan.after - min(found)) < CHECKED * 100


def _fits(given: Datacenter, places: dict[str, str], node: str) -> bool:
    here = [given.demands[sid] for sid, where in places.items() if where == node]
    machine = given.machines[node]
    return (
        machine.other_memory + sum(one.memory for one in here) <= machine.memory
        and max(one.cpus for one in here) <= machine.cpus
    )
