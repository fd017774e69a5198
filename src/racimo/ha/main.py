"""``racimo-ha``: the HA daemon of a node. ``python -m racimo.ha.main``."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
from aiohttp import web

from racimo.errors import StoreError
from racimo.ha.alone import until_clustered
from racimo.ha.clock import SystemClock
from racimo.ha.daemon import HaNode
from racimo.ha.fencing.agents import FencePrograms
from racimo.ha.identity import IdentityFile
from racimo.ha.local import LocalKeeper
from racimo.ha.neighbours import Door, TlsNeighbours
from racimo.ha.node_client import NodeClient
from racimo.ha.notify import notify
from racimo.ha.probe import Probes
from racimo.model.paths import NodePaths
from racimo.store.etcd import EtcdStore, TlsFiles
from racimo.store.sealing import Sealing

if TYPE_CHECKING:
    from racimo.ha.identity import Identity

log = structlog.get_logger()

RESIGN_S = 0.5


async def serve_status(node: HaNode, socket: Path, stack: AsyncExitStack) -> None:
    """``GET /status`` as JSON for root of this node."""

    async def status(_: web.Request) -> web.Response:
        return web.json_response(node.status())

    app = web.Application()
    app.router.add_get("/status", status)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    with suppress(FileNotFoundError):
        os.unlink(socket)  # an earlier process left it
    await web.UnixSite(runner, str(socket)).start()
    os.chmod(socket, 0o600)


async def _run(node: HaNode, door: Door) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(node.run(), name="node")
        group.create_task(door.run(), name="door")


def assemble(paths: NodePaths, identity: Identity, clock: SystemClock, stack: AsyncExitStack) -> HaNode:
    """The parts of a node's HA, put together; ``stack`` closes those that have to be."""
    tls = TlsFiles(ca=paths.etc / "ca.crt", cert=paths.etc / "node.crt", key=paths.etc / "node.key")
    store = EtcdStore(identity.endpoints, tls=tls)
    stack.push_async_callback(store.close)
    client = NodeClient(identity.name, paths.node_socket)
    stack.push_async_callback(client.close)
    keeper = LocalKeeper(paths)
    stack.callback(keeper.close)
    neighbours = TlsNeighbours(paths)
    stack.push_async_callback(neighbours.close)
    node = HaNode(
        identity.name,
        store,
        keeper,
        client,
        clock,
        identity.id,
        FencePrograms(Sealing(paths.sealing)),
        Probes(client),
        keeper.shutdown,
        client,
    )
    node.failsafe.neighbours = neighbours
    node.holder.watchdog = keeper.watchdog
    return node


async def run_clustered(paths: NodePaths, identity: Identity, file: IdentityFile, end: asyncio.Event) -> None:
    """HA of a node in a cluster, until ``end`` is set or the identity changes. Guests run on: the lease lasts."""
    clock = SystemClock()
    async with AsyncExitStack() as stack:
        node = assemble(paths, identity, clock, stack)
        door = Door(paths, identity.address, node.failsafe.answer, clock)
        await serve_status(node, paths.ha_socket, stack)
        running = asyncio.create_task(_run(node, door), name="ha")
        ends = [asyncio.create_task(end.wait()), asyncio.create_task(file.changed(identity))]
        try:
            await asyncio.wait([running, *ends], return_when=asyncio.FIRST_COMPLETED)
            with suppress(StoreError, TimeoutError):
                async with asyncio.timeout(RESIGN_S):
                    await node.manager.resign()
        finally:
            for task in (running, *ends):
                task.cancel()
            results = await asyncio.gather(running, *ends, return_exceptions=True)
            with suppress(TimeoutError):
                async with asyncio.timeout(RESIGN_S):
                    await node.farewell()
        failure = results[0]
        if isinstance(failure, Exception):
            raise failure


async def run(paths: NodePaths) -> None:
    """Wait until this node is part of a cluster, then do its part."""
    end, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    clock, keeper = SystemClock(), LocalKeeper(paths)
    file = IdentityFile(paths.etc / "node.json", clock)
    notify("READY=1\nSTATUS=waiting until this node is part of a cluster")
    waiting, ended = asyncio.create_task(until_clustered(file, keeper, clock)), asyncio.create_task(end.wait())
    await asyncio.wait([waiting, ended], return_when=asyncio.FIRST_COMPLETED)
    ended.cancel()
    if not waiting.done():
        waiting.cancel()
        return
    identity = waiting.result()
    notify(f"STATUS=node {identity.name}")
    await run_clustered(paths, identity, file, end)


def main() -> None:
    """One process per node: a second one ends at once. ``--root DIR`` is for tests."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.format_exc_info,
            structlog.processors.LogfmtRenderer(key_order=["level", "event"]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    paths = NodePaths(Path(sys.argv[2])) if sys.argv[1:2] == ["--root"] else NodePaths()
    paths.run.mkdir(parents=True, exist_ok=True)
    with open(paths.run / "ha.lock", "w", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            sys.exit("racimo-ha runs on this node already")
        asyncio.run(run(paths))


if __name__ == "__main__":
    main()
