"""Joining: what is refused, and that nothing is changed or doubled then."""

from __future__ import annotations

import dataclasses
import time
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.join_text import JoinText, check_fresh, read_text, write_text
from racimo.datacenter.joining import find_joining
from racimo.errors import AlreadyExists, BadRequest, Conflict, Refused, Unauthorised, Unreachable
from racimo.model.guest import Guest, RunState, Runtime
from racimo.store.layout import ROOT

if TYPE_CHECKING:
    from racimo.datacenter.join_message import JoinCheck, JoinGrant, JoinRequest
    from racimo.store.base import Store

    from .conftest import DirectJoin, ListReport, Lot, TestNode


async def records(store: Store) -> dict[str, bytes]:
    """All of them, but for the join tokens."""
    return {r.key: r.value for r in (await store.list(ROOT)).records if "/join-tokens/" not in r.key}


async def pair(lot: Lot) -> tuple[TestNode, TestNode]:
    """A cluster of one, and a node beside it."""
    return await (await lot.node().init()).create(), await lot.node().init()


async def test_a_join_text_that_is_harmed_is_told_apart(lot: Lot) -> None:
    first, _ = await pair(lot)
    text = await first.of.join_info()
    assert text.startswith("racimo-join-1.")
    for end in range(1, len(text)):
        with pytest.raises(BadRequest, match="The join text is cut off"):
            read_text(text[:end])
    middle = len(text) // 2
    altered = text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
    with pytest.raises(BadRequest, match="malformed"):
        read_text(altered)
    with pytest.raises(BadRequest, match="malformed: it holds characters"):
        read_text(text[:middle] + "!" + text[middle + 1 :])
    with pytest.raises(BadRequest, match="not a join text"):
        read_text("hello")
    with pytest.raises(BadRequest, match="another version"):
        read_text("racimo-join-9.abcd")
    assert read_text(f"  {text[:40]}\n{text[40:]} \n") == read_text(text)


async def test_the_store_keeps_only_the_digest_of_the_secret(lot: Lot) -> None:
    first, _ = await pair(lot)
    secret = read_text(await first.of.join_info()).secret
    assert all(secret.encode() not in record.value for record in (await first.of.store.list(ROOT)).records)


async def test_an_expired_text_is_refused_by_both_sides(lot: Lot, direct: type[DirectJoin]) -> None:
    first, second = await pair(lot)
    text = await first.of.join_info(life=60)
    second.contact = first
    with pytest.raises(Unauthorised, match="has expired"):
        check_fresh(read_text(text), time.time() + 61)
    first.clock += 61  # the joining node's clock is behind
    with pytest.raises(Unauthorised, match="has expired: 1 s ago"):
        await second.of.join(text, second.address, _Silent())
    assert not second.clustered()
    assert find_joining(second.host.paths) is None


async def test_a_text_is_good_for_one_machine(lot: Lot) -> None:
    first, second = await pair(lot)
    text = await first.of.join_info()
    second.contact = first
    await second.of.join(text, second.address, _Silent())
    third = await lot.node().init()
    third.contact = first
    with pytest.raises(Unauthorised, match="was used already"):
        await third.of.join(text, third.address, _Silent())
    with pytest.raises(AlreadyExists, match="already a member"):
        await second.of.join(text, second.address, _Silent())


async def test_a_text_for_another_cluster_is_refused(lot: Lot) -> None:
    first, second = await pair(lot)
    other = await (await lot.node("m1").init()).create("other")
    second.contact = other
    with pytest.raises(Unauthorised, match="not known to this cluster"):
        await second.of.join(await first.of.join_info(), second.address, _Silent())


async def test_a_witness_text_does_not_admit_a_node(lot: Lot) -> None:
    first, second = await pair(lot)
    second.contact = first
    with pytest.raises(Unauthorised, match=r"for a witness\. Use it with: racimo cluster witness"):
        await second.of.join(await first.of.join_info(witness=True), second.address, _Silent())


