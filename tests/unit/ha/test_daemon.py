"""The daemon as a process, and its client of the node's daemon over a real socket."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import urllib.parse
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from racimo.errors import OperationFailed, Unreachable
from racimo.ha.clock import SystemClock
from racimo.ha.feasible import allowed_nodes, storages_of
from racimo.ha.identity import Identity, IdentityFile
from racimo.ha.node_client import NodeClient
from racimo.model.guest import Guest
from racimo.model.storage import Storage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

UPID = "UPID:n1:00000001:00000002:66000000:hastart:100:root@pam:"


class NodeDaemon:
    """Answers as racimo-node does: a task, and its end after one question more."""

    def __init__(self, end: str) -> None:
        self.end, self.asked, self.cancelled, self.bodies = end, 0, 0, list[object]()

    async def command(self, request: web.Request) -> web.Response:
        self.bodies.append(await request.json())
        if self.end == "refused":
            return web.json_response({"data": None, "message": "an older epoch"}, status=500, reason="an older epoch")
        return web.json_response({"data": UPID})

    async def status(self, request: web.Request) -> web.Response:
        assert urllib.parse.unquote(request.match_info["upid"]) == UPID
        assert int(request.query["wait"]) > 0
        self.asked += 1
        ended = {"status": "stopped", "exitstatus": self.end} if self.asked > 1 else {"status": "running"}
        return web.json_response({"data": ended})

    async def cancel(self, request: web.Request) -> web.Response:
        assert urllib.parse.unquote(request.match_info["upid"]) == UPID
        self.cancelled += 1
        self.end = "cancelled by root@pam"
        return web.json_response({"data": None})

    @asynccontextmanager
    async def serves(self, socket: Path) -> AsyncIterator[NodeClient]:
        app = web.Application()
        app.router.add_post("/api2/json/nodes/n1/qemu/100/racimo/ha", self.command)
        app.router.add_get("/api2/json/nodes/n1/tasks/{upid}/status", self.status)
        app.router.add_delete("/api2/json/nodes/n1/tasks/{upid}", self.cancel)
        runner = web.AppRunner(app)
        await runner.setup()
        await web.UnixSite(runner, str(socket)).start()
        client = NodeClient("n1", socket)
        try:
            yield client
        finally:
            await client.close()
            await runner.cleanup()


async def test_a_command_is_followed_to_its_end(tmp_path: Path) -> None:
    daemon = NodeDaemon("OK")
    async with daemon.serves(tmp_path / "node.sock") as client:
        await client.start(100, 7)
    assert daemon.bodies == [{"command": "start", "epoch": 7}] and daemon.asked == 2


async def test_a_failed_command_says_why(tmp_path: Path) -> None:
    async with NodeDaemon("no space left").serves(tmp_path / "node.sock") as client:
        with pytest.raises(OperationFailed, match="no space left"):
            await client.migrate(100, 7, "n2", live=True)


async def test_a_migration_that_is_given_up_is_cancelled_and_followed_to_its_end(tmp_path: Path) -> None:
    daemon = NodeDaemon("OK")
    async with daemon.serves(tmp_path / "node.sock") as client:
        with pytest.raises(OperationFailed, match="cancelled by root"):
            await client.migrate(100, 7, "n2", live=True, given_up=lambda: daemon.asked > 0)
    assert daemon.cancelled == 1 and daemon.asked == 2


async def test_a_refused_command_says_why(tmp_path: Path) -> None:
    async with NodeDaemon("refused").serves(tmp_path / "node.sock") as client:
        with pytest.raises(OperationFailed, match="an older epoch"):
            await client.stop(100, 7)


async def test_a_daemon_that_is_away_is_unreachable_and_did_nothing(tmp_path: Path) -> None:
    client = NodeClient("n1", tmp_path / "nobody.sock")
    with pytest.raises(Unreachable) as caught:
        await client.start(100, 7)
    assert not caught.value.may_have_acted
    await client.close()


async def _started(root: Path) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "racimo.ha.main", "--root", str(root), stderr=asyncio.subprocess.PIPE
    )


async def test_a_node_that_stands_alone_waits_and_ends_when_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc/racimo").mkdir(parents=True)
    (tmp_path / "etc/racimo/node.json").write_text(json.dumps({"name": "n1", "clustered": False, "endpoints": []}))
    first = await _started(tmp_path)
    async with asyncio.timeout(20):
        while not (tmp_path / "run/racimo/ha.lock").exists():  # noqa: ASYNC110 - another process makes it
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.5)
        second = await _started(tmp_path)
        _, said = await second.communicate()
        assert second.returncode == 1 and b"runs on this node already" in said
        first.send_signal(signal.SIGTERM)
        await first.communicate()
    assert first.returncode == 0


async def test_an_identity_is_noticed_when_it_changes(tmp_path: Path) -> None:
    file = IdentityFile(tmp_path / "node.json", SystemClock())
    waiting = asyncio.create_task(file.clustered())
    content = {"name": "n1", "id": "x", "address": "10.0.0.1", "clustered": True, "endpoints": ["https://a:2379"]}
    (tmp_path / "node.json").write_text(json.dumps(content))
    async with asyncio.timeout(5):
        identity = await waiting
        assert identity == Identity(
            name="n1", clustered=True, endpoints=("https://a:2379",), id="x", address="10.0.0.1"
        )
        changed = asyncio.create_task(file.changed(identity))
        await asyncio.sleep(0.1)
        (tmp_path / "node.json").write_text(json.dumps({**content, "endpoints": []}))
        await changed


def test_a_guest_can_run_where_all_its_storages_are() -> None:
    nodes = ["n1", "n2", "n3"]
    storages = {
        "nfs": Storage(id="nfs", type="dir", shared=True),
        "two": Storage(id="two", type="dir", shared=True, nodes=("n1", "n2")),
        "local": Storage(id="local", type="dir"),
    }

    def allowed(**config: str) -> set[str]:
        return set(allowed_nodes(Guest(vmid=100, node="n1", config=config), storages, nodes))

    assert allowed(scsi0="nfs:vm-100-disk-0,size=8G", ide2="none,media=cdrom") == {"n1", "n2", "n3"}
    assert allowed(scsi0="nfs:100/a.qcow2", virtio1="two:100/b.raw") == {"n1", "n2"}
    assert allowed(scsi0="local:100/a.qcow2") == {"n1"}
    assert allowed(scsi0="/dev/sdb") == {"n1"}
    assert allowed(scsi0="gone:100/a.qcow2") == {"n1"}
    assert storages_of({"net0": "virtio=AA:BB:CC:DD:EE:FF,bridge=vmbr0"}) == set()
