"""The control groups of one node: apart from those of other nodes, so that it can be frozen, emptied and removed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from pathlib import Path

from racimo.errors import OperationFailed
from racimo.lab.process import Process

MOUNT = Path("/sys/fs/cgroup")
V1_HIERARCHIES = ("systemd", "freezer", "cpuacct", "unified")
"""Where cgroup version 1 is in use: those that a node's systemd, our faults and its count of processor time need."""
FREEZE_TIMEOUT_S = 10.0


def unified() -> bool:
    """Whether the host has cgroup version 2 alone."""
    return (MOUNT / "cgroup.controllers").exists()


@dataclass(frozen=True, slots=True)
class Cgroup:
    """Control groups called ``name`` (such as ``racimo-lab/n1``) in every hierarchy that the lab uses."""

    name: str

    @property
    def directories(self) -> list[Path]:
        """One per hierarchy; a process of the node is in all of them."""
        if unified():
            return [MOUNT / self.name]
        return [MOUNT / hierarchy / self.name for hierarchy in V1_HIERARCHIES if (MOUNT / hierarchy).is_dir()]

    def create(self) -> None:
        """Make them, unless they are there."""
        for directory in self.directories:
            directory.mkdir(parents=True, exist_ok=True)
        if unified():
            for directory in (MOUNT, (MOUNT / self.name).parent):
                for controller in ("cpu", "memory", "pids", "io", "cpuset"):
                    with contextlib.suppress(OSError):  # not every kernel has every controller, and none is needed
                        (directory / "cgroup.subtree_control").write_text(f"+{controller}")

    def processes(self) -> list[Process]:
        """All processes in them and below."""
        found: dict[int, Process] = {}
        for directory in self.directories:
            for here, _, _ in os.walk(directory):
                with contextlib.suppress(FileNotFoundError, OSError):
                    for line in (Path(here) / "cgroup.procs").read_text().split():
                        if line != "0" and (process := Process.of(int(line))):
                            found[process.pid] = process
        return list(found.values())

    async def freeze(self) -> None:
        """Stop all its processes where they are. Raises ``OperationFailed`` when the kernel does not manage it."""
        await self._set_frozen(frozen=True)

    async def thaw(self) -> None:
        """Let them go on."""
        await self._set_frozen(frozen=False)

    @property
    def frozen(self) -> bool:
        """Whether it is frozen now."""
        with contextlib.suppress(FileNotFoundError):
            if unified():
                return "frozen 1" in (MOUNT / self.name / "cgroup.events").read_text()
            return (MOUNT / "freezer" / self.name / "freezer.state").read_text().strip() == "FROZEN"
        return False

    async def _set_frozen(self, *, frozen: bool) -> None:
        if unified():
            (MOUNT / self.name / "cgroup.freeze").write_text("1" if frozen else "0")
        elif (state := MOUNT / "freezer" / self.name / "freezer.state").exists():
            state.write_text("FROZEN" if frozen else "THAWED")
        else:
            for process in self.processes():
                process.signal(signal.SIGSTOP if frozen else signal.SIGCONT)
            return
        try:
            async with asyncio.timeout(FREEZE_TIMEOUT_S):
                while self.frozen != frozen:  # noqa: ASYNC110 - version 1 has no event for it
                    await asyncio.sleep(0.01)
        except TimeoutError:
            raise OperationFailed(
                f"{self.name} is not {'frozen' if frozen else 'thawed'}",
                why=f"the kernel did not confirm it within {FREEZE_TIMEOUT_S:.0f} s",
            ) from None

    def remove(self) -> bool:
        """Remove them and all below; they must be empty of processes. True when there was anything."""
        there = False
        for top in self.directories:
            for here, _, _ in os.walk(top, topdown=False):
                there = True
                with contextlib.suppress(FileNotFoundError):
                    Path(here).rmdir()
        return there
