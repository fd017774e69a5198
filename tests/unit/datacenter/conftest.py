"""Nodes on one loopback: real etcd processes, each node with an address of its own and a root of its own."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import os
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from racimo.datacenter.admit import handle_check, handle_commit
from racimo.datacenter.create import CreateRequest
from racimo.datacenter.host import Host
from racimo.datacenter.identity import read_identity
from racimo.datacenter.service import DatacenterService, Wiring, open_node
from racimo.datacenter.services import ETCD_UNIT
from racimo.datacenter.standalone import InitRequest, initialise
from racimo.errors import RacimoError
from racimo.model.node import NodeFacts
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from racimo.datacenter.join_message import JoinCheck, JoinGrant, JoinRequest
    from racimo.datacenter.status import ClusterStatus
    from racimo.model.guest import Guest
    from racimo.store.base import Store
    from racimo.store.layout import Layout


class ListReport:
    """A report that keeps what it was told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.warnings: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def warn(self, text: str) -> None:
        self.warnings.append(text)

    def progress(self, fraction: float, text: str = "") -> None:
        assert 0 <= fraction <= 1


@dataclass
class ChildServices:
    """``Services`` whose only real unit is etcd, run as a child process."""

    root: Path
    process: asyncio.subprocess.Process | None = None
    started: list[str] = field(default_factory=list)
    slow_s: float = 0.0
    """For so long the process of etcd does nothing, as on a machine with much to do."""

    @property
    def log(self) -> Path:
        return self.root / "etcd.log"

    async def start(self, unit: str) -> None:
        self.started.append(unit)
        if unit != ETCD_UNIT or await self.active(unit):
            return
        with self.log.open("ab") as log:
            begin = f"sleep {self.slow_s}; exec etcd --config-file {NodePaths(self.root).etc / 'etcd.conf.yml'}"
            self.process = await asyncio.create_subprocess_exec("sh", "-c", begin, stdout=log, stderr=log)

    async def stop(self, unit: str) -> None:
        if unit == ETCD_UNIT:
            await self.kill(signal.SIGTERM)

    async def active(self, unit: str) -> bool:
        return unit == ETCD_UNIT and self.process is not None and self.process.returncode is None

    async def journal(self, unit: str) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-5:])

    async def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """As a power cut, or as an orderly end."""
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            try:
                async with asyncio.timeout(15):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


class DirectJoin:
    """``JoinClient`` without a network: straight to a member's handlers."""

    def __init__(self, member: TestNode) -> None:
        self.member = member

    async def check(self, request: JoinRequest) -> JoinCheck:
        return await handle_check(self.member.layout, self.member.name, request, self.member.host.now())

    async def commit(self, request: JoinRequest) -> JoinGrant:
        return await handle_commit(self.member.layout, self.member.name, request, self.member.host.now())


