"""Leases that go on without the store: when all members promise, only then, and never into somebody's proof."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from neighbourly import NeighbourlyHa, Told, tell, wires

from racimo.ha.heartbeat import Holder
from racimo.ha.observer import Observer

if TYPE_CHECKING:
    from racimo.ha.timing import Profile

SEEDS = range(1, 21)


async def outage(world: Told) -> None:
    """A minute without the store."""
    world.store(False)
    await asyncio.sleep(60)
    assert len(world.extended()) == len(world.nodes)


def test_no_guest_stops_while_the_store_is_away_and_all_members_speak_with_each_other() -> None:
    world = tell(outage)
    assert world.ends() == []
    assert world.oracle.violations == []


def test_a_lone_survivor_of_its_datacenter_does_not_ask_in_vain() -> None:
    world = tell(outage, nodes=1)
    assert world.ends() == []


async def outage_with_one_cut_off(world: Told) -> None:
    world.store(False)
    wires(world).isolate("n1", list(world.nodes))
    await asyncio.sleep(60)
    assert world.extended() == []


def test_one_member_that_cannot_be_asked_and_all_guests_are_killed_and_come_back_once() -> None:
    world = tell(outage_with_one_cut_off)
    assert len(world.ends()) == 3
    assert world.oracle.violations == []


async def outage_with_one_off(world: Told) -> None:
    world.nodes["n3"].power_off()
    await outage_with_one_cut_off(world)


def test_a_member_without_power_has_promised_nothing() -> None:
    assert tell(outage_with_one_off).oracle.violations == []


async def back_for_one_side(world: Told) -> None:
    """The store's members elect a leader again, but n1 does not reach it; n1 reaches the other nodes."""
    world.store(False)
    await asyncio.sleep(30)
    assert world.ends() == []
    world.store(True, "n2", "n3")
    await asyncio.sleep(40)


def test_when_the_store_is_back_for_the_others_only_the_guests_go_to_them() -> None:
    world = tell(back_for_one_side)
    assert any("n1 ends" in end for end in world.ends())
    assert not any("n2 ends" in end or "n3 ends" in end for end in world.ends()[:1])
    assert world.oracle.violations == []


async def restarted_during_an_outage(world: Told) -> None:
    """n2's HA daemon forgets what it has promised; n2 cannot know whether it was fenced, so its own guests end."""
    world.store(False)
    await asyncio.sleep(20)
    world.nodes["n2"].restart_ha()
    await asyncio.sleep(30)
    assert [end.split()[1] for end in world.ends()] == ["n2"]
    world.store(True, "n2")
    await asyncio.sleep(20)


def test_a_daemon_that_was_started_anew_promises_again_and_keeps_what_it_has_forgotten() -> None:
    assert tell(restarted_during_an_outage).oracle.violations == []


async def fenced_late(world: Told) -> None:
    """n1 is cut off; the manager decides to fence it, and loses the store with that on its way; n1 meets the others."""
    manager = next(node for node in world.nodes.values() if node.ha.manager.manages)
    other = next(name for name in world.nodes if name != manager.name)
    victim = world.nodes[next(name for name in world.nodes if name not in (manager.name, other))]
    world.store(False, victim.name)
    wires(world).isolate(victim.name, list(world.nodes))
    while victim.ha.holder.left_s():  # noqa: ASYNC110 - simulated time, and nobody tells
        await asyncio.sleep(0.05)
    await asyncio.sleep(3.2)
    manager.link.slow = 1.0
    await asyncio.sleep(1.0)
    world.store(False)
    manager.link.slow = 0.0
    wires(world).cut.clear()
    await asyncio.sleep(12)
    world.store(True, manager.name)
    await asyncio.sleep(10)


def test_a_lease_that_has_run_out_stays_so_for_somebody_may_have_decided_to_fence() -> None:
    assert tell(fenced_late).oracle.violations == []


class _Reviving(Holder):
    """Extends a lease that has run out."""

    def extendable(self) -> tuple[Profile, frozenset[str]] | None:
        return self._standing


class RevivingHa(NeighbourlyHa):
    holder_kind = _Reviving


class _Forgetful(Observer):
    """Promises, and counts on."""

    def promise(self, node: str, lease: float, now: float) -> None:
        return

    def _comes_back_by(self, profile: Profile) -> float:
        return 0.0


class ForgetfulHa(NeighbourlyHa):
    observer_kind = _Forgetful


def test_the_oracle_sees_a_lease_revived() -> None:
    assert any("was fenced with" in violation for violation in tell(fenced_late, make_ha=RevivingHa).oracle.violations)


def test_the_oracle_sees_a_promise_broken() -> None:
    world = tell(back_for_one_side, make_ha=ForgetfulHa)
    assert any("was fenced with" in violation for violation in world.oracle.violations)


async def trouble(world: Told) -> None:
    """Outages of the store for all or for some, cut and lossy wires, restarts, pauses and power cuts, all at once."""
    chance, names = world.random, list(world.nodes)
    for _ in range(8):
        sides = chance.choice([names, names, names[:2], names[1:], names[:1]])
        world.store(False, *sides)
        net = wires(world)
        net.lost, net.slow = chance.choice([(0.0, 0.0), (0.1, 0.0), (0.0, 0.1), (0.3, 0.2)])
        if chance.random() < 0.3:
            net.isolate(chance.choice(names), names)
        await asyncio.sleep(chance.uniform(1, 25))
        node = world.nodes[chance.choice(names)]
        match chance.choice(["restart", "pause", "off", "nothing", "nothing"]):
            case "restart" if node.powered:
                node.restart_ha()
            case "pause":
                node.pause()
                await asyncio.sleep(chance.uniform(0.5, 15))
                node.resume()
            case "off":
                node.power_off()
        await asyncio.sleep(chance.uniform(0, 15))
        world.store(True, *chance.sample(names, chance.randint(1, len(names))))
        await asyncio.sleep(chance.uniform(0, 12))
        net.cut.clear()
        node.power_on()
        if chance.random() < 0.7:
            world.store(True)


@pytest.mark.parametrize("seed", SEEDS)
def test_no_history_of_outages_has_a_guest_on_two_nodes_or_a_node_fenced_before_its_lease_is_over(seed: int) -> None:
    world = tell(trouble, seed=seed)
    assert world.oracle.violations == [], "\n".join(world.oracle.log)
