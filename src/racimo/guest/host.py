"""The QEMU processes of this node: started, watched, ended and found again. Knows no store and no owner."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

import structlog

from racimo.errors import Conflict, NotFound, OperationFailed
from racimo.guest.host_records import GuestExited, GuestLaunch, GuestStatus, StartedWith, started_with
from racimo.guest.network import join_bridge
from racimo.guest.process import find_guests
from racimo.guest.qemu.monitor import MonitorLost, MonitorSilent
from racimo.guest.running import RunningGuest
from racimo.guest.units import UnitStart

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from racimo.guest.process import Process
    from racimo.guest.qemu.monitor import Monitor
    from racimo.guest.units import Units
    from racimo.model.paths import NodePaths

__all__ = ["UNRESPONSIVE", "GuestExited", "GuestHost", "GuestLaunch", "GuestStatus", "StartedWith"]

log = structlog.get_logger()

START_TIMEOUT = 30.0
"""Seconds from the start of the process until its monitor answers."""
ADOPT_TIMEOUT = 5.0
QUIT_TIMEOUT = 5.0
KILL_TIMEOUT = 15.0
LOG_LINES = 12
LOOKS = 3
LOOK_AGAIN = 0.01
"""A process has no argv for a moment while it becomes QEMU: no one look proves that it is not there."""
LAUNCH_FILE = "launch.json"

EARLY_END = "Change what QEMU names in the guest's configuration, then start it again"

UNRESPONSIVE = "unresponsive"
"""The state shown of a guest whose monitor does not answer."""


class GuestHost:
    """The guests' processes on this node. ``exits`` gets one ``GuestExited`` for each that ends, whoever ended it."""

    def __init__(self, paths: NodePaths, units: Units) -> None:
        self.paths, self.units = paths, units
        self.exits: asyncio.Queue[GuestExited] = asyncio.Queue()
        self._guests: dict[int, RunningGuest] = {}
        self._watchers: dict[RunningGuest, asyncio.Task[None]] = {}
        self._ended: dict[int, GuestExited] = {}

    @property
    def vmids(self) -> frozenset[int]:
        """The guests that have a process here."""
        return frozenset(self._guests)

    async def launch(self, launch: GuestLaunch) -> None:
        """Start a QEMU; on return it is paused and its monitor answers. On failure nothing is left of it.

        Raises ``Conflict`` when the guest has a process here, ``Refused`` for a missing bridge, ``OperationFailed``
        with the end of QEMU's log.
        """
        vmid = launch.vmid
        if vmid in self._guests or await self._pid(vmid) is not None:
            raise Conflict(
                f"Guest {vmid} already has a process on this node",
                why="it runs, or just ends",
                todo="Try again shortly",
            )
        run, logs = self.paths.guest_run(vmid), self.paths.guest_log(vmid)
        qemu_log = logs / "qemu.log"
        self._ended.pop(vmid, None)
        await asyncio.to_thread(self._prepare, launch, run, logs)
        start = qemu_log.stat().st_size if qemu_log.exists() else 0
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._discard, vmid)
            await self.units.start(UnitStart(vmid, launch.argv, qemu_log, launch.lease, launch.incarnation))
            pid = await self._pid(vmid)
            try:
                if pid is None:
                    raise ProcessLookupError(vmid)
                await self._attach(vmid, pid, START_TIMEOUT)
            except ProcessLookupError:
                raise await self._early_end(vmid, qemu_log, start) from None
            for tap in launch.taps:
                await join_bridge(tap)
            undo.pop_all()

    async def adopt(self) -> frozenset[int]:
        """Find the node's guests that run already, after a restart of the daemon. Returns those newly found."""
        found = []
        for vmid, pid in await asyncio.to_thread(lambda: list(find_guests(self.paths.run))):
            if vmid in self._guests:
                continue
            try:
                await self._attach(vmid, pid, ADOPT_TIMEOUT)
            except ProcessLookupError:
                continue
            except OperationFailed as error:
                log.warning("a guest's monitor does not answer", vmid=vmid, pid=pid, why=str(error))
            found.append(vmid)
        return frozenset(found)

    async def monitor(self, vmid: int) -> Monitor:
        """The connection to a guest's QEMU, made anew if it broke. Raises ``NotFound`` when it has no process here."""
        return await self._guest(vmid).monitor()

    async def status(self, vmid: int) -> GuestStatus | None:
        """What the guest's process does now; None when it has none here."""
        guest = self._guests.get(vmid)
        if guest is None:
            return None
        try:
            state = (await (await self.monitor(vmid)).status()).name
        except (MonitorLost, MonitorSilent, NotFound):
            state = UNRESPONSIVE
        if not guest.process.alive:
            return None
        return GuestStatus(
            vmid=vmid,
            pid=guest.process.pid,
            state=state,
            epoch=guest.started.epoch,
            incoming=guest.started.incoming,
            migration=guest.started.migration,
            usage=guest.process.usage(),
        )

    def process_of(self, vmid: int) -> Process | None:
        """The guest's process here, if it has one."""
        guest = self._guests.get(vmid)
        return guest.process if guest is not None else None

    def started_with(self, vmid: int) -> StartedWith:
        """What the guest's QEMU was started with. Raises ``NotFound`` when it has no process here."""
        return self._guest(vmid).started

    def advance(self, vmid: int, epoch: int) -> None:
        """From now on the guest's process is one of ``epoch``, and no target of a migration."""
        guest = self._guest(vmid)
        guest.started = replace(guest.started, epoch=epoch, incoming=False)
        self._remember(vmid, guest.started)

    def reconfigure(self, vmid: int, config: Mapping[str, str]) -> None:
        """From now on the guest's process runs with ``config``: a disk was moved, or a device plugged in or out."""
        guest = self._guest(vmid)
        guest.started = replace(guest.started, config=dict(config))
        self._remember(vmid, guest.started)

    async def bury(self, vmid: int) -> str:
        """Make sure that the guest has no process here, not even one about to start; returns why its last one ended.

        Raises ``Conflict`` when it has one.
        """
        if vmid not in self._guests:
            end = await self.units.end(vmid)
            if await self._pid(vmid) is None:
                seen = self._ended.pop(vmid, None)
                return seen.reason if seen else end.how
        raise Conflict(
            f"Guest {vmid} has a process on this node", why="it was started meanwhile", todo="Try again shortly"
        )

    async def forget(self, vmid: int, *, logs: bool = False) -> None:
        """The guest is no longer of this node: its sockets' directory goes, with the cloud-init seed. With ``logs``,
        for one that is nowhere any more, what it and its QEMU printed goes too.
        """
        if vmid not in self._guests:
            gone = [self.paths.guest_run(vmid), *([self.paths.guest_log(vmid)] if logs else [])]
            for directory in gone:
                await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)

    async def kept(self) -> frozenset[int]:
        """The guests of which this node keeps anything: sockets, a seed, logs."""
        return await asyncio.to_thread(_numbered, self.paths.guest_run(0).parent, self.paths.guest_log(0).parent)

    def last_started_with(self, vmid: int) -> StartedWith:
        """The same, of the guest's last QEMU here, whether or not it still lives."""
        return self._remembered(vmid)

    async def cont(self, vmid: int) -> None:
        """Let the guest's CPUs run. Who may is for the caller to know."""
        guest = self._guest(vmid)
        if not guest.started.released:
            guest.started = replace(guest.started, released=True)
            self._remember(vmid, guest.started)
        await (await self.monitor(vmid)).execute("cont")

    async def pause(self, vmid: int) -> None:
        """Stop the guest's CPUs."""
        await (await self.monitor(vmid)).execute("stop")

    async def reset(self, vmid: int) -> None:
        """Press the guest's reset button."""
        await (await self.monitor(vmid)).execute("system_reset")

    async def press_power_button(self, vmid: int) -> None:
        """Press the guest's power button, once. A guest that does not listen yet never hears of it."""
        await (await self.monitor(vmid)).execute("system_powerdown")

    async def press_keys(self, vmid: int, keys: list[str]) -> None:
        """Press these keys of its keyboard at once, by QEMU's names (``ctrl``, ``alt``, ``delete``)."""
        pressed = [{"type": "qcode", "data": key} for key in keys]
        await (await self.monitor(vmid)).execute("send-key", {"keys": pressed})

    async def stop(self, vmid: int) -> None:
        """End the guest's process: QEMU flushes and quits, or is killed. On return it is dead, or this raises."""
        guest = self._guests.get(vmid)
        if guest is None:
            return
        try:
            await (await self.monitor(vmid)).execute("quit", timeout=QUIT_TIMEOUT)
        except (MonitorLost, MonitorSilent, NotFound) as error:
            log.info("a guest does not quit by its monitor", vmid=vmid, why=str(error))
        else:
            if await guest.wait_gone(QUIT_TIMEOUT):
                return
        await self.kill(vmid)

    async def kill(self, vmid: int) -> None:
        """SIGKILL the guest's process. On return it is dead; raises ``OperationFailed`` when it does not die."""
        guest = self._guests.get(vmid)
        if guest is None:
            return
        guest.process.kill()
        if not await guest.wait_gone(KILL_TIMEOUT):
            raise OperationFailed(
                f"Guest {vmid} does not die",
                why=f"process {guest.process.pid} still exists {KILL_TIMEOUT:g} s after SIGKILL",
                todo="It hangs in the kernel, usually on a storage that does not answer; check the storage",
            )

    async def wait_gone(self, vmid: int, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds for the guest's process to end. Returns whether it has none now."""
        guest = self._guests.get(vmid)
        return guest is None or await guest.wait_gone(timeout)

    async def close(self) -> None:
        """Let go of every guest; they go on."""
        for guest in list(self._guests.values()):
            watcher = self._watchers.pop(guest, None)
            if watcher is not None:
                watcher.cancel()
                await asyncio.gather(watcher, return_exceptions=True)
            await guest.release()
        self._guests.clear()

    # -- inside --------------------------------------------------------------------------------------------------

    def _guest(self, vmid: int) -> RunningGuest:
        guest = self._guests.get(vmid)
        if guest is None:
            raise NotFound(
                f"Guest {vmid} is not running on this node", why="it has no process here", todo="Start it first"
            )
        return guest

    async def _pid(self, vmid: int) -> int | None:
        for _ in range(LOOKS):
            found = await asyncio.to_thread(lambda: dict(find_guests(self.paths.run)))
            if vmid in found:
                return found[vmid]
            await asyncio.sleep(LOOK_AGAIN)
        return None

    def _prepare(self, launch: GuestLaunch, run: Path, logs: Path) -> None:
        shutil.rmtree(run, ignore_errors=True)
        for directory in (run, logs):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name, content in launch.files.items():
            path = run / name
            path.touch(mode=0o600)
            path.write_bytes(content)
        self._remember(launch.vmid, started_with(launch))

    def _remember(self, vmid: int, started: StartedWith) -> None:
        path = self.paths.guest_run(vmid) / LAUNCH_FILE
        new = path.with_suffix(".new")
        new.touch(mode=0o600)
        new.write_text(json.dumps(asdict(started)))
        new.replace(path)

    async def _attach(self, vmid: int, pid: int, timeout: float) -> None:
        """Hold a process, watch it and connect to it. Raises ``ProcessLookupError`` when it ends before it answers."""
        guest = RunningGuest(vmid, pid, self._remembered(vmid), self.paths.guest_run(vmid) / "qmp.sock")
        self._guests[vmid] = guest
        try:
            await guest.connect(timeout)
        except ProcessLookupError:
            del self._guests[vmid]
            raise
        finally:
            if self._guests.get(vmid) is guest:
                watcher = asyncio.create_task(self._watch(vmid, guest), name=f"guest {vmid} watched")
                self._watchers[guest] = watcher
                watcher.add_done_callback(lambda _: self._watchers.pop(guest, None))

    def _remembered(self, vmid: int) -> StartedWith:
        try:
            fields = json.loads((self.paths.guest_run(vmid) / LAUNCH_FILE).read_text())
            return StartedWith(
                epoch=int(fields["epoch"]),
                incoming=bool(fields["incoming"]),
                migration=str(fields.get("migration", "")),
                released=bool(fields["released"]),
                cpu=str(fields["cpu"]),
                config=dict(fields["config"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            return StartedWith()

    async def _watch(self, vmid: int, guest: RunningGuest) -> None:
        await guest.process.wait()
        ended = GuestExited(vmid, guest.started.epoch, "QEMU ended", False)
        try:
            ended = await guest.ending(self.units)
        finally:
            self._ended[vmid] = ended
            if self._guests.get(vmid) is guest:
                del self._guests[vmid]
            log.info("a guest's process ended", vmid=vmid, epoch=ended.epoch, reason=ended.reason)
            guest.gone.set()
            self.exits.put_nowait(ended)

    async def _discard(self, vmid: int) -> None:
        """After a start that failed: nothing may be left of the process."""
        if vmid in self._guests:
            await self.kill(vmid)
        else:
            await self.units.kill(vmid)
            await self.units.end(vmid)

    async def _early_end(self, vmid: int, qemu_log: Path, start: int) -> OperationFailed:
        end = await self.units.end(vmid)
        with qemu_log.open("rb") as file:
            file.seek(start)
            lines = file.read().decode(errors="replace").strip().splitlines()[-LOG_LINES:]
        return OperationFailed(f"Guest {vmid} did not start", why=" / ".join(lines) or end.how, todo=EARLY_END)


def _numbered(*directories: Path) -> frozenset[int]:
    """The guests' numbers that are names in these directories."""
    entries = [entry.name for directory in directories if directory.is_dir() for entry in directory.iterdir()]
    return frozenset(int(name) for name in entries if name.isdecimal())
