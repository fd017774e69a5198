"""Finding and killing the QEMU processes of HA guests. Standard library only: the guard runs it.

A QEMU of Racimo is known by two argv elements, ``-name`` and ``racimo-guest-<vmid>``. A process that is half gone has
no argv any more though its threads may still write; it is known by its control group then, named after it by systemd.
"""

from __future__ import annotations

import itertools
import os
import re
import select
import signal
from dataclasses import dataclass

NAME = re.compile(rb"racimo-guest-([0-9]+)(?:,|$)")
GROUP = re.compile(rb"/racimo-guest-([0-9]+)\.service")


@dataclass(frozen=True, slots=True)
class Process:
    """A process that runs, or still ends, the guest ``vmid``."""

    pid: int
    vmid: int


def marked(marks: str) -> set[int]:
    """The vmids of the HA guests, one mark file each. A directory that is not there has none."""
    try:
        return {int(name) for name in os.listdir(marks) if name.isdigit()}
    except FileNotFoundError:
        return set()


def guest_of(pid: int, proc: str = "/proc") -> int | None:
    """The vmid of the guest that the process runs; None when it runs none, or is gone."""
    try:
        with open(f"{proc}/{pid}/cmdline", "rb") as file:
            argv = file.read().split(b"\0")
        if argv != [b""]:
            return _named(argv)
        return _ending(f"{proc}/{pid}")
    except (FileNotFoundError, ProcessLookupError):
        return None


def _named(argv: list[bytes]) -> int | None:
    for flag, value in itertools.pairwise(argv):
        if flag == b"-name" and (found := NAME.match(value)):
            return int(found[1])
    return None


def _ending(directory: str) -> int | None:
    """The guest of a process without argv: a kernel thread (none), a zombie (none), or one that is still ending."""
    with open(f"{directory}/cgroup", "rb") as file:
        found = GROUP.search(file.read())
    if not found:
        return None
    with open(f"{directory}/stat", "rb") as file:
        state = file.read().rpartition(b")")[2].split()[0]
    only_a_zombie = state in (b"Z", b"X") and len(os.listdir(f"{directory}/task")) <= 1
    return None if only_a_zombie else int(found[1])


def guests_running(vmids: set[int], proc: str = "/proc") -> list[Process]:
    """All processes of the guests ``vmids`` on this node."""
    if not vmids:
        return []
    pids = (int(name) for name in os.listdir(proc) if name.isdigit())
    return [Process(pid, vmid) for pid in pids if (vmid := guest_of(pid, proc)) is not None and vmid in vmids]


class Killer:
    """Kills guests and knows when they are really dead: a process counts as dead when its pidfd says so."""

    def __init__(self) -> None:
        self._dying: dict[int, tuple[Process, int]] = {}

    def kill(self, vmids: set[int]) -> list[Process]:
        """SIGKILL every process of ``vmids`` that was not killed yet. Returns those that were killed now."""
        killed = []
        for process in guests_running(vmids):
            if process.pid in self._dying:
                continue
            try:
                pidfd = os.pidfd_open(process.pid)
            except ProcessLookupError:
                continue
            # The pid may have been given to another process since the scan; the pidfd holds who has it now.
            if guest_of(process.pid) != process.vmid:
                os.close(pidfd)
                continue
            try:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            except ProcessLookupError:
                os.close(pidfd)
                continue
            self._dying[process.pid] = (process, pidfd)
            killed.append(process)
        return killed

    def dead(self) -> list[Process]:
        """Those killed that have ended, with all threads, since the last call."""
        ended = []
        for pid, (process, pidfd) in list(self._dying.items()):
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            if poll.poll(0):
                os.close(pidfd)
                del self._dying[pid]
                ended.append(process)
        return ended

    @property
    def dying(self) -> bool:
        """Whether some that were killed have not ended yet."""
        return bool(self._dying)

    def close(self) -> None:
        """Give the pidfds back."""
        for _, pidfd in self._dying.values():
            os.close(pidfd)
        self._dying.clear()