async def test_a_name_or_address_that_is_taken_is_refused(lot: Lot) -> None:
    first, _ = await pair(lot)
    namesake = await lot.node("N1").init()
    with pytest.raises(AlreadyExists, match="has a node 'n1' already"):
        await namesake.join(first)
    await first.layout.nodes.update("n1", lambda n: dataclasses.replace(n, networks={"storage": lot.nodes[1].address}))
    with pytest.raises(AlreadyExists, match=r"in use: it is that of the node 'n1'"):
        await lot.nodes[1].join(first)


async def test_an_address_of_another_machine_is_refused(lot: Lot) -> None:
    first, second = await pair(lot)
    second.contact = first
    with pytest.raises(Refused, match=r"192\.0\.2\.1 is not an address of this node"):
        await second.of.join(await first.of.join_info(), "192.0.2.1", _Silent())


async def test_a_taken_vmid_names_both_guests_and_changes_nothing(lot: Lot) -> None:
    first, second = await pair(lot)
    await first.layout.guests.create(100, Guest(vmid=100, node="n1", config={"name": "web"}))
    await second.layout.guests.create(100, Guest(vmid=100, node="n2", config={"name": "mail"}))
    before = await records(first.of.store), await records(second.of.store)
    with pytest.raises(AlreadyExists, match=r"100 is 'mail' on n2 and 'web' on n1.*--renumber"):
        await second.join(first)
    assert (await records(first.of.store), await records(second.of.store)) == before
    assert not second.clustered()


async def test_renumbered_guests_come_along(lot: Lot, report: ListReport) -> None:
    first, second = await pair(lot)
    await first.layout.guests.create(100, Guest(vmid=100, node="n1"))
    await second.layout.guests.create(100, Guest(vmid=100, node="n2", config={"name": "mail"}))
    await second.layout.guests.create(101, Guest(vmid=101, node="n2", config={"name": "db"}))
    await second.layout.runtimes.create(101, Runtime(vmid=101, node="n2", epoch=1, state=RunState.RUNNING))
    await second.join(first, renumber=True, report=report)
    assert second.renamed == [(100, 102)]
    found = {vmid: (held.record.name, held.record.node) for vmid, held in (await first.layout.guests.all()).items()}
    assert found == {"100": ("VM 100", "n1"), "101": ("db", "n2"), "102": ("mail", "n2")}
    assert (await first.layout.runtimes.get(101)).state is RunState.RUNNING
    assert "Guest 100 is now guest 102" in report.lines


async def with_guests(node: TestNode, count: int) -> None:
    """Give the node so many guests, each of which has run once and has the usual settings."""
    config = {"name": "web", "memory": "2048", "cores": "2", "net0": "virtio=02:00:00:00:00:01,bridge=vmbr0"}
    guests, runtimes = node.layout.guests, node.layout.runtimes
    for first in range(100, 100 + count, 500):
        vmids = range(first, min(first + 500, 100 + count))
        puts = [guests.put(vmid, Guest(vmid=vmid, node=node.name, config=config)) for vmid in vmids]
        stopped = [Runtime(vmid=vmid, node=node.name, epoch=1, state=RunState.STOPPED) for vmid in vmids]
        await node.layout.store.txn(puts=[*puts, *(runtimes.put(each.vmid, each) for each in stopped)])


@pytest.mark.parametrize("count", [120, 900])
async def test_a_node_joins_with_all_its_guests_at_once(lot: Lot, direct: type[DirectJoin], count: int) -> None:
    """In one transaction: a node whose answers are lost, and that then loses its power, is in with all or with none."""
    first, second = await pair(lot)
    await with_guests(second, count)
    text = await first.of.join_info()
    second.of.wiring = dataclasses.replace(second.of.wiring, connect=lambda _: LostAnswer(direct(first), 99))
    with pytest.raises(Unreachable):
        await second.of.join(text, second.address, _Silent())
    written = [held.revision for held in [*(await first.layout.guests.all()).values()]]
    assert len(written) == count and set(written) == {(await first.layout.nodes.hold("n2")).revision}
    await second.reopen()
    second.contact = first
    await second.of.join(text, second.address, _Silent())
    assert second.clustered()
    assert {guest.node for guest in await second.layout.guests.records()} == {"n2"}
    assert len(await second.layout.runtimes.all()) == count


