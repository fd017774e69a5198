"""Keeps processes and records of this node's guests in agreement: after a restart, an exit, a lost store, a move.

It acts by ``racimo.guest.reconcile.judge``. While the store does not answer it changes nothing: guests go on.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import structlog

from racimo.errors import RacimoError, StoreError
from racimo.guest.config import parse_config
from racimo.guest.disks import settle_moves
from racimo.guest.migration_status import cancel_migration, is_migrating
from racimo.guest.qemu.monitor import CommandRefused
from racimo.guest.reconcile import Judgement, Verdict, judge
from racimo.model.guest import Guest, RunState
from racimo.task.holder import proven_dead

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.records import GuestView
    from racimo.store.base import Event

log = structlog.get_logger()

DOUBT_INTERVAL = 1.0
"""Seconds until a guest that stays in doubt is looked at again."""
WATCH_RETRY = 1.0
BOOTED_FILE = "guests-started"
"""In the run directory, which does not outlive a boot: the guests of this boot were started."""


class Reconciler:
    """Run ``run`` for as long as the daemon lives. ``once`` does one round over all guests."""

    def __init__(self, lifecycle: Lifecycle, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._life, self._host, self._busy = lifecycle, lifecycle.host, lifecycle.busy
        self._reasons: dict[int, str] = {}
        self._told: dict[int, tuple[Judgement, float]] = {}

    async def run(self) -> None:
        """Follow exits, moved records and doubts until cancelled."""
        await self.look_at_all()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._follow_exits(), name="exits of guests")
            group.create_task(self._follow_records(), name="moves of guests")
            group.create_task(self._follow_doubts(), name="guests in doubt")

    async def once(self) -> None:
        """Find the running guests and settle every one that can be settled now."""
        await self.look_at_all()
        while not self._host.exits.empty():
            self._busy.doubt(self._host.exits.get_nowait().vmid)
        await self._settle_doubtful()

    async def look_at_all(self) -> None:
        """Adopt the processes that run, and doubt every guest that has one or should have one."""
        await self._host.adopt()
        for vmid in self._host.vmids:
            self._busy.doubt(vmid)
        try:
            for vmid in await self._should_run():
                self._busy.doubt(vmid)
        except StoreError as error:
            log.warning("the store does not answer: guests go on as they are", why=str(error))

    async def _should_run(self) -> set[int]:
        """The guests that have a process here by their records."""
        runtimes = await self._life.layout.runtimes.records()
        return {each.vmid for each in runtimes if each.node == self._life.node and each.state is not RunState.STOPPED}

    def _is_ours(self, event: Event) -> bool:
        if event.value is None:
            return False
        return self._life.layout.guests.decode(event.key, event.value, event.revision).record.node == self._life.node

    async def start_on_boot(self, start: Callable[[int], Awaitable[object]]) -> None:
        """Once per boot: start this node's guests that have ``onboot`` and are not under HA, in order, with delays.

        ``start`` runs the start of one guest as a task. A guest that fails does not keep the others back.
        """
        booted = self._host.paths.run / BOOTED_FILE
        if booted.exists():
            return
        resources = await self._life.layout.resources.all()
        mine = [g for g in await self._life.layout.guests.records() if g.node == self._life.node]
        due = [g for g in mine if g.sid not in resources and _config_flag(g)]
        for guest in sorted(due, key=_boot_order):
            try:
                await start(guest.vmid)
            except RacimoError as error:
                log.error("a guest was not started with its node", vmid=guest.vmid, why=str(error))  # noqa: TRY400
                continue
            await asyncio.sleep(_boot_delay(guest))
        booted.parent.mkdir(parents=True, exist_ok=True)
        booted.touch()

    async def _follow_exits(self) -> None:
        while True:
            self._busy.doubt((await self._host.exits.get()).vmid)

    async def _follow_records(self) -> None:
        """A guest that came to us, or left us, is looked at at once: it may have lost its process on the way. So is one
        that is gone for good: of that nothing is kept.
        """
        guests = self._life.layout.guests
        while True:
            try:
                listing = await guests.store.list(guests.prefix)
                known = {int(stored.key.removeprefix(guests.prefix)) for stored in listing.records}
                for vmid in self._host.vmids | (await self._host.kept() - known) | await self._should_run():
                    self._busy.doubt(vmid)
                async for change in guests.store.watch(guests.prefix, listing.revision):
                    for event in change.events:
                        vmid = int(event.key.removeprefix(guests.prefix))
                        if vmid in self._host.vmids or event.value is None or self._is_ours(event):
                            self._busy.doubt(vmid)
            except StoreError as error:
                log.warning("the guests' records cannot be watched", why=str(error))
            await asyncio.sleep(WATCH_RETRY)

    async def _follow_doubts(self) -> None:
        while True:
            self._busy.woken.clear()
            await self._settle_doubtful()
            try:
                async with asyncio.timeout(DOUBT_INTERVAL if self._busy.doubtful else None):
                    await self._busy.woken.wait()
            except TimeoutError:
                continue

    async def _settle_doubtful(self) -> None:
        async with asyncio.TaskGroup() as group:
            for vmid in self._busy.doubtful:
                group.create_task(self._settle(vmid))

    async def _settle(self, vmid: int) -> None:
        async with self._busy.hold(vmid, looking=True):
            try:
                settled = await self._judge_and_act(vmid)
            except StoreError as error:
                log.warning("a guest stays in doubt: the store does not answer", vmid=vmid, why=str(error))
            except RacimoError as error:
                log.warning("a guest stays in doubt", vmid=vmid, why=str(error))
            else:
                if settled:
                    self._busy.settle(vmid)
                    self._reasons.pop(vmid, None)

    async def _judge_and_act(self, vmid: int) -> bool:
        """One look at one guest. Returns whether nothing is left in doubt."""
        process = await self._host.status(vmid)
        migrating = process is not None and await is_migrating(self._host, vmid)
        view = await self._life.records.find(vmid)
        guest, runtime, lock = (view.guest, view.runtime, view.lock) if view else (None, None, None)
        if lock is not None and await proven_dead(self._life.layout, lock.node, lock.incarnation):
            lock = None
        # The guests of a node that was removed are not ours, though another node may have our name now.
        member = await self._life.records.is_member()
        judgement = judge(
            self._life.node if member else "",
            guest,
            runtime.record if runtime else None,
            process,
            lock=lock,
            migrating=migrating,
        )
        told, since = self._told.get(vmid, (None, 0.0))
        if judgement != told:
            since = self._clock()
        self._told[vmid] = judgement, since
        decided = judgement.after(self._clock() - since)
        if (judgement != told or decided != judgement) and decided.verdict is not Verdict.LEAVE:
            log.info("a guest is reconciled", vmid=vmid, verdict=str(decided.verdict), why=decided.why)
        match decided.verdict:
            case Verdict.LEAVE:
                del self._told[vmid]
                if guest is None or guest.node != self._life.node:
                    await self._host.forget(vmid, logs=guest is None and member)
                elif process is not None and view is not None:
                    await settle_moves(self._life, view)
                return True
            case Verdict.DESTROY:
                await self._host.kill(vmid)
                self._reasons.setdefault(vmid, f"It was ended: {decided.why}")
                return False
            case Verdict.NOTE_STOPPED if view is not None:
                how = await self._host.bury(vmid)
                await self._life.records.enter(view, RunState.STOPPED, self._reasons.get(vmid, how))
                return False
            case Verdict.NOTE_RUNNING if view is not None:
                await self._life.records.enter(view, RunState.RUNNING)
                return False
            case Verdict.RESUME if view is not None:
                return await self._resume(vmid, view)
        return False

    async def _resume(self, vmid: int, view: GuestView) -> bool:
        """The guest is ours and halted in, or busy with, a migration that nobody follows: it goes on here."""
        self._life.require_lease(view)
        # The daemon before may have died while its move was on its way to the store: after this write it cannot come.
        view = await self._life.records.enter(view, RunState.RUNNING)
        monitor = await self._host.monitor(vmid)
        await cancel_migration(monitor)
        if not (await monitor.status()).running:
            try:
                await self._host.cont(vmid)
            except CommandRefused as error:
                log.warning("a guest cannot go on yet", vmid=vmid, why=str(error))
                return False
        self._host.advance(vmid, view.guest.epoch)
        log.info("a guest goes on here", vmid=vmid, epoch=view.guest.epoch)
        return False


def _config_flag(guest: Guest) -> bool:
    config = parse_config(guest.config)
    return config.onboot and not config.template


def _boot_order(guest: Guest) -> tuple[bool, int, int]:
    """By ``startup``'s order; those without one come last, by number."""
    startup = parse_config(guest.config).startup
    order = startup.order if startup else None
    return order is None, order or 0, guest.vmid


def _boot_delay(guest: Guest) -> int:
    startup = parse_config(guest.config).startup
    return (startup.up if startup else None) or 0
