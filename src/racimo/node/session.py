"""All that hangs on the store that a node uses now. When the node goes over to another store, a new session begins."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from racimo import __version__
from racimo.access.control import AccessControl
from racimo.access.leftovers import Leftovers
from racimo.api.history import History
from racimo.api.inventory import Inventory
from racimo.datacenter.backup import back_up_hourly
from racimo.datacenter.sealing import SealingKeeper
from racimo.errors import NotFound, RacimoError, StoreError
from racimo.guest.lifecycle import Lifecycle
from racimo.guest.migration_target import MigrationTarget
from racimo.guest.node_assembly import NodeAssembly
from racimo.guest.operations import StartGuest
from racimo.guest.reconciler import Reconciler
from racimo.ha.clock import SystemClock
from racimo.ha.control import HaControl
from racimo.ha.fencing.agents import FencePrograms
from racimo.ha.fencing.devices import FenceDevices
from racimo.ha.measure import loads, sample
from racimo.ha.node_client import NodeClient
from racimo.ha.resources import HaResources
from racimo.ha.rules import HaRules
from racimo.model.ha import NodeHealth
from racimo.model.node import Daemon
from racimo.node.announce import Announcement
from racimo.node.bridges import keep_bridges
from racimo.node.historian import Historian
from racimo.node.notifying import Notifying
from racimo.node.presence import HeartbeatPresence
from racimo.node.rings import RingsOfPeers
from racimo.storage.volumes import Volumes
from racimo.store.layout import ROOT, Layout
from racimo.store.mirror import Mirror, MirroredCollection
from racimo.store.sealing import Sealing
from racimo.task.lock import Locks

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.api.peers import Peers
    from racimo.api.routes.nodes import Usage
    from racimo.api.services import Services
    from racimo.datacenter.host import Host
    from racimo.datacenter.identity import Identity
    from racimo.datacenter.service import DatacenterService
    from racimo.guest.host import GuestHost
    from racimo.guest.qemu.machine import Hypervisor
    from racimo.ha.states import Load
    from racimo.model.node import Node
    from racimo.store.base import Store
    from racimo.task.runner import TaskRunner

log = structlog.get_logger()

RETRY = 1.0
"""Seconds until the store is asked again after it did not answer."""
CATCH_UP = 1.0
"""Seconds that a change waits at most for the copy of the store to show it."""
FIRST_READ = 5.0
"""Seconds that a daemon which begins waits at most for the records, before it serves without them."""
RENEW_EVERY = 6 * 3600.0
"""Seconds between two looks at how long the node's certificate still lives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """What outlives a session: this machine, and the parts of the daemon that know no store."""

    host: Host
    guests: GuestHost
    hypervisor: Hypervisor
    memory: int
    """Bytes of the node's memory."""
    incarnation: str
    tasks: TaskRunner
    peers: Peers
    measure: Callable[[], Awaitable[Usage]]
    """What the node uses now."""
    renewed: Callable[[], Awaitable[None]]
    """Awaited when the node's certificate was renewed."""


