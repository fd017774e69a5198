"""What people hear of a fence: once, and once when it is over, though the node that sends is the one that dies."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from ha_lab import SID, until

from racimo.datacenter.backup import read_backup
from racimo.lab.datacenter import api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_lab import HaLab

    from racimo.lab.node import LabNode

pytestmark = [pytest.mark.lab, pytest.mark.root]

PATH, PORT, HEARD = "/cluster/notifications", 8099, "run/heard"
TOKEN = "grapes-4711"
RECEIVER = f"""
import http.server
class Hook(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        if self.headers["Authorization"] != "Bearer {TOKEN}":
            self.send_response(401); self.end_headers(); return
        body = self.rfile.read(int(self.headers["Content-Length"]))
        open("/{HEARD}", "ab").write(body + b"\\n")
        self.send_response(204); self.end_headers()
http.server.HTTPServer(("", {PORT}), Hook).serve_forever()
"""


@asynccontextmanager
async def receiver(on: LabNode, asked: LabNode) -> AsyncIterator[None]:
    """A webhook on a node, that gets what is said of fences and recoveries, and takes only who knows the token."""
    await on.succeed("systemd-run", "--unit=hook", "--collect", "/usr/bin/python3", "-c", RECEIVER)
    async with api(asked) as client:
        header, secret = (base64.b64encode(text.encode()).decode() for text in ("Bearer {{ secrets.token }}", TOKEN))
        await client.post(
            f"{PATH}/endpoints/webhook", name="hook", url=f"http://{on.address()}:{PORT}/",
            header=[f"name=Authorization,value={header}"], secret=[f"name=token,value={secret}"],
        )  # fmt: skip
        await client.post(
            f"{PATH}/matchers", name="hook", target="hook", **{"match-field": "exact:type=fencing,recovery"}
        )
    try:
        yield
    finally:
        async with api(on) as client:
            await client.delete(f"{PATH}/matchers/hook")
            await client.delete(f"{PATH}/endpoints/webhook/hook")
        await on.succeed("systemctl", "stop", "hook")


async def test_a_fence_of_the_managers_node_is_heard_once_and_once_that_it_is_back(three: HaLab) -> None:
    manager = three.node(await three.manager(three.owner()))
    await three.move_to(manager)
    on = three.others(manager)[0]
    async with receiver(on, manager):
        failover = await three.cut_power(manager)
        await three.at_rest()
        expected = {
            f"{manager.name} is fenced": False, f"{manager.name} is back": True,
            f"{SID} is recovered from {manager.name}": False, f"{SID} runs again on {failover.target}": True,
        }  # fmt: skip

        async def all_heard() -> list[dict[str, object]] | None:
            heard = [json.loads(line) for line in (on.files / HEARD).read_text().splitlines()]
            return heard if {message["title"] for message in heard} >= set(expected) else None

        heard = await until("all notifications", all_heard, 20)
        assert {message["title"]: message["over"] for message in heard} == expected
        assert len(heard) == len(expected), heard
        begun = {message["id"] for message in heard if not message["over"]}
        assert {message["about"] for message in heard if message["over"]} == begun
        assert manager.name not in {message["node"] for message in heard}
        async with api(on) as client:
            targets = {target["name"]: target for target in await client.get(f"{PATH}/targets")}  # type: ignore
            backup = await client.post("/racimo/backup")
        assert targets["hook"]["state"] == "ok"
        assert "install a mail program" in targets["mail-to-root"]["why"]  # the built-in one: these nodes have none
        path = on.files / str(backup).removeprefix("/")
        assert TOKEN.encode() not in b"".join(read_backup(path).records.values())
    await three.assert_sound()
