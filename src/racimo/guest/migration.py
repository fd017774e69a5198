"""The sending side of a migration.

Live: **ask the target in → send → commit → let run there → end here.** QEMU has sent everything and halted before the
commit, and the target halts until the commit, so at most one of them runs; the commit is one transaction that changes
the owner. Whatever is cut off: *the record says who owns; the owner resumes, the other destroys.*
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from racimo.errors import (
    Conflict,
    NotFound,
    OperationFailed,
    RacimoError,
    Refused,
    StoreUnavailable,
    StoreUnknown,
    Unreachable,
)
from racimo.guest.migration_channel import credentials_directory, migration_uri, secure_channel
from racimo.guest.migration_follow import allow_slow_down, follow, set_limits
from racimo.guest.migration_request import IncomingRequest, place_from_json, request_to_json
from racimo.guest.migration_status import cancel_migration
from racimo.guest.unbroken import unbroken
from racimo.model.guest import RunState

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.migration_follow import MigrationLimits
    from racimo.guest.migration_request import IncomingPlace
    from racimo.guest.migration_status import MigrationStatus
    from racimo.guest.qemu.monitor import Monitor
    from racimo.guest.records import GuestView
    from racimo.task.operation import Report

log = structlog.get_logger()

PREPARE_TIMEOUT = 60.0
RESUME_TIMEOUT = 30.0
ABORT_TIMEOUT = 20.0
RESUME_ATTEMPTS = 3
STORE_RETRY = 0.2
GIVE_BACK_AFTER = 3.0
"""Seconds of a store that surely wrote nothing, after which the guest goes on at the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationResult:
    """What a live migration took: seconds and bytes. ``downtime`` is from the guest's halt at the source until the
    target said that it runs, on the source's clock; ``qemu_downtime`` is QEMU's own share of it."""

    total: float
    downtime: float
    qemu_downtime: float
    transferred: int


