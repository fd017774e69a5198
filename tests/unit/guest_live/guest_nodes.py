"""Whole nodes for the tests of guests: real QEMU, volumes, tasks, locks and certificates; the peers call in-process."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from guest_parts import ChildUnits

from racimo.api.context import Origin, Who
from racimo.api.dispatch import Dispatcher
from racimo.api.history import History
from racimo.api.incoming import Incoming
from racimo.api.inventory import Inventory
from racimo.api.peers import Peers
from racimo.api.responses import read_answer
from racimo.api.services import Services
from racimo.datacenter.authority import Subject, new_authority
from racimo.datacenter.certificates import CertificateFiles
from racimo.errors import Unreachable
from racimo.guest.host import GuestHost
from racimo.guest.lifecycle import Lifecycle
from racimo.guest.migration_request import place_to_json, request_from_json
from racimo.guest.migration_target import MigrationTarget
from racimo.guest.node_assembly import NodeAssembly
from racimo.guest.qemu.acceleration import Acceleration
from racimo.guest.qemu.machine import find_hypervisor
from racimo.guest.reconciler import Reconciler
from racimo.model.ha import Resource
from racimo.model.node import Node
from racimo.model.paths import NodePaths
from racimo.model.storage import Storage
from racimo.node.presence import HeartbeatPresence
from racimo.node.table import build_table
from racimo.storage.volumes import Volumes
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.mirror import Mirror
from racimo.task.lock import Locks
from racimo.task.runner import ROOT as ROOT_USER
from racimo.task.runner import TaskRunner

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping

    from pydantic import JsonValue

    from racimo.guest.operations import GuestOperation
    from racimo.guest.qemu.machine import Hypervisor
    from racimo.store.base import Store


StoreT = TypeVar("StoreT", bound=MemoryStore)


class Wire:
    """The calls between nodes. ``before`` and ``after`` may be set to fail or delay a step (``incoming``, …)."""

    def __init__(self) -> None:
        self.nodes: dict[str, GuestNode] = {}
        self.before: dict[str, Callable[[], Awaitable[None]]] = {}
        self.after: dict[str, Callable[[], Awaitable[None]]] = {}

    async def call(
        self,
        node: str,
        method: str,
        path: str,
        parameters: Mapping[str, JsonValue] | None = None,
        *,
        timeout: float = 30.0,
    ) -> JsonValue:
        fields, step, vmid = json.loads(json.dumps(parameters)), path.rpartition("/")[2], int(path.split("/")[4])
        if step in self.before:
            await self.before[step]()
        target = self.nodes.get(node)
        if target is None:
            raise Unreachable(f"Node '{node}' did not answer")
        answer: JsonValue = None
        async with asyncio.timeout(timeout):
            match step:
                case "check":
                    await target.incoming.check(vmid)
                case "incoming":
                    answer = place_to_json(await target.incoming.prepare(request_from_json(fields)))
                case "resume":
                    await target.incoming.resume(vmid, fields["epoch"])
                case "abort":
                    await target.incoming.abort(vmid, fields["epoch"], fields["task"])
        if step in self.after:
            await self.after[step]()
        return answer


class GuestNode:
    """One node: what its daemon wires together for guests. ``restart`` is a new daemon over the same processes."""

    def __init__(self, datacenter: Datacenter, name: str, store: Store | None = None) -> None:
        self.datacenter, self.name = datacenter, name
        self.paths, self.units = NodePaths(datacenter.root / name), ChildUnits()
        self.layout = Layout(store or datacenter.store)
        self.history = History(self.paths.state / "history.sqlite")
        self.boots = 0
        self._open()

    def _open(self) -> None:
        self.boots += 1
        incarnation = f"{self.name}-{self.boots}"
        self.datacenter.incarnations[self.name] = incarnation
        self.host = GuestHost(self.paths, self.units)
        self.volumes = volumes = Volumes(lambda: self.datacenter.storages, self.name)
        assembly = NodeAssembly(volumes, self.datacenter.hypervisor, self.paths, self.name, 4 << 30)
        self.life = Lifecycle(
            self.layout,
            self.host,
            assembly,
            self.datacenter.wire,
            node=self.name,
            hypervisor=self.datacenter.hypervisor,
        )
        self.incoming, self.reconciler = MigrationTarget(self.life), Reconciler(self.life)
        self.locks = Locks(self.layout, self.name, incarnation, self.datacenter.is_dead, recheck=0.1)
        self.tasks = TaskRunner(self.name, self.paths, self.locks)
        self.following: asyncio.Task[None] | None = None

    def follow(self) -> None:
        """Let the reconciler run from now on, as in the daemon."""
        self.following = asyncio.create_task(self.reconciler.run())

    async def run(self, operation: GuestOperation) -> list[str]:
        """Carry an operation out as a task; its log."""
        record = await self.tasks.run(operation, self.life)
        lines, _ = await self.tasks.log(record.upid, limit=0)
        return [line.t for line in lines]

    async def api(self, method: str, path: str, form: str = "", below: str = "/qemu") -> JsonValue:
        """What this node's API answers to an urlencoded form below ``/nodes/<name>/qemu``; raises what it refused."""
        async with Mirror(self.layout.store, ROOT) as mirror:
            presence = HeartbeatPresence(self.layout, mirror)
            services = Services(
                node_name=self.name, paths=self.paths, layout=self.layout, tasks=self.tasks,
                peers=Peers(self.name, dict),
            )  # fmt: skip
            services.provide(Inventory(self.layout, mirror, presence, self.name, lambda: self.host.vmids))
            services.provide(self.life)
            services.provide(self.volumes)
            services.provide(self.history)
            query, body = (form, b"") if method in ("GET", "DELETE") else ("", form.encode())
            incoming = Incoming(
                Who(Origin.LOCAL, ROOT_USER), method, f"/nodes/{self.name}{below}{path}", query,
                "application/x-www-form-urlencoded", body,
            )  # fmt: skip
            reply = await Dispatcher(build_table(), services).answer(incoming)
            answer = read_answer(reply.status, reply.reason, reply.body)
        if answer.error is not None:
            raise answer.error
        return answer.data

    async def task(self, method: str, path: str, form: str = "", below: str = "/qemu") -> list[str]:
        """The log of the task that the API began; raises what it failed of."""
        upid = str(await self.api(method, path, form, below))
        record = await self.tasks.wait(upid, 60)
        if record.failure is not None:
            raise record.failure.error()
        return [line.t for line in (await self.tasks.log(record.upid, limit=0))[0]]

    async def kill_daemon(self) -> None:
        """The daemon is gone; its guests go on."""
        if self.following is not None:
            self.following.cancel()
            await asyncio.gather(self.following, return_exceptions=True)
        await self.tasks.close()
        await self.host.close()

    async def restart(self) -> None:
        """A new daemon takes over after ``kill_daemon``."""
        self._open()

    async def close(self) -> None:
        if self.following is not None:
            self.following.cancel()
            await asyncio.gather(self.following, return_exceptions=True)
        await self.tasks.close()
        await self.host.close()
        await self.units.close()

    async def states(self) -> dict[int, str]:
        """Run state of each guest that has a process here."""
        found = {vmid: await self.host.status(vmid) for vmid in self.host.vmids}
        return {vmid: status.state for vmid, status in found.items() if status is not None}


