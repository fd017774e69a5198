"""Ends a lab whatever is left of it: also after a crash, or when the host was restarted. Says what it removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import Conflict, OperationFailed
from racimo.lab.cgroup import Cgroup
from racimo.lab.network import LabNetwork
from racimo.lab.process import Process, run
from racimo.lab.state import read_process

if TYPE_CHECKING:
    from racimo.lab.place import LabPlace

END_TIMEOUT_S = 20.0
CONTAINER_TIMEOUT_S = 5.0
OWN = ("nodes", "shared", "state.json", "supervisor.json", "supervisor.log", "notify", "images")
"""What a lab makes in its state directory; anything else there is not ours, and stays."""
NSPAWN_LEFTOVERS = (Path("/run/systemd/nspawn/propagate"), Path("/run/systemd/nspawn/unix-export"))


@dataclass(frozen=True, slots=True)
class Removed:
    """What there was, for people: process names with ids, namespaces, control groups, mounts, directories."""

    processes: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    cgroups: tuple[str, ...] = ()
    mounts: tuple[str, ...] = ()
    directories: tuple[str, ...] = ()

    @property
    def anything(self) -> bool:
        """Whether there was anything at all."""
        return any((self.processes, self.namespaces, self.cgroups, self.mounts, self.directories))


async def clean_up(place: LabPlace) -> Removed:
    """End and remove all that belongs to the lab of this place. Doing it again does nothing.

    Raises ``Conflict`` when the state directory is not a lab's, ``OperationFailed`` when something will not go.
    """
    check_ours(place)
    ended = await _end_supervisor(place)
    ended += await _end_nodes(place)
    namespaces = await LabNetwork(place.name).remove()
    cgroups = [place.name] if Cgroup(place.name).remove() else []
    mounts = await _unmount(place.state)
    _remove_leftovers(place.name)
    directories = await asyncio.to_thread(_remove_directories, place)
    return Removed(tuple(ended), tuple(namespaces), tuple(cgroups), tuple(mounts), tuple(directories))


def check_ours(place: LabPlace) -> None:
    """Raise ``Conflict`` if the state directory holds things that no lab made: it may have been named by mistake."""
    if not place.state.is_dir():
        return
    strange = sorted({entry.name for entry in place.state.iterdir()} - set(OWN))
    if strange and not place.description.exists():
        raise Conflict(
            f"{place.state} is not the directory of a lab",
            why=f"it holds {', '.join(strange[:5])}",
            todo="Set RACIMO_LAB_STATE to an empty directory, or one that does not exist",
        )


async def _end_supervisor(place: LabPlace) -> list[str]:
    process, _ = read_process(place.supervisor)
    if process is None or not process.signal(signal.SIGTERM):
        return []
    if not await process.ended(END_TIMEOUT_S):
        process.signal(signal.SIGKILL)
        await _gone(process, "the supervisor")
    return [f"supervisor ({process.pid})"]


async def _end_nodes(place: LabPlace) -> list[str]:
    ended: list[str] = []
    nodes = sorted((place.state / "nodes").glob("*")) if (place.state / "nodes").is_dir() else []
    containers: list[Process] = []
    for directory in nodes:
        container, leader = read_process(directory / "process.json")
        if leader is not None and leader.signal(signal.SIGKILL):
            ended.append(f"{directory.name} ({leader.pid})")
        cgroup = Cgroup(f"{place.name}/{directory.name}")
        if cgroup.frozen:
            await cgroup.thaw()
        containers += [container] if container else []
    for container in containers:  # given time, it tidies up behind itself
        if not await container.ended(CONTAINER_TIMEOUT_S):
            container.signal(signal.SIGKILL)
    lab = Cgroup(place.name)
    async with asyncio.timeout(END_TIMEOUT_S):
        while left := lab.processes():
            for process in left:
                process.signal(signal.SIGKILL)
            for process in left:
                await _gone(process, "a process of a node")
    return ended


async def _gone(process: Process, what: str) -> None:
    if not await process.ended(END_TIMEOUT_S):
        raise OperationFailed(f"{what} ({process.pid}) does not end", why=f"waited {END_TIMEOUT_S:.0f} s after SIGKILL")


async def _unmount(state: Path) -> list[str]:
    """Mounts below the state directory. There are none unless somebody made them by hand."""
    below = [point for point in mount_points() if Path(point).is_relative_to(state)]
    for point in below:
        await run("umount", "--lazy", point)
    return below


def mount_points() -> list[str]:
    """Where anything is mounted, the deepest first."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return sorted((line.split()[4].replace("\\040", " ") for line in lines), reverse=True)


def _remove_leftovers(name: str) -> None:
    """Empty directories that systemd-nspawn leaves behind for each machine."""
    for parent in NSPAWN_LEFTOVERS:
        for directory in parent.glob(f"{name}-*"):
            with contextlib.suppress(OSError):
                directory.rmdir()


def _remove_directories(place: LabPlace) -> list[str]:
    if not place.state.is_dir():
        return []
    for entry in OWN:
        path = place.state / entry
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if not os.listdir(place.state):
        place.state.rmdir()
    return [str(place.state)]
