"""Who votes: every plan, carried out one step at a time and broken off anywhere, ends well and keeps the quorum."""

from __future__ import annotations

from random import Random as Chance

import pytest

from racimo.datacenter.voters import (
    PATIENCE_S,
    Add,
    Choose,
    Drop,
    Member,
    Promote,
    View,
    choose_voters,
    plan_voters,
    wanted_count,
)
from racimo.model.node import Node


class World:
    """The members as etcd would have them: steps change it, nodes fall silent."""

    def __init__(self, names: list[str], witnesses: frozenset[str] = frozenset()) -> None:
        self.nodes = {
            name: Node(name=name, id=name, address=name, witness=name in witnesses, joined=i, voter=i == 0)
            for i, name in enumerate(names)
        }
        self.members = {names[0]: Member(id=1, name=names[0], peer_url=names[0])}
        self.silent: dict[str, float] = {}
        self.next_id = 2

    def view(self) -> View:
        return View(nodes=list(self.nodes.values()), members=dict(self.members), silent=dict(self.silent))

    def voters(self) -> set[str]:
        return {name for name, member in self.members.items() if not member.learner}

    def has_quorum(self) -> bool:
        voters = self.voters()
        return sum(name not in self.silent for name in voters) * 2 > len(voters)

    def carry_out(self, step: object) -> None:
        match step:
            case Choose(voters):
                for name, node in self.nodes.items():
                    self.nodes[name] = _with(node, voter=name in voters)
            case Add(name):
                assert not any(member.learner for member in self.members.values()), "one learner at a time"
                self.members[name] = Member(id=self.next_id, name=name, peer_url=name, learner=True)
                self.next_id += 1
            case Promote(name, member):
                assert self.members[name].id == member
                self.members[name] = Member(id=member, name=name, peer_url=name)
            case Drop(member, name):
                assert self.members[name].id == member
                del self.members[name]

    def settle(self, choice: Chance) -> None:
        """Carry out one of the steps that may be taken, until there is none."""
        for _ in range(60):
            steps = plan_voters(self.view())
            if not steps:
                return
            self.carry_out(choice.choice(steps))
            assert self.has_quorum(), f"lost the quorum: {steps}"
        pytest.fail(f"never settles: {plan_voters(self.view())}")


def _with(node: Node, *, voter: bool) -> Node:
    return Node(
        name=node.name, id=node.id, address=node.address, witness=node.witness, joined=node.joined, voter=voter,
        leaving=node.leaving,
    )  # fmt: skip


@pytest.mark.parametrize(("candidates", "voters"), [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (6, 5), (40, 5)])
def test_there_are_one_three_or_five_voters(candidates: int, voters: int) -> None:
    assert wanted_count(candidates) == voters
    world = World([f"n{i}" for i in range(candidates)])
    world.settle(Chance(1))
    assert len(world.voters()) == voters


def test_two_nodes_and_a_witness_all_vote() -> None:
    world = World(["n1", "n2", "box"], frozenset({"box"}))
    world.settle(Chance(1))
    assert world.voters() == {"n1", "n2", "box"}


def test_a_witness_does_not_vote_beside_a_single_node() -> None:
    world = World(["n1", "box"], frozenset({"box"}))
    world.settle(Chance(1))
    assert world.voters() == {"n1"}


def test_voters_stay_when_another_node_comes() -> None:
    world = World(["n1", "n2", "n3"])
    world.settle(Chance(1))
    world.nodes["a0"] = Node(name="a0", id="a0", address="a0", joined=-1)
    assert plan_voters(world.view()) == []


def test_a_voter_that_is_silent_for_a_while_stays_and_one_that_is_gone_is_replaced() -> None:
    world = World(["n1", "n2", "n3", "n4"])
    world.settle(Chance(1))
    gone = sorted(world.voters())[1]
    world.silent[gone] = PATIENCE_S - 1
    assert plan_voters(world.view()) == []
    world.silent[gone] = PATIENCE_S + 1
    first, second = plan_voters(world.view())
    assert isinstance(first, Choose)
    assert isinstance(second, Drop)
    world.settle(Chance(1))
    assert gone not in world.voters()
    assert len(world.voters()) == 3