async def put_under_ha(node: GuestNode, vmid: int = 100) -> None:
    """As the HA room does: the mark first, then the record."""
    node.life.marks.put(vmid)
    await node.layout.resources.create(f"vm:{vmid}", Resource(sid=f"vm:{vmid}"))


class Datacenter:
    """Nodes over one store and one shared directory."""

    def __init__(self, root: Path, hypervisor: Hypervisor) -> None:
        self.root, self.hypervisor, self.wire = root, hypervisor, Wire()
        self.use(MemoryStore())
        self.incarnations: dict[str, str] = {}
        (root / "shared").mkdir()
        self.storages = {
            "shared": Storage(id="shared", type="dir", path=str(root / "shared"), shared=True),
            "local": Storage(id="local", type="dir", path=str(root / "local")),
        }
        self.authority = new_authority("dc-1", "test", time.time())

    def use(self, store: StoreT) -> StoreT:
        """Keep the records there: before any node is added."""
        self.store: MemoryStore = store
        self.layout = Layout(store)
        return store

    def is_dead(self, node: str, incarnation: str) -> bool:
        return self.incarnations.get(node) != incarnation

    async def add(self, name: str, store: Store | None = None) -> GuestNode:
        node = GuestNode(self, name, store)
        files = CertificateFiles.of(node.paths)
        node.paths.etc.mkdir(parents=True)
        files.ensure(self.authority, Subject(name, f"id-{name}", "dc-1"), ("127.0.0.1",), time.time())
        await self.enrol(name)
        self.wire.nodes[name] = node
        return node

    async def enrol(self, name: str) -> None:
        """A node in the records alone: it can be given guests."""
        await self.layout.nodes.create(name, Node(name=name, id=f"id-{name}", address="127.0.0.1"))

    def boot_disk(self, code: bytes) -> str:
        """``virtio0`` of a guest that boots ``code``."""
        source = self.root / "boot.raw"
        source.write_bytes(code.ljust(510, b"\x90") + b"\x55\xaa" + bytes((1 << 20) - 512))
        return f"shared:0,import-from={source},format=raw"

    async def close(self) -> None:
        for node in self.wire.nodes.values():
            await node.close()
        await self.store.close()


@asynccontextmanager
async def datacenter() -> AsyncIterator[Datacenter]:
    """An empty datacenter in a directory with a short name: unix sockets have at most 107 characters."""
    hypervisor = await find_hypervisor(acceleration=Acceleration("tcg", "tests emulate"))
    root = Path(tempfile.mkdtemp(prefix="rg-"))
    made = Datacenter(root, hypervisor)
    try:
        yield made
    finally:
        await made.close()
        shutil.rmtree(root)
