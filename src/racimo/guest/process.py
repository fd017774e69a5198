"""QEMU processes as the kernel shows them: found by their argv, their death seen through a pidfd.

Nothing here depends on who started a process, so a restarted daemon sees its guests as the old one did.
"""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME_PREFIX = "racimo-guest-"
PROC = Path("/proc")


def process_name(vmid: int) -> str:
    """What follows ``-name`` in the argv of a guest's QEMU."""
    return f"{NAME_PREFIX}{vmid}"


def named_vmid(argv: list[str]) -> int | None:
    """The vmid of a QEMU of Racimo with this argv; None for any other process."""
    for option, value in pairwise(argv):
        number = value.removeprefix(NAME_PREFIX)
        if option == "-name" and number != value and number.isdecimal():
            return int(number)
    return None


def read_argv(pid: int) -> list[str]:
    """The argv of a process; empty when it is gone or a zombie."""
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().decode(errors="surrogateescape").split("\0")[:-1]
    except OSError:
        return []


def find_guests(run: Path) -> Iterator[tuple[int, int]]:
    """``(vmid, pid)`` of each QEMU of the node whose run directory (``NodePaths.run``) is ``run``.

    The guest's own directory stands in its argv (sockets), which keeps the nodes of one test machine apart.
    """
    for entry in PROC.iterdir():
        if not entry.name.isdecimal():
            continue
        argv = read_argv(int(entry.name))
        vmid = named_vmid(argv)
        if vmid is not None and any(f"{run}/guests/{vmid}/" in argument for argument in argv):
            yield vmid, int(entry.name)


@dataclass(frozen=True, slots=True)
class ProcessUsage:
    """What a process has used: ``memory`` resident bytes, ``cpu`` seconds since its start, ``uptime`` seconds."""

    memory: int
    cpu: float
    uptime: float


class Process:
    """One QEMU process, held by a pidfd: signals reach it and no later process with the same number."""

    def __init__(self, vmid: int, pid: int) -> None:
        """Raises ``ProcessLookupError`` when there is no such process, or it is not this guest's QEMU any more."""
        self.vmid, self.pid = vmid, pid
        self._pidfd = os.pidfd_open(pid)
        self._dead = asyncio.Event()
        argv = read_argv(pid)  # empty for a moment while a process becomes another program, and when it is dead
        if argv and named_vmid(argv) != vmid:
            os.close(self._pidfd)
            raise ProcessLookupError(pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._died)

    @property
    def alive(self) -> bool:
        """False once the kernel said that it ended."""
        return not self._dead.is_set()

    async def wait(self) -> None:
        """Return when the process has ended."""
        await self._dead.wait()

    def kill(self) -> None:
        """SIGKILL; ``wait`` says when it is dead."""
        if self._pidfd >= 0:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def usage(self) -> ProcessUsage | None:
        """Memory, CPU time and age, from /proc; None when it has ended."""
        try:
            fields = (PROC / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
            up = float((PROC / "uptime").read_text().split()[0])
        except OSError:
            return None
        if not self.alive:
            return None
        tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
        user, system, started, resident = (int(fields[place]) for place in (11, 12, 19, 21))
        return ProcessUsage(resident * page, (user + system) / tick, max(0.0, up - started / tick))

    def close(self) -> None:
        """Let go of it. The process goes on."""
        if self._pidfd >= 0:
            asyncio.get_running_loop().remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1

    def _died(self) -> None:
        self.close()
        self._dead.set()
