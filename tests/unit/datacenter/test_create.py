"""Init and create: refusals, undo, and a crash at any point."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.create import CreateRequest
from racimo.datacenter.etcd_member import data_folder
from racimo.datacenter.identity import read_identity
from racimo.datacenter.open_store import sqlite_path
from racimo.datacenter.standalone import InitRequest, initialise
from racimo.errors import AlreadyExists, BadParameter, Conflict, OperationFailed, Refused
from racimo.model.guest import Guest
from racimo.model.node import NodeFacts

if TYPE_CHECKING:
    from .conftest import ListReport, Lot, TestNode


async def test_init_makes_a_node_that_stands_alone(lot: Lot) -> None:
    node = await lot.node().init()
    status = await node.of.status()
    assert (status.clustered, status.quorum, [m.name for m in status.members]) == (False, True, ["n1"])
    written = json.loads((node.host.paths.etc / "node.json").read_text())
    assert written == {"name": "n1", "id": written["id"], "address": node.address, "clustered": False, "endpoints": []}
    assert (node.host.paths.etc / "node.key").stat().st_mode & 0o777 == 0o600
    assert (await node.layout.storages.get("local")).content == ("images", "iso", "import")


async def test_a_second_init_is_refused(lot: Lot) -> None:
    node = await lot.node().init()
    with pytest.raises(AlreadyExists, match=r"already the node 'n1', which stands alone.*racimo cluster create"):
        await initialise(node.host, InitRequest(name="other", address=node.address, facts=NodeFacts()))
    assert [n.name for n in await node.layout.nodes.records()] == ["n1"]


async def test_an_init_that_broke_off_is_finished_by_the_next(lot: Lot) -> None:
    node = await lot.node().init()
    (node.host.paths.etc / "node.json").unlink()
    (node.host.paths.etc / "node.crt").unlink()
    await node.of.store.close()
    identity = await initialise(node.host, InitRequest(name="renamed", address=node.address, facts=NodeFacts()))
    await node.reopen()
    assert [(n.name, n.id) for n in await node.layout.nodes.records()] == [("renamed", identity.id)]


@pytest.mark.parametrize("name", ["", "two words", "-x", "x" * 16, "ümlaut"])
async def test_a_bad_cluster_name_is_refused(lot: Lot, report: ListReport, name: str) -> None:
    node = await lot.node().init()
    with pytest.raises(BadParameter, match="clustername"):
        await node.of.create(CreateRequest(name=name, address=node.address), report)


async def test_a_port_that_is_taken_is_named_and_nothing_is_left_behind(lot: Lot, report: ListReport) -> None:
    node = await lot.node().init()
    before = sorted(node.root.rglob("*"))
    with socket.create_server((node.address, 2380)), pytest.raises(Refused, match=r"Port 2380 of .* is in use"):
        await node.of.create(CreateRequest(name="bunch", address=node.address), report)
    assert sorted(node.root.rglob("*")) == before
    assert not node.clustered()


async def test_a_node_of_a_cluster_creates_none(lot: Lot, report: ListReport) -> None:
    node = await (await lot.node().init()).create()
    with pytest.raises(Conflict, match="belongs to a cluster already"):
        await node.of.create(CreateRequest(name="again", address=node.address), report)


async def test_a_member_that_cannot_start_leaves_the_node_standing_alone(lot: Lot, report: ListReport) -> None:
    node = await lot.node().init()
    await node.layout.guests.create(100, Guest(vmid=100, node="n1"))
    (node.host.paths.state / "etcd").write_text("a file where the folder should be")
    with pytest.raises((OperationFailed, OSError)):
        await node.of.create(CreateRequest(name="bunch", address=node.address), report)
    assert not node.clustered()
    assert (await node.layout.guests.get(100)).node == "n1"


async def test_all_records_come_along(lot: Lot) -> None:
    node = await lot.node().init()
    guests = [Guest(vmid=vmid, node="n1", config={"description": "x" * 4000}) for vmid in range(100, 450)]
    for start in range(0, len(guests), 50):
        part = guests[start : start + 50]
        await node.of.store.txn(puts=[node.layout.guests.put(guest.vmid, guest) for guest in part])
    await node.create()
    assert len(await node.layout.guests.all()) == 350
    assert not sqlite_path(node.host.paths).exists()
    assert (await node.layout.datacenter.get("settings")).name == "bunch"


STEPS = ["issuing", "starting the quorum store", "copying", "has its first node"]


@pytest.mark.parametrize("at", STEPS)
async def test_a_crash_leaves_a_node_that_is_one_or_the_other(lot: Lot, at: str) -> None:
    node = await lot.node().init()
    await node.layout.guests.create(100, Guest(vmid=100, node="n1"))
    await node.of.store.close()
    await node.of.close()
    await crash(node, at)
    await node.services.start("racimo-etcd.service") if node.clustered() else None  # as at boot
    await node.open()
    assert node.clustered() == (at == STEPS[-1])
    assert (await node.layout.guests.get(100)).node == "n1"
    assert (await node.layout.datacenter.get("settings")).clustered == node.clustered()
    assert sqlite_path(node.host.paths).exists() != node.clustered()
    assert data_folder(node.host).exists() == node.clustered()
    if not node.clustered():
        await node.create()
        assert (await node.layout.guests.get(100)).node == "n1"
    assert read_identity(node.host.paths).endpoints == (f"https://{node.address}:2379",)


async def crash(node: TestNode, at: str) -> None:
    """Begin to create a cluster in another process that dies at ``at``; then its etcd dies, as with a power cut."""
    script = Path(__file__).with_name("crash_create.py")
    process = await asyncio.create_subprocess_exec(sys.executable, str(script), str(node.root), node.address, at)
    async with asyncio.timeout(60):
        assert await process.wait() == 9
    pid = node.root / "etcd.pid"
    if pid.exists():
        os.kill(int(pid.read_text()), signal.SIGKILL)
        for _ in range(500):
            if _ended(pid.read_text()):
                return
            await asyncio.sleep(0.02)
        pytest.fail("etcd did not die")


def _ended(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
