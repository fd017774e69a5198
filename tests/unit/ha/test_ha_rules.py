from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from racimo.errors import BadParameter
from racimo.ha.resources import HaResources
from racimo.ha.rules import HaRules, parse_nodes
from racimo.model.ha import Resource
from racimo.model.node import Node
from racimo.model.rule import Affinity, Rule, RuleKind
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

APART = Rule(name="s", kind=RuleKind.RESOURCES, resources=("vm:100", "vm:101"), affinity=Affinity.NEGATIVE)
TOGETHER = replace(APART, name="t", affinity=Affinity.POSITIVE)
HOME = Rule(name="h", kind=RuleKind.NODES, resources=("vm:100",), nodes={"n1": 1})


@pytest.fixture
async def layout() -> AsyncIterator[Layout]:
    """n1, n2 and a witness; vm:100 and vm:101 under HA."""
    store = MemoryStore()
    layout = Layout(store)
    for name in ("n1", "n2", "w1"):
        await layout.nodes.create(name, Node(name=name, id=name, address=name, witness=name == "w1"))
    for sid in ("vm:100", "vm:101"):
        await layout.resources.create(sid, Resource(sid=sid))
    yield layout
    await store.close()


def resources(layout: Layout) -> HaResources:
    async def mark(node: str, vmid: int) -> None:
        raise AssertionError("nothing is put under HA here")

    return HaResources(layout, mark)


async def test_contradicting_rules_that_were_written_at_once_hold_neither(layout: Layout) -> None:
    await asyncio.gather(*(HaRules(layout).add(one) for one in (APART, TOGETHER)), return_exceptions=True)
    found = (await HaRules(layout).list()).rules
    assert len(found) == 1 or all(status.left_out for status in found)


async def test_a_rule_that_cannot_be_kept_any_more_is_listed_with_the_reason(layout: Layout) -> None:
    await HaRules(layout).add(APART)
    await layout.nodes.remove("n2")
    assert (await HaRules(layout).get("s")).left_out == "it keeps 2 resources apart, and there are 1 nodes"


async def test_a_witness_is_no_node_of_a_rule(layout: Layout) -> None:
    with pytest.raises(BadParameter, match="there is no node w1 that runs guests"):
        await HaRules(layout).add(replace(HOME, nodes={"w1": 0}))


async def test_a_guest_that_leaves_ha_leaves_its_rules(layout: Layout) -> None:
    for rule in (HOME, APART):
        await HaRules(layout).add(rule)
    await resources(layout).remove("100")
    left = [status.rule for status in (await HaRules(layout).list()).rules]
    assert left == [replace(APART, resources=("vm:101",))]


async def test_a_guest_can_leave_ha_without_its_rules(layout: Layout) -> None:
    await HaRules(layout).add(HOME)
    await resources(layout).remove("vm:100", purge=False)
    assert (await HaRules(layout).get("h")).rule == HOME


@pytest.mark.parametrize("word", ["n1:-1", "n1:1001", ":3", "n1:2:3"])
def test_a_priority_is_a_number_up_to_1000(word: str) -> None:
    with pytest.raises(BadParameter, match="is not like n1 or n1:2"):
        parse_nodes([word])
