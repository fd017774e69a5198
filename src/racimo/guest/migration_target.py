"""The receiving side of a live migration: take in, let run, or throw away.

The incoming QEMU stays paused until the guest's record names this node. If nobody asks any more, the reconciler acts by
the record: it lets the guest run when it became ours, and destroys the process when the migration is over.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import structlog

from racimo.errors import Conflict, NotFound, OperationFailed, Refused
from racimo.guest.config import parse_config
from racimo.guest.migration_channel import credentials_directory, migration_uri, secure_channel
from racimo.guest.migration_request import IncomingPlace
from racimo.guest.migration_status import next_look
from racimo.guest.network import address_within
from racimo.guest.qemu.monitor import CommandRefused
from racimo.guest.reconcile import LOAD_TIMEOUT, LOADING, MIGRATE
from racimo.model.guest import RunState

if TYPE_CHECKING:
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.migration_request import IncomingRequest
    from racimo.guest.records import GuestView

log = structlog.get_logger()

POLL = 0.2
HEADROOM = 64 << 20
"""Bytes that QEMU itself needs beside the guest's memory."""


@dataclass(frozen=True, slots=True)
class MigrationTarget:
    """What a node does for a source that sends it a guest. The API serves the four methods to peers."""

    life: Lifecycle

    async def check(self, vmid: int) -> None:
        """Whether a stopped guest of another node could be started here. Raises ``Refused`` with why not."""
        view = await self.life.records.view(vmid)
        await self.life.assembly.plan(replace(view.guest, node=self.life.node))

    async def prepare(self, request: IncomingRequest) -> IncomingPlace:
        """Check that this node can run the guest, and start a QEMU that waits for it. Raises ``Refused`` with why."""
        vmid, life = request.vmid, self.life
        async with life.busy.hold(vmid), AsyncExitStack() as undo:
            view = await self._sent_by(request)
            self._check_hosts(request)
            self._check_memory(request)
            await self._discard_stale(vmid)
            guest = replace(view.guest, node=life.node, epoch=request.epoch + 1, config=request.config)
            plan = await life.assembly.plan(guest, incoming=True, cpu=request.cpu)
            launch = replace(plan, config=request.config, migration=request.task)
            address = await self._address()
            life.busy.doubt(vmid)  # until it is ours or gone, the reconciler has an eye on it
            undo.push_async_callback(life.host.kill, vmid)
            await life.launch(view, launch)
            monitor = await life.host.monitor(vmid)
            directory = await asyncio.to_thread(credentials_directory, life.host.paths, vmid)
            await secure_channel(monitor, directory, server=True)
            await monitor.execute("migrate-incoming", {"uri": migration_uri(address, 0)})
            listening: Any = (await monitor.query("query-migrate")).get("socket-address", [])
            if not listening:
                raise OperationFailed(f"Node {life.node} cannot take guest {vmid} in", why="QEMU does not listen")
            undo.pop_all()
            log.info("ready to take a guest in", vmid=vmid, source=request.source, address=address)
            return IncomingPlace(address=address, port=int(listening[0]["port"]), tls_name=life.node)

    async def resume(self, vmid: int, epoch: int) -> None:
        """The guest is ours since the commit of ``epoch``: let it run. Asking twice does no harm.

        Raises ``NotFound`` when the guest cannot run here and never did: then it is written down as stopped, and the
        source may take it back. Raises ``Conflict`` when it is not ours, or ran here and ended.
        """
        life = self.life
        async with life.busy.hold(vmid):
            view = await life.records.owned(vmid, epoch)
            if vmid not in life.host.vmids or life.host.started_with(vmid).epoch != epoch:
                await self._give_up(view, await life.host.bury(vmid))
            if view.state not in (RunState.RUNNING, RunState.PAUSED):
                # Our move would have written one of these: HA gave the guest to this node meanwhile, with that epoch.
                await self._give_up(view, f"its record says that it is {view.state}: somebody else moved it here")
            ran = life.host.started_with(vmid).released
            try:
                await self._loaded(vmid)
                life.require_lease(view)
                if view.state is not RunState.PAUSED:
                    await life.host.cont(vmid)
            except CommandRefused as error:
                await self._give_up(view, str(error), ran=ran)  # a guest that ran and broke is refused to go on too
            except (NotFound, OperationFailed, Refused) as error:
                await self._give_up(view, str(error))
            life.host.advance(vmid, epoch)

    async def abort(self, vmid: int, epoch: int, task: str = "") -> None:
        """The source keeps the guest: destroy what was prepared for ``epoch`` and its migration ``task``.

        Raises ``Conflict`` when the guest is ours.
        """
        life = self.life
        async with life.busy.hold(vmid):
            view = await life.records.find(vmid)
            if view is not None and view.guest.node == life.node:
                raise Conflict(f"Guest {vmid} belongs to node {life.node}", why="its migration was committed")
            if vmid not in life.host.vmids:
                return
            started = life.host.started_with(vmid)
            if started.epoch == epoch and (not task or started.migration in ("", task)):
                await life.host.kill(vmid)
                log.info("an incoming guest was given up", vmid=vmid, epoch=epoch)

    async def _sent_by(self, request: IncomingRequest) -> GuestView:
        view = await self.life.records.view(request.vmid)
        if view.guest.node != request.source or view.guest.epoch != request.epoch:
            raise Conflict(
                f"Guest {request.vmid} cannot be taken in",
                why=f"it belongs to node {view.guest.node} in epoch {view.guest.epoch}, not to {request.source} "
                f"in epoch {request.epoch}",
            )
        lock = view.lock
        held = lock is not None and (lock.node, lock.reason, lock.task) == (request.source, MIGRATE, request.task)
        if request.task and not held:
            raise Conflict(
                f"Guest {request.vmid} cannot be taken in",
                why=f"the migration from {request.source} that asked for it is over",
                todo="Start the migration again, if the guest is still to move",
            )
        return view

    def _check_hosts(self, request: IncomingRequest) -> None:
        """CPU and QEMU must fit: a guest cannot change either while it runs."""
        here, todo = self.life.hypervisor, "Choose another node, or migrate it offline"
        what = f"Guest {request.vmid} cannot migrate live to node {self.life.node}"
        if here.acceleration.kind != request.acceleration:
            why = f"it runs with {request.acceleration}, and this node has {here.acceleration.kind}"
            raise Refused(what, why=f"{why} ({here.acceleration.reason})", todo=todo)
        if _number(here.version) < _number(request.qemu):
            raise Refused(what, why=f"its QEMU {here.version} is older than {request.qemu} at the source", todo=todo)

    def _check_memory(self, request: IncomingRequest) -> None:
        needed, free = parse_config(request.config).memory_bytes + HEADROOM, _available_memory()
        if free < needed:
            raise Refused(
                f"Guest {request.vmid} cannot migrate to node {self.life.node}",
                why=f"it needs {needed >> 20} MiB of memory, and {free >> 20} MiB are free there",
                todo="Choose another node, or free memory there",
            )

    async def _discard_stale(self, vmid: int) -> None:
        host = self.life.host
        if vmid in host.vmids:
            if not host.started_with(vmid).incoming:
                raise Conflict(f"Guest {vmid} has a process on node {self.life.node} already", todo="Try again shortly")
            await host.kill(vmid)

    async def _address(self) -> str:
        """This node's address for migrations: by the datacenter's network, by the node's role, or the cluster's."""
        settings = await self.life.layout.datacenter.find("settings")
        if settings is not None and settings.record.migration_network:
            return await address_within(settings.record.migration_network)
        node = await self.life.layout.nodes.get(self.life.node)
        return node.networks.get("migration") or node.address

    async def _loaded(self, vmid: int) -> None:
        """Wait until the last of the guest's state has been read."""
        monitor = await self.life.host.monitor(vmid)
        try:
            async with asyncio.timeout(LOAD_TIMEOUT):
                with monitor.events("MIGRATION") as events:
                    while (await monitor.status()).name in LOADING:
                        await next_look(events, POLL)
        except TimeoutError:
            raise OperationFailed(
                f"Guest {vmid} does not go on", why=f"its state was not loaded within {LOAD_TIMEOUT:g} s"
            ) from None

    async def _give_up(self, view: GuestView, why: str, *, ran: bool | None = None) -> NoReturn:
        """The guest, which is ours, cannot run here: no process, and the record says so.

        Only if it surely never ran here may the source go on with what it has in memory.
        """
        vmid, host = view.guest.vmid, self.life.host
        if ran is None:
            last = host.last_started_with(vmid)
            ran = last.released or last.epoch != view.guest.epoch
        await host.kill(vmid)
        await host.bury(vmid)
        if view.state is not RunState.STOPPED:
            await self.life.records.enter(view, RunState.STOPPED, f"Lost at the end of its migration: {why}")
        if ran:
            raise Conflict(f"Guest {vmid} ran on node {self.life.node} and ended", why=why)
        raise NotFound(f"Guest {vmid} cannot run on node {self.life.node}", why=why)


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdecimal()]


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 0
