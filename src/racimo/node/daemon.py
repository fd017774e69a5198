"""The daemon of a node: serves the API, and goes from one session to the next as the node's store changes."""

from __future__ import annotations

import asyncio
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog

from racimo.access.audit import AuditLog
from racimo.api.peers import Peers
from racimo.api.routes.certificates import CertificateUse
from racimo.api.routes.nodes import UsageMeter
from racimo.api.routes.setup import SetupSteps
from racimo.api.server import PORT, ApiServer
from racimo.api.services import Services
from racimo.api.tls import TlsFiles
from racimo.datacenter.facts import gather_facts, read_memory
from racimo.datacenter.host import Host
from racimo.datacenter.identity import find_identity
from racimo.datacenter.service import DatacenterService, Wiring, open_node
from racimo.datacenter.standalone import InitRequest, initialise
from racimo.errors import BadParameter, Unreachable
from racimo.guest.host import GuestHost
from racimo.guest.qemu.machine import find_hypervisor
from racimo.machine.programs import Programs
from racimo.node.addresses import default_address
from racimo.node.rescue import BecomeWitness, RecoverStore
from racimo.node.session import Machine, Session
from racimo.node.status import ProcMeter, own_cgroup
from racimo.node.table import build_table
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore
from racimo.task.runner import TaskRunner

if TYPE_CHECKING:
    from racimo.datacenter.identity import Identity
    from racimo.datacenter.services import Services as UnitServices
    from racimo.guest.qemu.machine import Hypervisor
    from racimo.guest.units import Units
    from racimo.model.guest import Guest
    from racimo.model.node import NodeFacts
    from racimo.model.paths import NodePaths
    from racimo.store.base import Store
    from racimo.task.upid import Upid

log = structlog.get_logger()


@dataclass(slots=True)
class _Present:
    """The session that runs, its store and its background task."""

    session: Session
    store: Store
    work: asyncio.Task[None]


