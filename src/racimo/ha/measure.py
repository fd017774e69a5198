"""What nodes and guests use, asked of the nodes' daemons: by the manager, and only to schedule by measured load."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

import structlog

from racimo.errors import RacimoError
from racimo.ha.states import Load

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from racimo.ha.clock import Clock

log = structlog.get_logger()

EVERY_S = 10.0
OLD_S = 60.0
"""What was measured longer ago than this is not counted any more."""
AT_ONCE = 8


class Figures(Protocol):
    """Reads one path of the API."""

    async def read(self, path: str) -> object:
        """The answer's data. Raises ``RacimoError``."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at all nodes. ``at`` is in seconds on the caller's monotonic clock."""

    at: float
    nodes: Mapping[str, Load] = field(default_factory=dict)
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    """CPU seconds that each guest has used since it was started, by sid."""
    memory: Mapping[str, int] = field(default_factory=dict)


async def sample(figures: Figures, clock: Clock) -> Sample:
    """Ask all nodes that answer."""
    at, nodes = clock.monotonic(), {}
    for entry in _entries(await figures.read("/nodes")):
        name, share, cpus, used = entry.get("node"), entry.get("cpu"), entry.get("maxcpu"), entry.get("mem")
        if isinstance(name, str) and isinstance(share, int | float) and isinstance(cpus, int) and isinstance(used, int):
            nodes[name] = Load(share * cpus, used)
    cpu_s: dict[str, float] = {}
    memory: dict[str, int] = {}
    gate = asyncio.Semaphore(AT_ONCE)

    async def ask(node: str) -> None:
        async with gate:
            try:
                guests = _entries(await figures.read(f"/nodes/{node}/qemu"))
            except RacimoError as error:
                log.info("a node's guests were not measured", node=node, why=str(error))
                return
        for guest in guests:
            vmid, spent, used = guest.get("vmid"), guest.get("cputime"), guest.get("mem")
            if isinstance(spent, int | float) and isinstance(used, int):
                cpu_s[f"vm:{vmid}"], memory[f"vm:{vmid}"] = float(spent), used

    async with asyncio.TaskGroup() as group:
        for name in nodes:
            group.create_task(ask(name))
    return Sample(at, nodes, cpu_s, memory)


def loads(before: Sample | None, now: Sample) -> dict[str, Load]:
    """By node and by sid. A guest that was not measured twice, or was started between, is left out."""
    found = dict(now.nodes)
    if before is None or now.at <= before.at:
        return found
    for sid, spent in now.cpu_s.items():
        used = spent - before.cpu_s.get(sid, spent + 1.0)
        if used >= 0:
            found[sid] = Load(used / (now.at - before.at), now.memory[sid])
    return found


def _entries(answer: object) -> list[dict[str, object]]:
    return [entry for entry in answer if isinstance(entry, dict)] if isinstance(answer, list) else []


class Measures:
    """Measures again and again while ``wanted()``."""

    def __init__(self, figures: Figures, clock: Clock, wanted: Callable[[], bool]) -> None:
        self.figures, self.clock, self.wanted = figures, clock, wanted
        self._before: Sample | None = None
        self._loads: dict[str, Load] = {}

    def loads(self) -> Mapping[str, Load]:
        """What was measured last; nothing when that is too long ago."""
        old = self._before is None or self.clock.monotonic() - self._before.at > OLD_S
        return {} if old or not self.wanted() else self._loads

    async def run(self) -> None:
        """For ever."""
        while True:
            if self.wanted():
                try:
                    now = await sample(self.figures, self.clock)
                except RacimoError as error:
                    log.info("the nodes' load was not measured", why=str(error))
                else:
                    self._before, self._loads = now, loads(self._before, now)
            await self.clock.sleep(EVERY_S)