def test_a_voter_that_is_gone_stays_while_nobody_can_take_its_place() -> None:
    world = World(["n1", "n2", "n3"])
    world.settle(Chance(1))
    world.silent["n2"] = 10 * PATIENCE_S
    assert plan_voters(world.view()) == []


def test_a_leaving_node_hands_its_only_vote_over_before_it_is_dropped() -> None:
    world = World(["n1", "n2"])
    world.nodes["n1"] = Node(name="n1", id="n1", address="n1", voter=True, leaving=True)
    assert choose_voters(world.view()) == {"n2"}
    kinds = []
    for _ in range(10):
        steps = plan_voters(world.view())
        if not steps:
            break
        kinds.append(type(steps[-1]))
        for step in steps:
            world.carry_out(step)
    assert kinds == [Add, Promote, Drop]
    assert world.voters() == {"n2"}


def test_a_leaving_voter_goes_on_voting_until_its_successor_is_in() -> None:
    world = World(["n1", "n2", "n3", "n4"])
    world.settle(Chance(1))
    world.nodes["n1"] = Node(name="n1", id="n1", address="n1", voter=True, leaving=True)
    world.silent["n4"] = 60.0
    world.settle(Chance(1))
    assert world.voters() == {"n1", "n2", "n3"}
    world.silent.clear()
    world.settle(Chance(1))
    assert world.voters() == {"n2", "n3", "n4"}


def test_of_two_voters_too_many_the_silent_one_goes() -> None:
    world = World(["n1", "n2", "n3"])
    world.settle(Chance(1))
    world.silent["n1"] = 60.0
    world.nodes["n2"] = Node(name="n2", id="n2", address="n2", voter=True, leaving=True)
    world.settle(Chance(1))
    assert world.voters() == {"n3"}


def test_voters_that_serve_are_not_dropped_for_one_that_is_silent() -> None:
    world = World(["n1", "n2", "n3"])
    world.settle(Chance(1))
    for name in ("n2", "n3"):
        world.nodes[name] = Node(name=name, id=name, address=name, voter=True, leaving=True)
    world.silent["n1"] = 60.0
    world.settle(Chance(1))
    assert world.voters() == {"n1", "n2", "n3"}


def test_no_step_ever_costs_the_quorum() -> None:
    for seed in range(400):
        choice = Chance(seed)
        names = [f"n{i}" for i in range(choice.randint(1, 8))]
        world = World(names, frozenset(names[-1:]) if choice.random() < 0.3 else frozenset())
        world.settle(choice)
        for _ in range(6):
            _disturb(world, choice)
            world.settle(choice)  # looks after each step
            assert world.has_quorum()


def _disturb(world: World, choice: Chance) -> None:
    """One fault or change that leaves a quorum."""
    before = dict(world.silent)
    match choice.randint(0, 4):
        case 0:
            world.silent[choice.choice(sorted(world.nodes))] = choice.choice([10.0, 2 * PATIENCE_S])
        case 1:
            world.silent.clear()
        case 2:
            name = f"n{len(world.nodes) + 50 + world.next_id}"
            world.nodes[name] = Node(name=name, id=name, address=name, joined=world.next_id)
        case 3 if len(world.nodes) > 1:
            name = choice.choice(sorted(world.nodes))
            world.nodes[name] = Node(name=name, id=name, address=name, voter=world.nodes[name].voter, leaving=True)
            plain = [n for n in world.nodes.values() if not n.leaving and not n.witness]
            if not plain:
                world.nodes[name] = Node(name=name, id=name, address=name, voter=world.nodes[name].voter)
        case _:
            for name, member in list(world.members.items()):
                if member.learner:
                    del world.members[name]
    if not world.has_quorum():
        world.silent = before
        if not world.has_quorum():
            world.silent = {}
