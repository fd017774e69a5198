"""Looks at the node and its guests once a minute, and keeps what they use."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from racimo.errors import RacimoError
from racimo.guest.config import parse_config
from racimo.guest.qemu.command_line import tap_name

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection

    from racimo.api.history import History
    from racimo.api.routes.nodes import Usage
    from racimo.guest.host import GuestHost
    from racimo.guest.process import ProcessUsage

log = structlog.get_logger()

INTERVAL = 60.0
TRAFFIC = ("netin", "netout", "diskread", "diskwrite")
"""Figures that only grow, and are told as bytes a second."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look at a guest's process: ``cpu`` in seconds, the traffic in bytes, both since its start."""

    pid: int
    at: float
    cpu: float
    traffic: tuple[int, ...]


class Historian:
    """Run ``run`` for as long as the daemon lives."""

    def __init__(
        self,
        history: History,
        host: GuestHost,
        measure: Callable[[], Awaitable[Usage]],
        known: Callable[[], Collection[int]],
        proc: Path = Path("/proc"),
    ) -> None:
        self._history, self._host, self._measure, self._known, self._proc = history, host, measure, known, proc
        self._last: dict[int, Look] = {}

    async def run(self) -> None:
        """Look again and again. A look that cannot be kept is lost, and told of."""
        while True:
            try:
                await self.once()
            except (OSError, sqlite3.Error, RacimoError) as error:
                log.warning("what the node and its guests use was not kept", why=str(error))
            await asyncio.sleep(INTERVAL)

    async def once(self) -> None:
        """One look at all."""
        looks = {"node": _node_figures(await self._measure())}
        for vmid in self._host.vmids:
            figures = await self._guest(vmid)
            if figures is not None:
                looks[f"guest/{vmid}"] = figures
        self._last = {vmid: look for vmid, look in self._last.items() if vmid in self._host.vmids}
        await self._history.note(time.time(), looks)
        await self._history.keep_guests({*self._known(), *self._host.vmids})

    async def _guest(self, vmid: int) -> dict[str, float] | None:
        """A guest's figures. The shares of time need two looks: the first has none."""
        process = self._host.process_of(vmid)
        usage = process.usage() if process is not None else None
        if process is None or usage is None:
            return None
        config = parse_config(self._host.started_with(vmid).config)
        traffic = await asyncio.to_thread(self._traffic, vmid, process.pid, tuple(config.networks))
        look = Look(process.pid, time.monotonic(), usage.cpu, traffic)
        before, self._last[vmid] = self._last.get(vmid), look
        figures = _memory_figures(usage, config.memory_bytes, config.cpus)
        if before is None or before.pid != look.pid or look.at <= before.at:
            return figures
        seconds = look.at - before.at
        rates = ((now - then) / seconds for now, then in zip(look.traffic, before.traffic, strict=True))
        figures["cpu"] = max(0.0, (look.cpu - before.cpu) / seconds / config.cpus)
        return figures | {name: max(0.0, rate) for name, rate in zip(TRAFFIC, rates, strict=True)}

    def _traffic(self, vmid: int, pid: int, cards: tuple[int, ...]) -> tuple[int, int, int, int]:
        """Bytes so far: what a tap sends its guest receives."""
        received = sent = 0
        net = (self._proc / "net/dev").read_text().splitlines()
        taps = {f"{tap_name(vmid, index)}:" for index in cards}
        for line in net:
            name, *fields = line.replace(":", ": ", 1).split()
            if name in taps:
                sent, received = sent + int(fields[0]), received + int(fields[8])
        try:
            io = dict(line.split(": ") for line in (self._proc / str(pid) / "io").read_text().splitlines())
        except OSError:
            io = {}
        return received, sent, int(io.get("read_bytes", 0)), int(io.get("write_bytes", 0))


def _memory_figures(usage: ProcessUsage, memory: int, cpus: int) -> dict[str, float]:
    return {"mem": usage.memory, "maxmem": memory, "maxcpu": cpus, "uptime": usage.uptime}


def _node_figures(usage: Usage) -> dict[str, float]:
    return {
        "cpu": usage.cpu, "maxcpu": usage.cpus, "memtotal": usage.memory_total, "memused": usage.memory_used,
        "swaptotal": usage.swap_total, "swapused": usage.swap_used, "roottotal": usage.root_total,
        "rootused": usage.root_used, "loadavg": usage.load[0],
    }  # fmt: skip