class LiveMigration:
    """One live migration of a running guest of this node."""

    def __init__(self, life: Lifecycle, view: GuestView, target: str, limits: MigrationLimits, report: Report) -> None:
        self._life, self._view = life, view
        self._target, self._limits, self._report = target, limits, report
        self._vmid, self._epoch = view.guest.vmid, view.guest.epoch + 1
        self._asked = self._maybe_committed = False
        self._task = ""

    async def run(self) -> MigrationResult:
        """Move the guest. Until the commit, a failure or a cancellation leaves it running here."""
        try:
            monitor = await self._life.host.monitor(self._vmid)
            place = await self._ask_in()
            begun = time.monotonic()
            with monitor.events("STOP") as stops:
                status = await self._send(monitor, place)
                halted = stops.get_nowait().at if not stops.empty() else time.time()
            self._report.progress(0.95, "handing over")
            await unbroken(self._commit())
        except BaseException:
            await unbroken(self._stay())
            raise
        await unbroken(self._hand_over())
        result = MigrationResult(
            total=time.monotonic() - begun,
            downtime=max(time.time() - halted, status.downtime),
            qemu_downtime=status.downtime,
            transferred=status.transferred,
        )
        await unbroken(self._end_here())
        self._report.log(
            f"guest {self._vmid} runs on node {self._target}: total {result.total:.2f} s, downtime "
            f"{result.downtime * 1000:.0f} ms (of QEMU {result.qemu_downtime * 1000:.0f} ms), "
            f"{result.transferred / (1 << 20):.1f} MiB sent"
        )
        return result

    def _path(self, step: str) -> str:
        return f"/nodes/{self._target}/qemu/{self._vmid}/racimo/{step}"

    async def _ask_in(self) -> IncomingPlace:
        """The target checks, and starts a QEMU that waits."""
        started = self._life.host.started_with(self._vmid)
        lock = await self._life.records.lock(self._vmid)
        self._task = lock.task if lock is not None else ""
        request = IncomingRequest(
            vmid=self._vmid,
            source=self._life.node,
            epoch=self._view.guest.epoch,
            config=dict(started.config) or self._view.guest.config,
            cpu=started.cpu,
            qemu=self._life.hypervisor.version,
            acceleration=self._life.hypervisor.acceleration.kind,
            task=self._task,
        )
        self._report.log(f"asking node {self._target} to take guest {self._vmid} in")
        self._asked = True
        answer = await self._life.peers.call(
            self._target, "POST", self._path("incoming"), request_to_json(request), timeout=PREPARE_TIMEOUT
        )
        return place_from_json(answer)

    async def _send(self, monitor: Monitor, place: IncomingPlace) -> MigrationStatus:
        """Send memory and devices; on return the guest is halted here."""
        directory = await asyncio.to_thread(credentials_directory, self._life.host.paths, self._vmid)
        await secure_channel(monitor, directory, server=False, peer_name=place.tls_name)
        await set_limits(monitor, self._limits)
        await allow_slow_down(monitor, self._limits.slow_down)
        self._report.log(f"sending to {place.address} port {place.port}, encrypted")
        await monitor.execute("migrate", {"uri": migration_uri(place.address, place.port)})
        return await follow(monitor, self._limits, self._report)

    async def _commit(self) -> None:
        """Change the owner. On return it is changed; on ``Conflict`` and ``StoreUnavailable`` surely not.

        A store whose answer was lost is asked until it is known: meanwhile both QEMUs are halted.
        """
        state = RunState.PAUSED if self._view.state is RunState.PAUSED else RunState.RUNNING
        deadline = asyncio.get_running_loop().time() + GIVE_BACK_AFTER
        while True:
            try:
                if await self._life.records.move(self._view, self._target, state, ""):
                    return
                now = await self._life.records.find(self._vmid)
                if now and now.guest.node == self._target and now.guest.epoch == self._epoch:
                    return  # an earlier attempt, whose answer was lost, had been written
                self._maybe_committed = True  # somebody else acted: look who owns it before it goes on here
                raise Conflict(
                    f"Guest {self._vmid} was not handed over",
                    why="its record was changed during the migration",
                    todo="Look at its state, then try again",
                )
            except StoreUnknown as error:
                self._maybe_committed = True
                self._report.log(f"waiting to know whether the move was written: {error}")
            except StoreUnavailable as error:
                if not self._maybe_committed and asyncio.get_running_loop().time() > deadline:
                    raise
                self._report.log(f"waiting for the store: {error}")
            await asyncio.sleep(STORE_RETRY)

    async def _hand_over(self) -> None:
        """The guest is the target's: have it run there. If its process was lost there, take it back."""
        for _ in range(RESUME_ATTEMPTS):
            try:
                await self._life.peers.call(
                    self._target, "POST", self._path("resume"), {"epoch": self._epoch}, timeout=RESUME_TIMEOUT
                )
                return
            except NotFound as error:
                self._report.log(f"the target lost the guest: {error}")
                await self._take_back()
                raise OperationFailed(
                    f"Guest {self._vmid} was not migrated", why=str(error), todo="It goes on where it was; try again"
                ) from error
            except Unreachable as error:
                self._report.log(f"the target did not answer, though the guest is its own now: {error}")
            except RacimoError as error:
                self._report.warn(f"the target has trouble with the guest, which is its own now: {error}")
                return
        self._report.warn(f"node {self._target} owns the guest and lets it run as soon as it sees its record")

    async def _take_back(self) -> None:
        """The target said, and wrote, that it never let the guest run: ours still has all of it.

        Raises ``Conflict`` when somebody was quicker: then ours is destroyed, as the record says.
        """
        life, records = self._life, self._life.records
        view = await records.view(self._vmid)
        stopped = view.state is RunState.STOPPED and view.runtime and view.runtime.record.epoch == self._epoch
        if view.guest.node != self._target or view.guest.epoch != self._epoch or not stopped:
            life.busy.doubt(self._vmid)
            raise Conflict(f"Guest {self._vmid} cannot be taken back", why=f"it belongs to {view.guest.node} and runs")
        life.require_lease(view)
        state = RunState.PAUSED if self._view.state is RunState.PAUSED else RunState.RUNNING
        life.host.advance(self._vmid, self._epoch + 1)
        life.busy.doubt(self._vmid)  # should the move be refused, the reconciler goes by the record
        if not await records.move(view, life.node, state, ""):
            raise Conflict(f"Guest {self._vmid} cannot be taken back", why="somebody else changed it just now")
        if state is RunState.RUNNING:
            await life.host.cont(self._vmid)

    async def _end_here(self) -> None:
        """The guest runs elsewhere: its process here goes."""
        await self._life.host.stop(self._vmid)
        self._life.busy.doubt(self._vmid)

    async def _stay(self) -> None:
        """Undo: the target throws away what it prepared, and the guest goes on here."""
        self._life.busy.doubt(self._vmid)  # should one of these fail, the reconciler goes on by the record
        if self._asked:
            await self._abort()
        try:
            await self._keep_here()
        except RacimoError as error:
            self._report.warn(f"guest {self._vmid} does not go on yet: {error}")

    async def _abort(self) -> None:
        """If the target cannot be reached, its reconciler throws the guest away when our lock is gone."""
        try:
            ended: dict[str, JsonValue] = {"epoch": self._epoch, "task": self._task}
            await self._life.peers.call(self._target, "POST", self._path("abort"), ended, timeout=ABORT_TIMEOUT)
        except RacimoError as error:
            self._report.log(f"the target could not be told that the migration is over: {error}")

    async def _keep_here(self) -> None:
        life, vmid = self._life, self._vmid
        if vmid not in life.host.vmids:
            self._report.log("the guest's QEMU ended during the migration")
            return
        if self._maybe_committed:
            view = await life.records.view(vmid)
            if view.guest.node != life.node or view.guest.epoch != self._epoch - 1:
                await life.host.kill(vmid)
                return
        monitor = await life.host.monitor(vmid)
        await cancel_migration(monitor)
        if self._view.state is not RunState.PAUSED and not (await monitor.status()).running:
            life.require_lease(self._view)
            await life.host.cont(vmid)
        self._report.log(f"guest {vmid} goes on, on node {life.node}")


async def move_stopped(life: Lifecycle, view: GuestView, target: str, report: Report) -> None:
    """Offline migration over shared storage: one transaction. Raises ``Refused`` for volumes that would stay behind."""
    local = await life.assembly.local_volumes(view.guest.config)
    if local:
        raise Refused(
            f"Guest {view.guest.vmid} cannot move to node {target}",
            why=f"{', '.join(local)} exist on node {life.node} only",
            todo="Move these disks to a storage that both nodes share",
        )
    if not await life.records.move(view, target, RunState.STOPPED, f"Moved from node {life.node}"):
        raise Conflict(f"Guest {view.guest.vmid} was not moved", why="it was changed meanwhile", todo="Try again")
    life.busy.doubt(view.guest.vmid)
    report.log(f"guest {view.guest.vmid} belongs to node {target} now")
