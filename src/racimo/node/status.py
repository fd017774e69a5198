"""What this node is doing right now: processor, memory, load, root file system. Read from /proc at each call."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from racimo.api.routes.nodes import Usage


@dataclass(frozen=True, slots=True)
class CpuTicks:
    """Busy and total processor time since boot, in any one unit: ticks of /proc/stat, or nanoseconds."""

    busy: int
    total: int


def read_cpu_ticks(stat: str) -> CpuTicks:
    """The ticks in the text of /proc/stat (proc(5): user nice system idle iowait irq softirq steal)."""
    fields = [int(field) for field in stat.split("\n", 1)[0].split()[1:9]]
    idle = fields[3] + fields[4]
    return CpuTicks(sum(fields) - idle, sum(fields))


def read_memory(meminfo: str) -> dict[str, int]:
    """The text of /proc/meminfo as bytes by name."""
    lines = (line.split(":", 1) for line in meminfo.splitlines() if ":" in line)
    return {name: int(rest.split()[0]) * 1024 for name, rest in lines}


def own_cgroup() -> Path | None:
    """The control groups of this machine if it is a container, such as a node of a lab; /proc counts its host then."""
    return Path("/sys/fs/cgroup") if Path("/run/systemd/container").exists() else None


def read_cgroup_ns(cgroup: Path) -> int | None:
    """Nanoseconds of processor time that all in the control group have used; None where it does not count them."""
    with suppress(OSError, ValueError, IndexError):
        return int((cgroup / "cpuacct/cpuacct.usage").read_text())  # version 1
    with suppress(OSError, ValueError, IndexError):
        fields = dict(line.split() for line in (cgroup / "cpu.stat").read_text().splitlines())
        return int(fields.get("usage_usec", "")) * 1000
    return None


class ProcMeter:
    """Reads the usage of this node. The processor's share is that since the call before.

    ``cgroup``: what a container uses is read there.
    """

    def __init__(self, proc: Path = Path("/proc"), window: float = 0.25, cgroup: Path | None = None) -> None:
        self._proc, self._window, self._cgroup = proc, window, cgroup
        self._last: CpuTicks | None = None

    async def read(self) -> Usage:
        """The usage now. The first call takes ``window`` seconds."""
        if self._last is None:
            self._last = self._ticks()
            await asyncio.sleep(self._window)  # a share of time needs two looks some time apart
        before, now = self._last, self._ticks()
        elapsed = now.total - before.total
        if elapsed > 0:
            self._last = now
        memory = read_memory((self._proc / "meminfo").read_text())
        root = shutil.disk_usage("/")
        return Usage(
            cpu=(now.busy - before.busy) / elapsed if elapsed > 0 else 0.0,
            cpus=os.cpu_count() or 1,
            memory_total=memory["MemTotal"],
            memory_used=memory["MemTotal"] - memory["MemAvailable"],
            swap_total=memory.get("SwapTotal", 0),
            swap_used=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
            root_total=root.total,
            root_used=root.used,
            load=os.getloadavg(),
            uptime=int(float((self._proc / "uptime").read_text().split()[0])),
            kernel=os.uname().release,
        )

    def _ticks(self) -> CpuTicks:
        used = read_cgroup_ns(self._cgroup) if self._cgroup else None
        if used is not None:
            return CpuTicks(used, time.monotonic_ns() * (os.cpu_count() or 1))
        return read_cpu_ticks((self._proc / "stat").read_text())
