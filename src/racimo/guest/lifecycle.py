"""The life of this node's guests, by the rules of docs/architecture.md: the record first, then the process.

Every method that changes a guest expects its lock ``guests/<vmid>`` to be held by the task that calls it; within the
daemon, ``busy`` keeps the reconciler away meanwhile.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from racimo.errors import Conflict, OperationFailed, RacimoError, Refused, StoreError
from racimo.guest.busy import Busy
from racimo.guest.config import apply_change, parse_config
from racimo.guest.held import given_up
from racimo.guest.hotplug import apply_hotplug, set_links
from racimo.guest.marks import Marks
from racimo.guest.memory_file import load_memory
from racimo.guest.records import GuestRecords
from racimo.guest.shutdown import shut_down
from racimo.guest.unbroken import committed, unbroken
from racimo.model.guest import Guest, RunState

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from racimo.guest.assembly import Assembly
    from racimo.guest.config_change import ConfigChange
    from racimo.guest.host import GuestHost, GuestLaunch, GuestStatus
    from racimo.guest.memory_file import SavedMemory
    from racimo.guest.peer import Peer
    from racimo.guest.qemu.machine import Hypervisor
    from racimo.guest.records import GuestView
    from racimo.model.guest import Runtime
    from racimo.store.layout import Layout
    from racimo.task.operation import Report

log = structlog.get_logger()

SHUTDOWN_TIMEOUT = 60.0
ROLLBACK = "rollback"
"""A guest's ``lock`` while its disks go back to a snapshot: some may have, others may not."""


@dataclass(frozen=True, slots=True)
class GuestNow:
    """A guest as it is: its records, and its process when it has one on this node."""

    guest: Guest
    runtime: Runtime | None
    ha: bool
    process: GuestStatus | None


