"""A webhook on a node of a lab: it keeps what it hears in a file, and takes only who knows the token."""

from __future__ import annotations

import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from racimo.lab.datacenter import api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from racimo.lab.node import LabNode

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


def heard(on: LabNode) -> list[dict[str, Any]]:
    """What the webhook on this node has heard so far."""
    file = on.files / HEARD
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


async def listen(on: LabNode, asked: LabNode, types: str) -> None:
    """Have a webhook on ``on`` hear what is of one of ``types``, as ``asked`` is told."""
    await on.succeed("systemd-run", "--unit=hook", "--collect", "/usr/bin/python3", "-c", RECEIVER)
    header, secret = (base64.b64encode(text.encode()).decode() for text in ("Bearer {{ secrets.token }}", TOKEN))
    async with api(asked) as client:
        await client.post(
            f"{PATH}/endpoints/webhook", name="hook", url=f"http://{on.address()}:{PORT}/",
            header=[f"name=Authorization,value={header}"], secret=[f"name=token,value={secret}"],
        )  # fmt: skip
        await client.post(f"{PATH}/matchers", name="hook", target="hook", **{"match-field": f"exact:type={types}"})


@asynccontextmanager
async def listener(on: LabNode, asked: LabNode, types: str) -> AsyncIterator[None]:
    """``listen``, and all forgotten afterwards."""
    await listen(on, asked, types)
    try:
        yield
    finally:
        async with api(on) as client:
            await client.delete(f"{PATH}/matchers/hook")
            await client.delete(f"{PATH}/endpoints/webhook/hook")
        await on.succeed("systemctl", "stop", "hook")
        await on.succeed("rm", "-f", f"/{HEARD}")