async def test_guests_that_cannot_come_in_at_once_are_refused_before_anything(lot: Lot) -> None:
    first, second = await pair(lot)
    await with_guests(second, 1001)
    before = await records(first.of.store)
    with pytest.raises(Refused, match="it has 1001 guests"):
        await second.join(first)
    assert not second.clustered() and await records(first.of.store) == before


async def test_a_running_guest_is_not_renumbered(lot: Lot) -> None:
    first, second = await pair(lot)
    await first.layout.guests.create(100, Guest(vmid=100, node="n1"))
    await second.layout.guests.create(100, Guest(vmid=100, node="n2"))
    await second.layout.runtimes.create(100, Runtime(vmid=100, node="n2", epoch=1, state=RunState.RUNNING))
    with pytest.raises(Conflict, match="cannot be renumbered while they run"):
        await second.join(first, renumber=True)
    assert second.renamed == []


async def test_differences_between_the_nodes_are_named(lot: Lot, report: ListReport) -> None:
    first, second = await pair(lot)
    second.facts = dataclasses.replace(second.facts, cpu_model="an older CPU", memory=2**32)
    second.clock += 3
    await second.join(first, report=report)
    assert [warning.partition(" differs")[0] for warning in report.warnings] == ["CPU model", "memory", "clock"]
    assert "4.0 GiB here, 8.0 GiB there" in report.warnings[1]


class LostAnswer:
    """A member whose answer to the first commits is lost on the way."""

    def __init__(self, inner: DirectJoin, losses: int) -> None:
        self.inner, self.losses = inner, losses

    async def check(self, request: JoinRequest) -> JoinCheck:
        return await self.inner.check(request)

    async def commit(self, request: JoinRequest) -> JoinGrant:
        grant = await self.inner.commit(request)
        if self.losses:
            self.losses -= 1
            raise Unreachable("The member did not answer", may_have_acted=True)
        return grant


async def test_a_lost_answer_is_asked_for_again_without_joining_twice(lot: Lot, direct: type[DirectJoin]) -> None:
    first, second = await pair(lot)
    text = await first.of.join_info()
    wiring = second.of.wiring
    second.of.wiring = dataclasses.replace(wiring, connect=lambda _: LostAnswer(direct(first), 2))
    await second.of.join(text, second.address, _Silent())
    assert second.clustered()
    assert len(await first.layout.nodes.all()) == 2


async def test_a_join_whose_outcome_is_not_known_is_finished_with_the_same_text(
    lot: Lot, direct: type[DirectJoin]
) -> None:
    first, second = await pair(lot)
    text = await first.of.join_info()
    wiring = second.of.wiring
    second.of.wiring = dataclasses.replace(wiring, connect=lambda _: LostAnswer(direct(first), 99))
    with pytest.raises(Unreachable):
        await second.of.join(text, second.address, _Silent())
    assert not second.clustered()
    await second.reopen()
    first.clock += 7200  # the text has expired since, but this machine has used it
    second.clock += 7200
    second.contact = first
    await second.of.join(text, second.address, _Silent())
    assert (await first.layout.nodes.get("n2")).id == second.of.identity.id


class _Silent:
    def log(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...

    def progress(self, fraction: float, text: str = "") -> None: ...


def test_a_text_without_addresses_can_be_written_and_read() -> None:
    text = JoinText(datacenter="d", name="n", addresses=(), fingerprint="f", secret="s", expires=1.0)
    assert read_text(write_text(text)) == text