class Lifecycle:
    """What the node ``node`` does with its guests. ``host`` has the processes, ``assembly`` what they are made of."""

    def __init__(
        self,
        layout: Layout,
        host: GuestHost,
        assembly: Assembly,
        peers: Peer,
        *,
        node: str,
        hypervisor: Hypervisor,
        node_id: str = "",
    ) -> None:
        self.hypervisor = hypervisor
        self.layout, self.host, self.assembly, self.peers, self.node = layout, host, assembly, peers, node
        self.records = GuestRecords(layout, node, node_id=node_id)
        self.marks = Marks(host.paths)
        self.busy = Busy()

    # -- looking -------------------------------------------------------------------------------------------------

    async def now(self, vmid: int) -> GuestNow:
        """The guest's records, and its process if it has one on this node. Raises ``NotFound``."""
        view = await self.records.view(vmid)
        process = await self.host.status(vmid)
        return GuestNow(view.guest, view.runtime.record if view.runtime else None, view.ha, process)

    # -- making and changing -------------------------------------------------------------------------------------

    async def create(self, vmid: int, config: Mapping[str, str], report: Report, undo: AsyncExitStack) -> None:
        """Make the guest's disks, then its record. Raises ``AlreadyExists`` naming who has the number."""
        await self.records.refuse_taken(vmid)
        complete = await self.assembly.allocate(vmid, config, report, undo)
        await self.records.create(Guest(vmid=vmid, node=self.node, config=complete))
        undo.pop_all()
        report.log(f"guest {vmid} was created on node {self.node}")

    async def set_config(self, vmid: int, asked: ConfigChange, report: Report, undo: AsyncExitStack) -> None:
        """Change the configuration; disks that it newly asks for are made. What can be plugged into a running guest is.

        Raises ``Conflict``, ``BadParameter``.
        """
        async with self.busy.hold(vmid):
            view = await self.records.owned(vmid)
            running = self.host.started_with(vmid).config if vmid in self.host.vmids else None
            asked = asked.with_reverted(running, view.guest.config)
            change = apply_change(view.guest.config, asked.values, asked.delete, asked.digest)
            for volume in given_up(view, asked.delete, running):
                await self.assembly.remove(vmid, volume, report)
            complete = await self.assembly.allocate(vmid, change.mapping, report, undo)
            await committed(undo, self.records.configure(view, complete))
            if running is not None and change.needs_restart:
                await unbroken(apply_hotplug(self, vmid, complete, report))

    async def destroy(self, vmid: int, *, purge: bool, report: Report) -> None:
        """Remove a stopped guest for good: volumes, records, logs. With ``purge`` out of HA first."""
        async with self.busy.hold(vmid):
            view = await self.stopped(vmid)
            if parse_config(view.guest.config).protection:
                raise Refused(
                    f"Guest {vmid} is protected",
                    why="its option protection is 1",
                    todo=f"First: racimo guest set {vmid} protection=0",
                )
            if view.ha and not purge:
                raise Refused(
                    f"Guest {vmid} is not destroyed",
                    why="it is an HA resource",
                    todo="Remove it from HA first, or destroy with purge",
                )
            if view.ha:
                await self.records.leave_ha(view)
            await self.assembly.purge(view.guest, report)
            await self.records.remove(view)
            await self.host.forget(vmid, logs=True)
            report.log(f"guest {vmid} was destroyed")

    # -- running -------------------------------------------------------------------------------------------------

    async def start(
        self, vmid: int, report: Report, *, epoch: int | None = None, memory: SavedMemory | None = None
    ) -> None:
        """Start a stopped guest of this node, or with ``memory`` let it go on. What fails before it runs is undone."""
        async with self.busy.hold(vmid):
            view = await self.stopped(vmid, epoch)
            config = parse_config(view.guest.config)
            if config.template:
                raise Refused(f"Guest {vmid} is a template", why="templates never run", todo="Clone it")
            if config.lock == ROLLBACK:
                raise Conflict(
                    f"Guest {vmid} is locked (rollback)",
                    why="a rollback was cut off, so its disks may be of different times",
                    todo=f"Repeat it: racimo guest rollback {vmid} SNAPSHOT",
                )
            lease = self.require_lease(view)
            plan = await self.assembly.plan(
                view.guest, incoming=memory is not None, cpu=memory.cpu if memory is not None else ""
            )
            launch = replace(plan, config=view.guest.config, incarnation=lease, incoming=False)
            view = await self._enter_or_doubt(view, RunState.STARTING)
            try:
                await self.launch(view, launch)
                await set_links(self.host, vmid, config)
                if memory is not None:
                    await load_memory(await self.host.monitor(vmid), memory.path)
                if not config.freeze:
                    await self.host.cont(vmid)
            except BaseException as error:
                await unbroken(self._withdraw(view, error))
                raise
            await self._note(view, RunState.PAUSED if config.freeze else RunState.RUNNING, report)
            how = "waits paused, as its option 'freeze' says" if config.freeze else "runs"
            report.log(f"guest {vmid} {how} on node {self.node}")

    async def stop(self, vmid: int, report: Report, *, reason: str = "Stopped", epoch: int | None = None) -> None:
        """End a guest at once, as by pulling its plug. A stopped guest is no error."""
        async with self.busy.hold(vmid):
            view = await self.records.owned(vmid, epoch)
            if view.state is RunState.STOPPED and vmid not in self.host.vmids:
                report.log("it is stopped already")
                return
            if view.state is not RunState.STOPPING:
                view = await self._enter_or_doubt(view, RunState.STOPPING, reason)
            try:
                await self.host.stop(vmid)
                await self.host.bury(vmid)
            except BaseException:
                self.busy.doubt(vmid)  # its record says that it is being stopped: that is gone on with
                raise
            await self._note(view, RunState.STOPPED, report, reason)

    async def shutdown(
        self,
        vmid: int,
        report: Report,
        *,
        timeout: float = SHUTDOWN_TIMEOUT,
        force_stop: bool = False,
        epoch: int | None = None,
        reason: str = "Shut down",
    ) -> None:
        """Ask the guest to shut down until it does; after ``timeout`` seconds end it (``force_stop``) or fail."""
        async with self.busy.hold(vmid):
            view = await self._running(vmid, epoch)
            if view.state is RunState.PAUSED:
                raise Conflict(f"Guest {vmid} is paused", why="it cannot shut down", todo="Resume it, or stop it")
            report.log(f"asked the guest to shut down; waiting up to {timeout:g} s")
            if not await shut_down(self.host, vmid, timeout):
                if not force_stop:
                    raise OperationFailed(
                        f"Guest {vmid} did not shut down within {timeout:g} s",
                        why="its operating system reacts neither to its agent nor to the power button, or is slow",
                        todo="Look at its console; or stop it",
                    )
                report.warn(f"it did not shut down within {timeout:g} s and is stopped")
                await self.host.stop(vmid)
            await self._note(await self.records.owned(vmid, epoch), RunState.STOPPED, report, reason)

    async def reboot(self, vmid: int, report: Report, *, timeout: float) -> None:
        """Shut down, then start with the present configuration."""
        await self.shutdown(vmid, report, timeout=timeout, reason="Rebooting")
        await self.start(vmid, report)

    async def reset(self, vmid: int, report: Report) -> None:
        """Press its reset button."""
        async with self.busy.hold(vmid):
            await self._running(vmid)
            await self.host.reset(vmid)

    async def suspend(self, vmid: int, report: Report) -> None:
        """Halt its CPUs; it stays in memory."""
        async with self.busy.hold(vmid):
            view = await self._running(vmid)
            await self.host.pause(vmid)
            await self._note(view, RunState.PAUSED, report, "Suspended")

    async def resume(self, vmid: int, report: Report) -> None:
        """Let a suspended guest run on."""
        async with self.busy.hold(vmid):
            view = await self._running(vmid)
            self.require_lease(view)
            view = await self._enter_or_doubt(view, RunState.RUNNING)  # first: a late move must fail its compare
            await self.host.cont(vmid)
            report.log(f"guest {view.guest.vmid} runs on")

    async def mark(self, vmid: int) -> None:
        """Have this node's guard know a guest of ours before it comes under HA. Raises ``Conflict``: not ours."""
        async with self.busy.hold(vmid):
            await self.records.owned(vmid)
            self.marks.put(vmid)

    # -- used by the reconciler and the migration too ------------------------------------------------------------

    async def launch(self, view: GuestView, launch: GuestLaunch) -> None:
        """Start the process paused, under the lease when it is an HA guest: before and after, and the same one.

        Between two leases the guest may have been given to another node; a process that is there already the guard
        kills then, one that is only about to begin it cannot.
        """
        vmid = view.guest.vmid
        if view.ha or await self.layout.resources.find(view.guest.sid) is not None:
            view = replace(view, ha=True)
            self.marks.put(vmid)
            lease = self.require_lease(view, launch.incarnation)
            launch = replace(launch, lease=self.host.paths.lease, incarnation=lease)
        await self.host.launch(launch)
        self.require_lease(view, launch.incarnation)

    def require_lease(self, view: GuestView, incarnation: str = "") -> str:
        """The incarnation whose lease an HA guest runs by here now; empty for another guest.

        Raises ``Refused`` when this node holds no valid lease, or not that of ``incarnation``, where one is given.
        """
        if not view.ha:
            return ""
        held = self.marks.lease_in_force()
        if not held or incarnation not in ("", held):
            lost = (
                "the node lost its HA lease meanwhile, and has another now"
                if held
                else "the node holds no valid HA lease"
            )
            raise Refused(
                f"Guest {view.guest.vmid} may not run on node {self.node} now",
                why=f"it is an HA resource, and {lost}",
                todo="See 'racimo ha status': the node may be cut off, or racimo-ha may not run",
            )
        return held

    async def stopped(self, vmid: int, epoch: int | None = None) -> GuestView:
        """The records of a guest of ours without a process. Raises ``Conflict``."""
        view = await self.records.owned(vmid, epoch)
        if vmid in self.host.vmids:
            raise Conflict(
                f"Guest {vmid} is running", why="this is done to stopped guests only", todo="Shut it down first"
            )
        return await self.settled(view)

    async def settled(self, view: GuestView) -> GuestView:
        """The view of a guest of ours without a process, whose record says so too."""
        if view.state is RunState.STOPPED:
            return view
        return await self.records.enter(view, RunState.STOPPED, await self.host.bury(view.guest.vmid))

    async def _running(self, vmid: int, epoch: int | None = None) -> GuestView:
        view = await self.records.owned(vmid, epoch)
        if vmid not in self.host.vmids:
            raise Conflict(
                f"Guest {vmid} is not running", why="this is done to running guests only", todo="Start it first"
            )
        return view

    async def _enter_or_doubt(self, view: GuestView, state: RunState, reason: str = "") -> GuestView:
        try:
            return await self.records.enter(view, state, reason)
        except (StoreError, asyncio.CancelledError):
            self.busy.doubt(view.guest.vmid)  # it may be written all the same
            raise

    async def _withdraw(self, view: GuestView, error: BaseException) -> None:
        """Undo of a start: no process, and the record says so with the reason."""
        vmid = view.guest.vmid
        why = f"The start failed: {error}" if isinstance(error, RacimoError) else "The start was cancelled"
        try:
            await self.host.kill(vmid)
            await self.host.bury(vmid)
            await self.records.enter(view, RunState.STOPPED, why)
        except RacimoError as trouble:
            log.warning("a failed start is undone by the reconciler", vmid=vmid, why=str(trouble))
            self.busy.doubt(vmid)

    async def _note(self, view: GuestView, state: RunState, report: Report, reason: str = "") -> None:
        """Write down what has happened already. A store that does not answer is no failure: it is written later."""
        try:
            await self.records.enter(view, state, reason)
        except StoreError as error:
            report.warn(f"that it is {state} will be written down later: {error}")
            self.busy.doubt(view.guest.vmid)
        except Conflict:
            self.busy.doubt(view.guest.vmid)
            raise
