"""Losing the quorum for good, and going on."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.backup import back_up, kept, list_backups, read_backup
from racimo.datacenter.recover import RecoverRequest, recover
from racimo.errors import Conflict, NotClustered, NotFound, Refused
from racimo.model.guest import Guest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import ListReport, Lot, TestNode


async def lose_quorum(nodes: list[TestNode]) -> TestNode:
    """Kill all but the first, and end the first one's daemon."""
    survivor, *lost = nodes
    for node in lost:
        await node.die()
    await survivor.rest()
    return survivor


async def test_one_survivor_goes_on_with_all_records_and_the_others_come_back(lot: Lot, report: ListReport) -> None:
    nodes = await lot.cluster(3)
    await nodes[0].layout.guests.create(100, Guest(vmid=100, node="n2"))
    survivor = await lose_quorum(nodes)
    with pytest.raises(Conflict, match="--yes"):
        await recover(survivor.host, RecoverRequest(), report)
    await recover(survivor.host, RecoverRequest(confirmed=True), report)
    await survivor.reopen()
    assert (await survivor.layout.guests.get(100)).node == "n2"
    assert [(n.name, n.voter) for n in await survivor.layout.nodes.records()] == [
        ("n1", True),
        ("n2", False),
        ("n3", False),
    ]
    assert (await survivor.of.status()).votes_expected == 1
    await survivor.keep()
    for node in nodes[1:]:
        await node.reopen()
        await node.services.start("racimo-etcd.service")  # as at boot, with its old data
        await node.keep()
    await survivor.until("three vote again", lambda status: status.votes_present == 3)


async def test_recovery_is_refused_while_there_is_a_quorum(lot: Lot, report: ListReport) -> None:
    nodes = await lot.cluster(3)
    await nodes[2].die()
    with pytest.raises(Refused, match="The cluster has a quorum"):
        await recover(nodes[0].host, RecoverRequest(confirmed=True), report)


async def test_recovery_from_a_backup_when_the_data_is_lost(lot: Lot, report: ListReport) -> None:
    nodes = await lot.cluster(3)
    await nodes[0].layout.guests.create(100, Guest(vmid=100, node="n2"))
    path = await nodes[0].of.backup()
    survivor = await lose_quorum(nodes)
    await survivor.services.kill()
    shutil.rmtree(survivor.host.paths.state / "etcd")
    with pytest.raises(Refused, match="no data of the store"):
        await recover(survivor.host, RecoverRequest(confirmed=True), report)
    await recover(survivor.host, RecoverRequest(confirmed=True, backup=path), report)
    await survivor.reopen()
    assert (await survivor.layout.guests.get(100)).node == "n2"
    assert (await survivor.of.status()).quorum


async def test_a_node_that_stands_alone_has_nothing_to_recover(lot: Lot, report: ListReport) -> None:
    node = await lot.node().init()
    with pytest.raises(NotClustered, match="stands alone"):
        await recover(node.host, RecoverRequest(confirmed=True), report)


async def test_a_backup_reads_as_it_was_written_and_only_root_may_read_it(lot: Lot) -> None:
    node = await lot.node().init()
    path = await back_up(node.host, node.of.store, "n1")
    backup = read_backup(path)
    assert backup.header.node == "n1"
    assert backup.records == {record.key: record.value for record in (await node.of.store.list("/racimo/1/")).records}
    assert path.stat().st_mode & 0o777 == 0o600
    assert list_backups(node.host.paths) == [path]


@pytest.mark.parametrize("harm", ["cut", "flipped", "emptied", "other"])
async def test_a_damaged_backup_is_refused(lot: Lot, tmp_path: Path, harm: str) -> None:
    node = await lot.node().init()
    path = await back_up(node.host, node.of.store, "n1")
    content = path.read_bytes()
    middle = len(content) // 2
    harmed = {
        "cut": content[:middle],
        "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
        "emptied": b"",
        "other": b"not a backup",
    }
    path.write_bytes(harmed[harm])
    with pytest.raises(Refused, match=str(path)):
        read_backup(path)


def test_a_backup_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nowhere\.gz does not exist"):
        read_backup(tmp_path / "nowhere.gz")


def test_backups_of_24_hours_and_7_days_are_kept() -> None:
    names = [
        f"store-202611{day:02}T{hour:02}{minute:02}00Z-r5.jsonl.gz"
        for day in range(1, 21)
        for hour in range(24)
        for minute in (0, 30)
    ]
    left = kept([*names, "something else"])
    assert len(left) == 24 + 6
    assert "store-20261120T233000Z-r5.jsonl.gz" in left
    assert "store-20261120T230000Z-r5.jsonl.gz" not in left
    assert "store-20261114T233000Z-r5.jsonl.gz" in left
