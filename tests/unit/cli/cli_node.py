"""A small node for the command line to talk to: the real API server, task runner and error paths over few handlers."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from racimo.access.control import AccessControl, Machinery
from racimo.access.passwords import Passwords
from racimo.api.endpoint import LOGGED_IN, Answers, Routes, Table
from racimo.api.inventory import Inventory
from racimo.api.parameters import OfNode, Parameters
from racimo.api.peers import Peers
from racimo.api.routes import (
    access,
    access_grants,
    access_tfa,
    access_users,
    ha_control,
    ha_rules,
    notifications,
    pools,
    tasks,
    version,
)
from racimo.api.server import ApiServer
from racimo.api.services import Services
from racimo.errors import AlreadyExists, NotClustered, NotFound, Refused, StoreUnavailable
from racimo.ha.control import HaControl
from racimo.ha.rules import HaRules
from racimo.model.ha import Resource
from racimo.model.node import Node
from racimo.model.paths import NodePaths
from racimo.notification.delivery import Delivery
from racimo.notification.settings import NotificationSettings
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.mirror import Mirror
from racimo.store.sealing import Keyring, Sealing, dump_ring, new_sealing_key
from racimo.task.operation import Operation, Report
from racimo.task.runner import TaskRunner

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AsyncExitStack
    from pathlib import Path

    from racimo.api.context import Context

STARTS, HANGS, IS_REFUSED = 100, 200, 300
"""Vmids: one that starts at once, one that starts when the test lets it, one whose start is refused."""


@dataclass
class World:
    """What the handlers show, and the gate that guest 200 waits at."""

    guests: dict[int, dict[str, str]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    calls: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: threading.Event = field(default_factory=threading.Event)
    quorate: bool = True
    serial: str = "login:\n"
    tails: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))
    """One permit per look at the serial console."""


@dataclass(frozen=True)
class Start(Operation[World]):
    kind: ClassVar[str] = "qmstart"
    vmid: int

    @property
    def subject(self) -> str:
        return str(self.vmid)

    async def execute(self, services: World, report: Report, undo: AsyncExitStack) -> None:
        report.log(f"starting {self.vmid}")
        if self.vmid == IS_REFUSED:
            raise Refused("Guest 300 cannot start", why="no space is left", todo="Free some space")
        if self.vmid == HANGS:
            report.progress(0.4, "copying the disk")
            services.waiting.set()
            await services.gate.wait()
        services.running.add(self.vmid)


class Create(OfNode):
    indexed: ClassVar[dict[str, int]] = {"scsi": 31}
    vmid: Annotated[int, Field(ge=100)]
    name: str = ""
    memory: int = 512
    onboot: int = 0


class OfGuest(OfNode):
    vmid: int


class Change(OfGuest):
    memory: int | None = None
    cores: int | None = None
    delete: str = ""


class SerialTail(OfGuest):
    size: int = 4096


class Api(Parameters):
    type: str = ""


def routes(world: World) -> Routes:
    rows = Routes()

    @rows.add("GET", "/cluster/status", permission=LOGGED_IN, summary="-")
    async def status(context: Context, parameters: Parameters) -> list[dict[str, object]]:
        return [
            {"type": "cluster", "name": "lab", "quorate": world.quorate, "nodes": 2},
            {"type": "node", "name": "n1", "online": 1, "local": 1, "ip": "10.0.1.11", "voter": 1},
            {"type": "node", "name": "n2", "online": 0, "local": 0, "ip": "10.0.1.12", "voter": 1},
        ]

    @rows.add("GET", "/cluster/resources", permission=LOGGED_IN, parameters=Api, summary="-")
    async def resources(context: Context, parameters: Api) -> list[dict[str, object]]:
        return [
            {"type": "qemu", "vmid": vmid, "name": config.get("name", f"VM {vmid}"), "node": "n1", "maxmem": 512 << 20,
             "status": "running" if vmid in world.running else "stopped"}
            for vmid, config in world.guests.items()
        ]  # fmt: skip

    @rows.add("GET", "/cluster/nextid", permission=LOGGED_IN, summary="-")
    async def nextid(context: Context, parameters: Parameters) -> str:
        return str(max(world.guests) + 1)

    @rows.add("GET", "/cluster/ha/status/current", permission=LOGGED_IN, summary="-")
    async def ha(context: Context, parameters: Parameters) -> list[dict[str, object]]:
        return [
            {"type": "master", "status": "n1", "node": "n1"},
            {"id": "service:vm:200", "type": "vm", "sid": "vm:200", "state": "recovery", "request_state": "started",
             "node": "n2", "why": "n2's lease ran out"},
        ]  # fmt: skip

    @rows.add("POST", "/racimo/join-info", permission=LOGGED_IN, summary="-")
    async def join_info(context: Context, parameters: Parameters) -> None:
        raise NotClustered("This node stands alone", todo="Create a datacenter: racimo cluster create NAME")

    @rows.add("PUT", "/cluster/options", permission=LOGGED_IN, summary="-")
    async def options(context: Context, parameters: Parameters) -> None:
        raise StoreUnavailable("The store does not answer", why="1 of 3 voters is up", todo="Start another voter")

    @rows.add("GET", "/nodes", permission=LOGGED_IN, summary="-")
    async def nodes(context: Context, parameters: Parameters) -> list[dict[str, object]]:
        first = {"node": "n1", "status": "online", "cpu": 0.25, "maxcpu": 8, "mem": 2 << 30, "maxmem": 8 << 30}
        return [{**first, "uptime": 90000}, {"node": "n2", "status": "offline"}]

    @rows.add("GET", "/storage", permission=LOGGED_IN, summary="-")
    async def storages(context: Context, parameters: Parameters) -> list[dict[str, object]]:
        return [{"storage": "local", "type": "dir"}]

    @rows.add("POST", "/nodes/{node}/qemu", permission=LOGGED_IN, answers=Answers.NODE, parameters=Create, summary="-")
    async def create(context: Context, parameters: Create) -> None:
        if parameters.vmid in world.guests:
            raise AlreadyExists(f"unable to create VM {parameters.vmid}: it already exists", todo="Take another number")
        world.guests[parameters.vmid] = {"name": parameters.name, **parameters.more()}

    @rows.add(
        "GET", "/nodes/{node}/qemu/{vmid}/config", permission=LOGGED_IN, answers=Answers.NODE, parameters=OfGuest,
        summary="-",
    )  # fmt: skip
    async def config(context: Context, parameters: OfGuest) -> dict[str, str]:
        return world.guests[parameters.vmid]

    @rows.add(
        "PUT", "/nodes/{node}/qemu/{vmid}/config", permission=LOGGED_IN, answers=Answers.NODE, parameters=Change,
        summary="-",
    )  # fmt: skip
    async def change(context: Context, parameters: Change) -> None:
        if parameters.delete and parameters.delete not in world.guests[parameters.vmid]:
            raise NotFound(f"{parameters.delete} does not exist in guest {parameters.vmid}")
        world.guests[parameters.vmid].pop(parameters.delete, None)
        if parameters.memory is not None:
            world.guests[parameters.vmid]["memory"] = str(parameters.memory)

    @rows.add(
        "POST", "/nodes/{node}/qemu/{vmid}/status/start", permission=LOGGED_IN, answers=Answers.NODE,
        parameters=OfGuest, summary="-", task=True,
    )  # fmt: skip
    async def start(context: Context, parameters: OfGuest) -> object:
        return context.submit(Start(parameters.vmid), world)

    @rows.add(
        "GET", "/nodes/{node}/qemu/{vmid}/serial", permission=LOGGED_IN, answers=Answers.NODE, parameters=SerialTail,
        summary="-",
    )  # fmt: skip
    async def serial(context: Context, parameters: SerialTail) -> str:
        world.tails.release()
        return world.serial[-parameters.size :]

    return rows


@dataclass
class RunningNode:
    """The node, seen from the test's thread."""

    socket: Path
    world: World
    loop: asyncio.AbstractEventLoop

    def open_gate(self) -> None:
        """Let guest 200 start."""
        self.loop.call_soon_threadsafe(self.world.gate.set)

    def wait_until_starting(self) -> None:
        """Until guest 200's start waits at the gate."""
        assert self.world.waiting.wait(20), "guest 200's start never came to its gate"


