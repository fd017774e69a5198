from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from racimo.api.client import ApiClient
from racimo.datacenter.services import SystemdServices
from racimo.errors import AlreadyExists, Conflict, NotFound
from racimo.guest.units import SystemdUnits
from racimo.model.paths import NodePaths
from racimo.node.addresses import default_address
from racimo.node.daemon import NodeDaemon

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def serving(root: Path) -> AsyncIterator[ApiClient]:
    """A daemon over ``root``, asked over its socket; it has ended without an error afterwards."""
    paths, stop = NodePaths(root), asyncio.Event()
    daemon = NodeDaemon(paths, SystemdUnits(), SystemdServices(), port=0)
    running = asyncio.create_task(daemon.run(stop))
    ready = asyncio.ensure_future(daemon.ready.wait())
    await asyncio.wait([running, ready], timeout=30, return_when=asyncio.FIRST_COMPLETED)
    try:
        async with ApiClient.unix(paths.node_socket) as client:
            yield client
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)


@pytest.fixture
async def address() -> str:
    return await default_address()


@pytest.mark.root
async def test_a_machine_that_is_no_node_yet_says_what_to_do(tmp_path: Path) -> None:
    async with serving(tmp_path) as client:
        with pytest.raises(Conflict, match="Run: racimo init"):
            await client.get("/cluster/status")


@pytest.mark.root
async def test_a_new_node_stands_alone_and_is_found_again_after_a_restart(tmp_path: Path, address: str) -> None:
    async with serving(tmp_path) as client:
        await client.post("/racimo/init", name="n1", address=address)
        with pytest.raises(AlreadyExists, match="n1"):
            await client.post("/racimo/init", name="n2", address=address)
    async with serving(tmp_path) as client:
        nodes = await client.get("/nodes")
        assert [(node["node"], node["status"]) for node in nodes] == [("n1", "online")]
        storages = await client.get("/storage")
        assert [storage["storage"] for storage in storages] == ["local"]
        status = await client.get("/cluster/status")
        assert [entry["type"] for entry in status] == ["node"]
        targets = await client.get("/cluster/notifications/targets")
        assert [(target["name"], target["origin"]) for target in targets] == [("mail-to-root", "builtin")]
        assert (await client.get("/cluster/notifications/matchers"))[0]["target"] == ["mail-to-root"]


@pytest.mark.root
async def test_a_guest_is_made_shown_changed_and_destroyed_without_a_trace(tmp_path: Path, address: str) -> None:
    async with serving(tmp_path) as client:
        await client.post("/racimo/init", name="n1", address=address)
        assert await client.get("/cluster/nextid") == "100"
        upid = await client.post("/nodes/n1/qemu", vmid=100, name="web", memory=64, scsi0="local:0.01", cipassword="x")
        await client.wait_task(upid)
        config = await client.get("/nodes/n1/qemu/100/config")
        assert (config["name"], config["memory"], config["cipassword"]) == ("web", 64, "**********")
        await client.put("/nodes/n1/qemu/100/config", name="shop", digest=config["digest"])
        with pytest.raises(Conflict, match="changed it since"):
            await client.put("/nodes/n1/qemu/100/config", name="late", digest=config["digest"])
        guests = await client.get("/cluster/resources", type="vm")
        assert [(guest["name"], guest["status"]) for guest in guests] == [("shop", "stopped")]
        await client.wait_task(await client.delete("/nodes/n1/qemu/100"))
        with pytest.raises(NotFound, match="100"):
            await client.get("/nodes/n1/qemu/100/config")
        assert await client.get("/nodes/n1/storage/local/content") == []