class TestNode:
    """One node: its host, its service, and its voters' keeper while it is ``up``."""

    __test__ = False

    def __init__(self, root: Path, name: str, address: str) -> None:
        root.mkdir()
        self.name, self.address, self.root = name, address, root
        self.services = ChildServices(root)
        self.clock = time.time()
        self.host = Host(self.services, NodePaths(root), now=lambda: self.clock, listen_loopback=False)
        self.service: DatacenterService | None = None
        self.facts = NodeFacts(architecture="x86_64", cpu_model="a CPU", cpus=2, memory=2**33)
        self.renamed: list[tuple[int, int]] = []
        self.manager = False
        self.contact: TestNode | None = None
        self._keeping: contextlib.AsyncExitStack | None = None

    @property
    def layout(self) -> Layout:
        return self.of.layout

    @property
    def of(self) -> DatacenterService:
        assert self.service is not None
        return self.service

    async def init(self) -> TestNode:
        await initialise(self.host, InitRequest(name=self.name, address=self.address, facts=self.facts))
        await self.open()
        return await self.align()

    async def align(self) -> TestNode:
        """Give the storage the path that it has on real nodes, which all have the same root."""
        await self.layout.storages.update("local", lambda s: dataclasses.replace(s, path="/var/lib/racimo/images"))
        return self

    async def open(self) -> TestNode:
        store, _ = await open_node(self.host)
        self.service = DatacenterService(self.host, store, self.wiring())
        return self

    async def reopen(self) -> TestNode:
        """As when the daemon starts again."""
        await self.rest()
        await self.of.store.close()
        await self.of.close()
        return await self.open()

    def wiring(self) -> Wiring:
        async def facts() -> NodeFacts:
            return self.facts

        async def renumber(guest: Guest, vmid: int) -> Guest:
            self.renamed.append((guest.vmid, vmid))
            return guest

        async def changed(store: Store, identity: object) -> None:
            if self._keeping is not None:
                await self.rest()
                await self.keep()

        def connect(_: object) -> DirectJoin:
            assert self.contact is not None
            return DirectJoin(self.contact)

        return Wiring(facts=facts, renumber=renumber, is_manager=lambda: self.manager, changed=changed, connect=connect)

    async def keep(self) -> None:
        """Look after the voters from now on."""
        if self._keeping is None:
            self._keeping = contextlib.AsyncExitStack()
            await self._keeping.enter_async_context(self.of.keeping_voters())

    async def rest(self) -> None:
        """Look after them no more."""
        if self._keeping is not None:
            await self._keeping.aclose()
            self._keeping = None

    async def create(self, name: str = "bunch") -> TestNode:
        self.manager = True
        await self.of.create(CreateRequest(name=name, address=self.address), ListReport())
        return self

    async def join(self, contact: TestNode, *, renumber: bool = False, report: ListReport | None = None) -> TestNode:
        self.contact = contact
        await self.align()
        text = await contact.of.join_info()
        await self.of.join(text, self.address, report or ListReport(), renumber=renumber)
        return self

    async def die(self) -> None:
        """Power cut: etcd is killed, nothing is kept up any more."""
        await self.rest()
        await self.services.kill()

    async def close(self) -> None:
        await self.rest()
        if self.service is not None:
            await self.service.store.close()
            await self.service.close()

    def clustered(self) -> bool:
        return read_identity(self.host.paths).clustered

    async def until(self, what: str, true: Callable[[ClusterStatus], bool], seconds: float = 60) -> ClusterStatus:
        """Wait until the status is as wanted."""
        last: object = None
        try:
            async with asyncio.timeout(seconds):
                while True:
                    try:
                        last = status = await self.of.status()
                    except RacimoError as error:
                        last = error
                    else:
                        if true(status):
                            return status
                    await asyncio.sleep(0.1)
        except TimeoutError:
            pytest.fail(f"waited {seconds} s until {what}; last: {last}")


class Lot:
    """The nodes of one test."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.nodes: list[TestNode] = []
        pid = os.getpid()
        self.network = f"127.{1 + pid % 250}.{1 + pid // 250 % 250}"

    def node(self, name: str = "") -> TestNode:
        """A machine that is not a node yet."""
        number = len(self.nodes) + 1
        name = name or f"n{number}"
        node = TestNode(self.root / f"{number}-{name}", name, f"{self.network}.{number}")
        self.nodes.append(node)
        return node

    async def cluster(self, size: int) -> list[TestNode]:
        """So many nodes in one cluster, with all voters in."""
        first = await (await self.node().init()).create()
        await first.keep()
        for _ in range(size - 1):
            joiner = await (await self.node().init()).join(first)
            await joiner.keep()
        wanted = 3 if size in {3, 4} else 5 if size >= 5 else 1
        await first.until(f"{wanted} vote", lambda status: voters(status, reachable=True) == wanted)
        return self.nodes


def voters(status: ClusterStatus, *, reachable: bool = False) -> int:
    """How many members vote (and can be reached)."""
    return sum(member.voter and (member.reachable or not reachable) for member in status.members)


@pytest.fixture
async def lot(tmp_path: Path) -> AsyncIterator[Lot]:
    made = Lot(tmp_path)
    try:
        yield made
    finally:
        for node in made.nodes:
            await node.close()
        for node in made.nodes:
            await node.services.kill()


@pytest.fixture
def report() -> ListReport:
    return ListReport()


@pytest.fixture
def direct() -> type[DirectJoin]:
    return DirectJoin
