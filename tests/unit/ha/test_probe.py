"""Asking an application how it is, against real servers on loopback."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiohttp import web

from racimo.errors import OperationFailed
from racimo.ha.node_client import NodeClient
from racimo.ha.probe import Probes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@contextlib.asynccontextmanager
async def probes(
    tmp_path: Path, status: int = 200, asked: list[str] | None = None
) -> AsyncIterator[tuple[Probes, int]]:
    """The probes of node n1, and the port of a server that answers everything with ``status``.

    The node's daemon is served too: the agent of guest 100 answers, that of others does not. ``asked`` gets the path of
    every request to either.
    """

    async def answer(request: web.Request) -> web.Response:
        if asked is not None:
            asked.append(request.path)
        silent = request.path.endswith("/agent/ping") and "/qemu/100/" not in request.path
        return web.json_response({"data": {}, "message": "it is silent"}, status=500 if silent else status)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    client = NodeClient("n1", tmp_path / "node.sock")
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        await web.UnixSite(runner, str(tmp_path / "node.sock")).start()
        yield Probes(client), runner.addresses[0][1]
    finally:
        await client.close()
        await runner.cleanup()


async def test_an_application_that_answers_is_well(tmp_path: Path) -> None:
    asked: list[str] = []
    async with probes(tmp_path, asked=asked) as (asks, port):
        for probe in (f"http://127.0.0.1:{port}/health", f"tcp:127.0.0.1:{port}", "agent"):
            await asks.ask(100, probe, 2.0)
    assert asked == ["/health", "/api2/json/nodes/n1/qemu/100/agent/ping"]


@pytest.mark.parametrize("status", [404, 503])
async def test_an_http_error_is_no_answer(tmp_path: Path, status: int) -> None:
    async with probes(tmp_path, status) as (asks, port):
        with pytest.raises(OperationFailed, match=str(status)):
            await asks.ask(100, f"http://127.0.0.1:{port}/", 2.0)


async def test_a_silent_agent_says_why(tmp_path: Path) -> None:
    async with probes(tmp_path) as (asks, _):
        with pytest.raises(OperationFailed) as refused:
            await asks.ask(101, "agent", 2.0)
        assert "it is silent" in str(refused.value)


async def test_a_port_that_nobody_listens_on_is_no_answer(tmp_path: Path) -> None:
    async with probes(tmp_path) as (asks, _):
        with pytest.raises(OperationFailed, match="does not answer"):
            await asks.ask(100, "tcp:127.0.0.1:1", 2.0)


async def test_an_application_that_hangs_is_given_up_in_time(tmp_path: Path) -> None:
    release = asyncio.Event()

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await release.wait()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with probes(tmp_path) as (asks, _):
        with pytest.raises(OperationFailed, match=r"within 0\.2 s"):
            await asks.ask(100, f"http://127.0.0.1:{port}/", 0.2)
    release.set()
    server.close()
    await server.wait_closed()
