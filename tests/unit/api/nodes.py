"""Nodes of a datacenter in this process: real servers on a unix socket and on TLS over loopback, real certificates."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, JsonValue

from racimo.api.client import ApiClient
from racimo.api.endpoint import ANYBODY, LOGGED_IN, NODES, Answers, Routes, Table, privilege
from racimo.api.parameters import OfNode, Parameters
from racimo.api.peers import Peers
from racimo.api.routes import tasks, version
from racimo.api.server import ApiServer
from racimo.api.services import Services
from racimo.errors import Conflict
from racimo.model.paths import NodePaths
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore
from racimo.task.operation import Operation, Report
from racimo.task.runner import TaskRunner

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from racimo.api.context import Context
    from racimo.api.tls import TlsFiles
    from racimo.task.upid import Upid

    from .certificates import Authority

test_routes = Routes()


@dataclass
class Bench:
    """What the test endpoints work on."""

    entered: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    finished: asyncio.Event = field(default_factory=asyncio.Event)
    done: list[str] = field(default_factory=list)

    def finish(self, how: str) -> None:
        """Note how it ended."""
        self.done.append(how)
        self.finished.set()


class Echo(OfNode):
    """One parameter of each kind."""

    indexed: ClassVar[Mapping[str, int]] = {"net": 32, "scsi": 31}
    vmid: Annotated[int, Field(ge=100)]
    name: str | None = None
    onboot: bool | None = None
    nodes: tuple[str, ...] = ()
    keep: list[int] | None = None
    full_clone: Annotated[bool, Field(alias="full-clone")] = False


class Message(OfNode):
    """What to fail with."""

    text: str = ""


class Volume(OfNode):
    """A volume id, with slashes."""

    volume: str


ECHO = "/nodes/{node}/echo/{vmid}"


async def _echo(context: Context, parameters: Echo) -> dict[str, JsonValue]:
    return {
        "by": context.services.node_name,
        "user": context.who.user,
        **parameters.model_dump(mode="json", exclude_none=True),
    }


for _method in ("GET", "POST", "PUT", "DELETE"):
    test_routes.add(
        _method,
        ECHO,
        permission=privilege("/vms/{vmid}", "VM.Audit"),
        answers=Answers.NODE,
        parameters=Echo,
        summary="Say what was understood",
    )(_echo)


@test_routes.add(
    "GET",
    "/nodes/{node}/volumes/{volume*}",
    permission=LOGGED_IN,
    answers=Answers.NODE,
    parameters=Volume,
    summary="A volume",
)
async def _volume(context: Context, parameters: Volume) -> str:
    return parameters.volume


@test_routes.add(
    "POST", "/nodes/{node}/fail", permission=LOGGED_IN, answers=Answers.NODE, parameters=Message, summary="Fail"
)
async def _fail(context: Context, parameters: Message) -> None:
    raise Conflict(parameters.text, why="it is so", todo="Do it")


@test_routes.add("GET", "/break", permission=ANYBODY, summary="Fail in a way nobody foresaw")
async def _break(context: Context, parameters: Parameters) -> None:
    raise ZeroDivisionError("by zero")


@test_routes.add("GET", "/slow", permission=LOGGED_IN, timeout=0.05, summary="Take too long")
async def _slow(context: Context, parameters: Parameters) -> None:
    await asyncio.Event().wait()


@test_routes.add("POST", "/nodes-only", permission=NODES, summary="Between nodes")
async def _nodes_only(context: Context, parameters: Parameters) -> str:
    return context.who.node


async def _gated(context: Context, parameters: OfNode) -> str:
    bench = context.services.need(Bench)
    bench.entered.set()
    try:
        await bench.go_on.wait()
    except asyncio.CancelledError:
        bench.finish("cancelled")
        raise
    bench.finish("done")
    return "done"


for _method in ("GET", "POST"):
    test_routes.add(
        _method,
        "/nodes/{node}/gated",
        permission=LOGGED_IN,
        answers=Answers.NODE,
        parameters=OfNode,
        summary="Wait",
    )(_gated)


@dataclass(frozen=True)
class Work(Operation[Bench]):
    """A task that waits half-way."""

    kind: ClassVar[str] = "qmwork"
    vmid: int = 100

    @property
    def subject(self) -> str:
        return str(self.vmid)

    async def execute(self, services: Bench, report: Report, undo: AsyncExitStack) -> None:
        report.log("working")
        undo.callback(services.done.append, "undone")
        report.progress(0.5, "half way")
        services.entered.set()
        await services.go_on.wait()
        undo.pop_all()
        services.done.append("worked")


@test_routes.add(
    "POST",
    "/nodes/{node}/work",
    permission=LOGGED_IN,
    answers=Answers.NODE,
    parameters=OfNode,
    task=True,
    summary="Begin a task",
)
async def _work(context: Context, parameters: OfNode) -> Upid:
    return context.submit(Work(), context.services.need(Bench))


TABLE = Table(version.routes, tasks.routes, test_routes)


class Node:
    """One node: its server, its tasks, its bench."""

    def __init__(self, name: str, root: Path, directory: dict[str, tuple[str, int]], tls: TlsFiles) -> None:
        self.name, self.tls, self._directory = name, tls, directory
        self.paths = NodePaths(root / name)
        self.bench = Bench()
        self.store = MemoryStore()
        self.tasks = TaskRunner(name, self.paths)
        self.peers = Peers(name, lambda: directory, tls)
        self.services = Services(
            node_name=name, paths=self.paths, layout=Layout(self.store), tasks=self.tasks, peers=self.peers
        )
        self.services.provide(self.bench)
        self.server = ApiServer(
            TABLE, self.services, lambda peer, dc: peer in directory and dc == "dc-1", idle_timeout=0.5
        )

    async def start(self) -> None:
        await self.server.serve_unix(self.paths.node_socket)
        await self.server.serve_tls(self.tls, "127.0.0.1", 0)
        self._directory[self.name] = ("127.0.0.1", self.server.port)

    async def stop(self) -> None:
        """The node's daemon is gone; its name and address stay known."""
        self.bench.go_on.set()
        await self.server.close()
        await self.tasks.close()
        await self.peers.close()
        await self.store.close()

    def local(self) -> ApiClient:
        """As root of this node."""
        return ApiClient.unix(self.paths.node_socket, timeout=10)


class Datacenter:
    """Two nodes."""

    def __init__(self, root: Path, authority: Authority) -> None:
        self.root, self.authority = root, authority
        self.directory: dict[str, tuple[str, int]] = {}
        self.n1, self.n2 = (Node(name, root, self.directory, authority.issue(name)) for name in ("n1", "n2"))