class Session:
    """The rooms' services over one store. ``provide`` hands them to the API; ``run`` is the work in the background."""

    def __init__(self, machine: Machine, store: Store, identity: Identity, datacenter: DatacenterService) -> None:
        self.machine, self.store, self.identity, self.datacenter = machine, store, identity, datacenter
        self.layout = Layout(store)
        self.mirror = Mirror(store, ROOT)
        self.presence = HeartbeatPresence(self.layout, self.mirror)
        name, paths = identity.name, machine.host.paths
        self.inventory = Inventory(self.layout, self.mirror, self.presence, name, lambda: machine.guests.vmids)
        self.volumes = Volumes(self.inventory.storages, name)
        self.assembly = NodeAssembly(self.volumes, machine.hypervisor, paths, name, machine.memory)
        self.lifecycle = Lifecycle(
            self.layout,
            machine.guests,
            self.assembly,
            machine.peers,
            node=name,
            hypervisor=machine.hypervisor,
            node_id=identity.id,
        )
        self.history = History(paths.state / "history.sqlite")
        self.reconciler = Reconciler(self.lifecycle)
        self.resources = HaResources(self.layout, self._mark)
        self.locks = Locks(self.layout, name, machine.incarnation, self._is_dead)
        self.sealing = Sealing(paths.sealing)
        self.sealing_keeper = SealingKeeper(self.layout, self.sealing, RingsOfPeers(machine.peers), self._acts)
        self.notifying = Notifying(
            self.layout, self.mirror, machine.tasks, machine.peers, paths, name, identity.id, self.sealing,
            is_sender=self._acts,
        )  # fmt: skip
        self.access = AccessControl(self.layout, self.mirror, self.sealing)
        self._daemons = MirroredCollection(self.mirror, self.layout.daemons)
        self._followed = asyncio.Event()

    def provide(self, services: Services) -> None:
        """Hand everything to the API."""
        services.node_name, services.layout, services.initialised = self.identity.name, self.layout, True
        services.tasks.locks = self.locks
        services.tasks.before_end = services.caught_up = self.catch_up
        services.provide(self.inventory)
        services.provide(self.volumes)
        services.provide(self.history)
        services.provide(self.lifecycle)
        services.provide(MigrationTarget(self.lifecycle))
        services.provide(self.resources)
        services.provide(HaRules(self.layout))
        services.provide(HaControl(self.layout, self._measure))
        services.provide(FenceDevices(self.layout, FencePrograms(self.sealing), self.identity.name))
        services.provide(self.datacenter)
        services.provide(self.sealing_keeper)
        services.provide(self.access)
        services.provide(self.notifying.settings)
        services.provide(self.notifying.quorum)

    def directory(self) -> dict[str, str]:
        """Each node's address, witnesses left out; nobody before the records were read."""
        return {name: node.address for name, node in self._nodes().items() if not node.witness}

    def is_peer(self, name: str, node_id: str) -> bool:
        """Whether that very node is of the datacenter today: one that was removed and came back has another id."""
        node = self._nodes().get(name)
        return node is not None and node.id == node_id

    def is_manager(self) -> bool:
        """Whether the HA manager is on this node."""
        term = self.inventory.manager()
        return term is not None and term.node == self.identity.name

    def _acts(self) -> bool:
        """Whether this node acts for all now: it stands alone, or the HA manager is on it and the store answers."""
        return not self.identity.clustered or (self.is_manager() and self.mirror.stale_since is None)

    async def catch_up(self) -> None:
        """Wait, shortly, until the copy of the store holds all that was committed so far."""
        try:
            async with asyncio.timeout(CATCH_UP):
                await self.mirror.wait_for(await self.store.revision(), CATCH_UP)
        except (StoreError, TimeoutError) as error:
            log.info("the copy of the store lags behind", why=str(error) or f"waited {CATCH_UP:g} s")

    async def first_read(self) -> None:
        """Wait, for ``FIRST_READ`` seconds at most, until the records have been read: who asks before sees none."""
        try:
            async with asyncio.timeout(FIRST_READ):
                await self._followed.wait()
        except TimeoutError:
            log.warning("serving without having read the store", why=f"it did not answer within {FIRST_READ:g} s")

    async def run(self) -> None:
        """Follow the store and look after guests, voters, backups and certificates, until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.reconciler.run(), name="guests")
            await self._start_mirror()
            group.create_task(self.presence.follow(), name="presence")
            self._followed.set()
            await self._announcement().made()
            group.create_task(self.reconciler.start_on_boot(self._start_guest), name="guests that start with the node")
            group.create_task(self._renew_certificate(), name="certificate")
            group.create_task(self.sealing_keeper.run(self.mirror), name="sealing")
            group.create_task(self.access.keys.keep(), name="ticket key")
            group.create_task(Leftovers(self.layout, self.mirror).keep_clean(), name="permissions of what is gone")
            group.create_task(keep_bridges(self.layout, self.identity.name), name="bridges")
            group.create_task(self.notifying.run(), name="notifications")
            group.create_task(self._historian().run(), name="figures")
            group.create_task(
                back_up_hourly(self.machine.host, self.store, self.identity.name, self._is_voter), name="backups"
            )
            if self.identity.clustered:
                async with self.datacenter.keeping_voters():
                    await asyncio.Event().wait()

    async def close(self) -> None:
        """Stop following the store; it is the daemon that closes it."""
        await self.locks.close()
        await self.mirror.stop()

    def _nodes(self) -> dict[str, Node]:
        return self.inventory.nodes() if self.inventory.known else {}

    def _historian(self) -> Historian:
        return Historian(self.history, self.machine.guests, self.machine.measure, self.inventory.guests)

    def _announcement(self) -> Announcement:
        machine, name = self.machine, self.identity.name
        daemon = Daemon(node=name, incarnation=machine.incarnation, version=__version__, since=machine.host.now())
        return Announcement(self.layout, self.identity, daemon)

    async def _start_mirror(self) -> None:
        while True:
            try:
                await self.mirror.start()
            except StoreError as error:
                log.warning("the store does not answer yet", why=str(error))
                await asyncio.sleep(RETRY)
            else:
                return

    async def _renew_certificate(self) -> None:
        while True:
            try:
                if await self.datacenter.renew():
                    await self.machine.renewed()
            except RacimoError as error:
                log.warning("the certificate was not renewed", why=str(error), todo="It is tried again later")
            await asyncio.sleep(RENEW_EVERY)

    async def _start_guest(self, vmid: int) -> None:
        await self.machine.tasks.run(StartGuest(vmid=vmid), self.lifecycle)

    async def _is_voter(self) -> bool:
        node = self._nodes().get(self.identity.name)
        return not self.identity.clustered or (node is not None and node.voter)

    async def _measure(self) -> dict[str, Load]:
        """What all nodes and guests use, by two looks one second apart."""
        client, clock = NodeClient(self.identity.name, self.machine.host.paths.node_socket), SystemClock()
        try:
            before = await sample(client, clock)
            await clock.sleep(1.0)
            return loads(before, await sample(client, clock))
        finally:
            await client.close()

    async def _mark(self, node: str, vmid: int) -> None:
        if node != self.identity.name:
            await self.machine.peers.call(node, "POST", f"/nodes/{node}/qemu/{vmid}/racimo/mark")
            return
        await self.lifecycle.mark(vmid)

    def _is_dead(self, node: str, incarnation: str) -> bool:
        """Whether the daemon that held a lock is gone for good: by its record, or because its node is."""
        if not self.inventory.known:
            return False
        if node not in self.inventory.nodes():
            return True
        status = self.inventory.node_statuses().get(node)
        if status is not None and status.health in (NodeHealth.FENCE, NodeHealth.GONE):
            return True
        try:
            return self._daemons.get(node).incarnation != incarnation
        except NotFound:
            return False