@contextmanager
def running_node(root: Path) -> Iterator[RunningNode]:
    """Serve from a thread, since the command line runs an event loop of its own."""
    ready: Future[tuple[RunningNode, asyncio.Event]] = Future()
    thread = threading.Thread(target=lambda: asyncio.run(_serve(root, ready)))
    thread.start()
    node, stop = ready.result(timeout=20)
    try:
        yield node
    finally:
        node.loop.call_soon_threadsafe(stop.set)
        thread.join(timeout=20)
        assert not thread.is_alive(), "the node's thread did not end"


async def _serve(root: Path, ready: Future[tuple[RunningNode, asyncio.Event]]) -> None:
    paths, store, stop = NodePaths(root), MemoryStore(), asyncio.Event()
    runner = TaskRunner("n1", paths)
    peers = Peers("n1", lambda: {"n1": ("127.0.0.1", 8006)})
    services = Services(node_name="n1", paths=paths, layout=Layout(store), tasks=runner, peers=peers)
    world = World(guests={STARTS: {"name": "web"}, HANGS: {"name": "db"}, IS_REFUSED: {}})
    for name in ("n1", "n2"):
        await services.layout.nodes.create(name, Node(name=name, id=name, address=name))
    for vmid in world.guests:
        await services.layout.resources.create(f"vm:{vmid}", Resource(sid=f"vm:{vmid}"))
    services.provide(HaRules(services.layout))
    services.provide(HaControl(services.layout))
    sealing, key = Sealing(paths.sealing), new_sealing_key()
    paths.etc.mkdir(parents=True, exist_ok=True)
    paths.sealing.write_bytes(dump_ring(Keyring(datacenter="dc", current=key.id, keys=(key,))))
    deliver = Delivery(lambda: "lab", "n1", sealing)
    services.provide(NotificationSettings(services.layout, deliver, "n1", time.time, sealing))
    mirror = Mirror(store, ROOT)
    await mirror.start()
    machinery = Machinery(passwords=lambda: Passwords(memory_kib=64))
    access_control = AccessControl(services.layout, mirror, sealing, machinery)
    services.provide(access_control)
    services.provide(Inventory(services.layout, mirror, access_control, "n1", frozenset))  # type: ignore[arg-type]

    async def caught_up() -> None:
        await mirror.wait_for(await store.revision(), 5)

    services.caught_up = caught_up
    families = (tasks.routes, version.routes, ha_rules.routes, ha_control.routes, notifications.routes, access.routes,
                access_users.routes, access_grants.routes, access_tfa.routes, pools.routes)  # fmt: skip
    server = ApiServer(Table(*families, routes(world)), services)
    try:
        await server.serve_unix(paths.node_socket)
        ready.set_result((RunningNode(paths.node_socket, world, asyncio.get_running_loop()), stop))
        await stop.wait()
    finally:
        await runner.close()
        await server.close()
        await mirror.stop()
        await store.close()
