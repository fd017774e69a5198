"""Whole clusters of real etcd processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.identity import read_identity
from racimo.datacenter.remove import RemoveRequest
from racimo.datacenter.voter_keeper import SETTLED, VoterKeeper
from racimo.datacenter.witness import become_witness, stop_witnessing
from racimo.errors import Refused, StoreUnavailable, Unauthorised
from racimo.model.guest import Guest, Lock, RunState, Runtime
from racimo.model.ha import Heartbeat, NodeHealth, NodeStatus
from racimo.model.node import Daemon
from racimo.store.layout import ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.datacenter.status import ClusterStatus

    from .conftest import DirectJoin, ListReport, Lot


def voting(*names: str) -> Callable[[ClusterStatus], bool]:
    """Whether exactly these vote and answer."""
    return lambda status: (
        {m.name for m in status.members if m.voter} == set(names) and status.votes_present == len(names)
    )


async def test_three_nodes_from_three_commands_have_three_voters(lot: Lot) -> None:
    nodes = await lot.cluster(3)
    status = await nodes[2].of.status()
    assert status.quorum
    assert status.name == "bunch"
    assert (status.votes_expected, status.votes_needed, status.votes_present) == (3, 2, 3)
    assert [(m.name, m.voter, m.reachable) for m in status.members] == [
        ("n1", True, True), ("n2", True, True), ("n3", True, True),
    ]  # fmt: skip
    assert sum(member.leader for member in status.members) == 1
    for node in nodes:
        known = lambda _, paths=node.host.paths: len(read_identity(paths).endpoints) == 3  # noqa: E731
        await node.until("it knows all three", known)


async def test_a_dead_voter_is_removed_and_a_spare_votes_in_its_place(lot: Lot, report: ListReport) -> None:
    first, second, third, spare = await lot.cluster(4)
    layout = first.layout
    await layout.heartbeats.create("n2", Heartbeat(node="n2", incarnation="x", sequence=7))
    await layout.node_statuses.create("n2", NodeStatus(node="n2", health=NodeHealth.UNKNOWN))
    await layout.locks.create("guests/100", Lock(subject="guests/100", node="n2", incarnation="x", task="t"))
    await layout.daemons.create("n2", Daemon(node="n2", incarnation="x"))
    await second.die()
    await first.of.remove(RemoveRequest(node="n2"), report)
    await first.until("the spare votes", voting("n1", "n3", "n4"))
    left = [record.key for record in (await layout.store.list(ROOT)).records if "n2" in record.key.split("/")]
    assert left == []
    assert await layout.locks.all() == {}
    with pytest.raises(Unauthorised, match="not accepted"):
        await third.of.check_peer("n2", second.of.identity.id)
    await spare.of.check_peer("n4", spare.of.identity.id)


async def test_a_voter_that_is_gone_for_good_is_replaced_without_being_asked(lot: Lot) -> None:
    first, second, _, _ = await lot.cluster(4)
    await first.rest()  # this one turns by hand, with less patience
    keeper = VoterKeeper(first.host, first.of.store, first.of.quorum, is_manager=lambda: True, patience=6)
    assert await keeper.turn() == SETTLED
    await second.die()
    said: list[str] = []
    done = voting("n1", "n3", "n4")
    for _ in range(300):
        said.append(await keeper.turn())
        if done(await first.of.status()):
            break
        await asyncio.sleep(0.2)
    assert "chose as voters: n1, n3, n4" in said
    assert "dropped the member of n2: n2 is silent and another votes in its place" in said
    assert (await first.layout.nodes.get("n2")).voter is False


async def test_what_a_removed_node_still_writes_is_swept_up(lot: Lot) -> None:
    first, _ = await lot.cluster(2)
    await first.rest()
    keeper = VoterKeeper(first.host, first.of.store, first.of.quorum, is_manager=lambda: True)
    await first.layout.heartbeats.create("ghost", Heartbeat(node="ghost", incarnation="x", sequence=1))
    assert await keeper.turn() == "swept up what was left of ghost"
    assert await first.layout.heartbeats.find("ghost") is None


async def test_a_live_node_is_not_removed(lot: Lot, report: ListReport) -> None:
    first, second, _ = await lot.cluster(3)
    with pytest.raises(Refused, match="'n2' is alive: port 2380 of"):
        await first.of.remove(RemoveRequest(node="n2"), report)
    assert (await second.of.status()).votes_present == 3


async def test_guests_of_a_dead_node_go_where_the_administrator_says(lot: Lot, report: ListReport) -> None:
    first, *_, third = await lot.cluster(3)
    layout = first.layout
    await layout.guests.create(100, Guest(vmid=100, node="n3", epoch=4, config={"name": "web"}))
    await layout.runtimes.create(100, Runtime(vmid=100, node="n3", epoch=4, state=RunState.RUNNING))
    await third.die()
    with pytest.raises(Refused, match=r"100 \('web'\).*--guests-to"):
        await first.of.remove(RemoveRequest(node="n3"), report)
    with pytest.raises(Refused, match="--powered-off"):
        await first.of.remove(RemoveRequest(node="n3", guests_to="n2"), report)
    await first.of.remove(RemoveRequest(node="n3", guests_to="n2", powered_off=True), report)
    guest, runtime = await layout.guests.get(100), await layout.runtimes.get(100)
    assert (guest.node, guest.epoch) == ("n2", 5)
    assert (runtime.node, runtime.epoch, runtime.state) == ("n2", 5, RunState.STOPPED)


async def test_a_node_leaves_and_the_last_takes_the_records_along(lot: Lot, report: ListReport) -> None:
    first, second = await lot.cluster(2)
    await second.layout.guests.create(100, Guest(vmid=100, node="n2", config={"name": "web"}))
    with pytest.raises(Refused, match=r"'n2' still has guests: 100 \('web'\)"):
        await second.of.leave(report)
    assert not (await first.layout.nodes.get("n2")).leaving
    second.manager = True  # the HA manager goes to the one that stays
    await first.of.leave(report)  # it has the only vote: the other one takes it over
    assert not first.clustered()
    assert [node.name for node in await first.layout.nodes.records()] == ["n1"]
    assert [node.name for node in await second.layout.nodes.records()] == ["n2"]
    assert not await first.services.active("racimo-etcd.service")
    await second.of.leave(report)
    assert not second.clustered()
    assert (await second.layout.guests.get(100)).name == "web"
    assert not (await second.layout.datacenter.get("settings")).clustered


async def test_a_node_that_was_removed_while_away_leaves_by_itself_and_joins_anew(lot: Lot, report: ListReport) -> None:
    first, _, third = await lot.cluster(3)
    old = third.of.identity.id
    await third.die()
    await first.of.remove(RemoveRequest(node="n3"), report)
    assert (await first.of.status()).removed == ""
    assert "removed from the datacenter" in (await third.of.status()).removed
    await third.of.leave(report, force=True)
    await third.join(first)
    assert third.of.identity.id != old
    await third.keep()
    await first.until("it votes again", voting("n1", "n2", "n3"))


async def test_with_a_witness_either_of_two_nodes_may_die(
    lot: Lot, report: ListReport, direct: type[DirectJoin]
) -> None:
    first, second = await lot.cluster(2)
    box = lot.node("box")
    text = await first.of.join_info(witness=True)
    await become_witness(box.host, text, "box", box.address, lambda _: direct(first), report)
    await first.until("three vote", voting("n1", "n2", "box"))
    assert "racimo-witness.timer" in box.services.started
    await first.die()
    status = await second.until("there is a quorum", lambda status: status.quorum and status.votes_present == 2)
    assert next(member.why for member in status.members if member.name == "n1")
    second.manager = True
    await second.of.remove(RemoveRequest(node="n1"), report)
    await second.until("one votes", voting("n2"))
    await second.of.remove(RemoveRequest(node="box"), report)
    await stop_witnessing(box.host)
    assert not (box.host.paths.etc / "node.json").exists()
    assert [node.name for node in await second.layout.nodes.records()] == ["n2"]


async def test_without_quorum_it_is_said_who_did_not_answer(lot: Lot, report: ListReport) -> None:
    first, second, third = await lot.cluster(3)
    await second.die()
    await third.die()
    status: ClusterStatus = await first.of.status()
    assert not status.quorum
    assert (status.votes_expected, status.votes_needed, status.votes_present) == (3, 2, 1)
    assert {m.name: m.reachable for m in status.members} == {"n1": True, "n2": False, "n3": False}
    with pytest.raises(StoreUnavailable, match="more than half of the voters"):
        await first.of.remove(RemoveRequest(node="n3"), report)
