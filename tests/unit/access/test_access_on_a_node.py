"""A whole daemon: its own certificate, its own sealing key, argon2 as it is on a node."""

from __future__ import annotations

import asyncio
import json
import ssl
from typing import TYPE_CHECKING

import aiohttp
import pytest

from racimo.api.client import ApiClient
from racimo.datacenter.services import SystemdServices
from racimo.guest.units import SystemdUnits
from racimo.model.paths import NodePaths
from racimo.node.addresses import default_address
from racimo.node.daemon import NodeDaemon

from .site import PASSWORD

if TYPE_CHECKING:
    from pathlib import Path


async def logged_in(session: aiohttp.ClientSession, base: str, form: dict[str, str]) -> dict[str, str]:
    """The headers after a login. The key that signs tickets is made soon after a node began."""
    async with asyncio.timeout(20):
        while True:
            async with session.post(f"{base}/access/ticket", data=form) as answer:
                if answer.status == 200:
                    ticket = (await answer.json())["data"]
                    return {"Cookie": f"PVEAuthCookie={ticket['ticket']}"}
                assert "Nobody can log in yet" in (answer.reason or ""), answer.reason


@pytest.mark.root
async def test_a_user_logs_in_to_a_new_node_and_sees_what_the_user_may(tmp_path: Path) -> None:
    paths, stop = NodePaths(tmp_path), asyncio.Event()
    daemon = NodeDaemon(paths, SystemdUnits(), SystemdServices(), port=0)
    running = asyncio.create_task(daemon.run(stop))
    await asyncio.wait_for(daemon.ready.wait(), 30)
    try:
        async with ApiClient.unix(paths.node_socket) as root:
            await root.post("/racimo/init", name="n1", address=await default_address())
            await root.post("/access/users", userid="anna@pve", password=PASSWORD)
            await root.put("/access/acl", {"path": "/storage/local", "roles": "PVEDatastoreUser", "users": "anna@pve"})
        base = f"https://127.0.0.1:{daemon.server.port}/api2/json"
        tls = ssl.create_default_context(cafile=str(paths.etc / "ca.crt"))
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=tls)) as session:
            headers = await logged_in(session, base, {"username": "anna@pve", "password": PASSWORD})
            async with session.get(f"{base}/storage", headers=headers) as answer:
                assert [storage["storage"] for storage in (await answer.json())["data"]] == ["local"]
            async with session.get(f"{base}/cluster/status", headers=headers) as answer:
                assert (answer.status, answer.reason) == (403, "Permission check failed (/, Sys.Audit)")
    finally:
        stop.set()
        await asyncio.wait_for(running, 30)
    deeds = [json.loads(line) for line in (paths.log / "audit.log").read_text().splitlines()]
    assert [(deed["method"], deed["path"]) for deed in deeds[:3]] == [
        ("POST", "/racimo/init"), ("POST", "/access/users"), ("PUT", "/access/acl"),
    ]  # fmt: skip
    assert (deeds[-1]["user"], deeds[-1]["code"]) == ("anna@pve", 403)