class NodeDaemon:
    """One node. ``run`` serves until cancelled. ``paths``, ``units`` and ``services`` are this machine's."""

    def __init__(self, paths: NodePaths, units: Units, services: UnitServices, *, port: int = PORT) -> None:
        self.paths, self.port = paths, port
        self.host = Host(services, paths)
        self.incarnation = uuid.uuid4().hex
        self.guests = GuestHost(paths, units)
        name = socket.gethostname().partition(".")[0]
        self.peers = Peers(name, self._directory)
        self.services = Services(
            node_name=name,
            paths=paths,
            layout=Layout(MemoryStore()),
            tasks=TaskRunner(name, paths),
            peers=self.peers,
            initialised=False,
        )
        self.audit = AuditLog(paths.log)
        self._auditing: asyncio.Task[None] | None = None
        self.services.provide(self.audit)
        self.services.provide(SetupSteps(self))
        self.services.provide(UsageMeter(ProcMeter(cgroup=own_cgroup())))
        self.services.provide(Programs())
        self.services.provide(CertificateUse(self._load_certificates))
        self.server = ApiServer(build_table(), self.services, self._is_peer)
        self._hypervisor: Hypervisor | None = None
        self._present: _Present | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._beginning = asyncio.Lock()
        self.ready = asyncio.Event()
        """Set when the API is served."""

    async def run(self, stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set. Raises what ended the work in the background."""
        try:
            identity = find_identity(self.paths)
            if identity is not None:
                store, identity = await open_node(self.host)
                await self._begin(store, identity)
            self._auditing = asyncio.create_task(self.audit.run(), name="audit log")
            await self.server.serve_unix(self.paths.node_socket)
            self.ready.set()
            stopping = asyncio.ensure_future(stop.wait())
            ends: list[asyncio.Future[Any]] = [stopping, self._failed]
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
            stopping.cancel()
            if self._failed.done():
                self._failed.result()
        finally:
            await self._close()

    # -- the calls of routes/setup -------------------------------------------------------------------------------

    async def initialise(self, name: str, address: str) -> Identity:
        """Make this machine a node, and serve as one."""
        async with self._beginning:
            request = InitRequest(
                name=name or self.services.node_name,
                address=address or await default_address(),
                facts=await self.facts(),
            )
            await initialise(self.host, request)
            store, identity = await open_node(self.host)
            await self._begin(store, identity)
            return identity

    def witness(self, text: str, name: str, address: str, user: str) -> Upid:
        """Make this machine a witness."""
        operation = BecomeWitness(name or self.services.node_name, text, address)
        return self.services.tasks.submit(operation, self.host, user)

    def recover(self, *, confirmed: bool, backup: str, member: str, user: str) -> Upid:
        """Go on as the only voter; afterwards the daemon begins anew."""
        if backup and not backup.startswith("/"):
            raise BadParameter({"backup": "is not an absolute path"})
        operation = RecoverStore(self.services.node_name, Path(backup) if backup else None, member, confirmed)
        return self.services.tasks.submit(operation, self, user)

    # -- sessions ------------------------------------------------------------------------------------------------

    async def facts(self) -> NodeFacts:
        """What this machine is made of."""
        acceleration = (await self._find_hypervisor()).acceleration
        return await gather_facts(acceleration.kind, acceleration.reason)

    async def go_over(self, store: Store, identity: Identity) -> None:
        """The node uses another store from now on: end the session, close the old store, begin anew."""
        log.info("going over to another store", node=identity.name, clustered=identity.clustered)
        await self._end_session()
        await self._begin(store, identity)

    async def suspend(self) -> None:
        """End the session without a new one: the store is about to be rebuilt."""
        await self._end_session()

    async def resume(self) -> None:
        """Begin a session over the store that the node has now."""
        store, identity = await open_node(self.host)
        await self._begin(store, identity)

    async def _begin(self, store: Store, identity: Identity) -> None:
        if self.services.tasks.node_name != identity.name:
            await self.services.tasks.close()
            self.services.tasks = TaskRunner(identity.name, self.paths)
            self.peers.node_name = identity.name
        hypervisor = await self._find_hypervisor()
        machine = Machine(
            host=self.host, guests=self.guests, hypervisor=hypervisor, memory=_memory(),
            incarnation=self.incarnation, tasks=self.services.tasks, peers=self.peers, renewed=self._load_certificates,
            measure=ProcMeter(cgroup=own_cgroup()).read,
        )  # fmt: skip
        datacenter = self.services.rooms.get(DatacenterService)
        if not isinstance(datacenter, DatacenterService):
            datacenter = DatacenterService(self.host, store, self._wiring())
        datacenter.store = store
        session = Session(machine, store, identity, datacenter)
        session.provide(self.services)
        work = asyncio.create_task(session.run(), name="session")
        work.add_done_callback(self._session_ended)
        self._present = _Present(session, store, work)
        await session.first_read()
        await self._load_certificates()
        log.info("serving", node=identity.name, clustered=identity.clustered, acceleration=hypervisor.acceleration.kind)

    async def _end_session(self) -> None:
        present, self._present = self._present, None
        if present is None:
            return
        present.work.remove_done_callback(self._session_ended)
        present.work.cancel()
        await asyncio.wait({present.work})
        await present.session.close()
        await present.store.close()

    def _session_ended(self, work: asyncio.Task[None]) -> None:
        """The background work must not end by itself: the daemon ends with it, and systemd starts it again."""
        if not work.cancelled() and not self._failed.done():
            error = work.exception()
            self._failed.set_exception(error or RuntimeError("the background work of the node ended"))

    async def _close(self) -> None:
        await self.server.close()
        await self.services.tasks.close()
        await self._end_session()
        datacenter = self.services.rooms.get(DatacenterService)
        if isinstance(datacenter, DatacenterService):
            await datacenter.close()
        await self.guests.close()
        await self.peers.close()
        if self._auditing is not None:
            self._auditing.cancel()
            await asyncio.wait({self._auditing})

    # -- wiring --------------------------------------------------------------------------------------------------

    def _wiring(self) -> Wiring:
        return Wiring(facts=self.facts, renumber=self._renumber, is_manager=self._is_manager, changed=self.go_over)

    async def _renumber(self, guest: Guest, vmid: int) -> Guest:
        """A stopped guest's record with its volumes renamed for another number."""
        present = self._present
        if present is None:
            raise Unreachable(f"Guest {guest.vmid} was not renumbered", why="the node is between two stores")
        return await present.session.assembly.renumber(guest, vmid)

    def _is_manager(self) -> bool:
        return self._present is not None and self._present.session.is_manager()

    def _is_peer(self, name: str, node_id: str) -> bool:
        return self._present is not None and self._present.session.is_peer(name, node_id)

    def _directory(self) -> dict[str, tuple[str, int]]:
        present = self._present
        return {name: (address, self.port) for name, address in present.session.directory().items()} if present else {}

    async def _load_certificates(self) -> None:
        tls = TlsFiles.of(self.paths)
        self.peers.renew(tls)
        await self.server.serve_tls(tls, port=self.port)

    async def _find_hypervisor(self) -> Hypervisor:
        if self._hypervisor is None:
            self._hypervisor = await find_hypervisor()
        return self._hypervisor


def _memory() -> int:
    return read_memory(Path("/proc/meminfo").read_text())
