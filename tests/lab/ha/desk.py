"""HA of a lab as an administrator handles it from one node."""

from __future__ import annotations

import json
import os
import signal
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from ha_lab import SID, until

from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from ha_lab import HaLab

    from racimo.lab.node import LabNode

QEMU = "/usr/bin/qemu-system-x86_64"
SOON_S = 60.0


class Policies:
    """A lab as an administrator handles it from ``desk``."""

    def __init__(self, lab: HaLab) -> None:
        self.lab, self.desk = lab, lab.nodes[0]

    async def racimo(self, *words: str) -> Any:
        printed = await self.desk.succeed("racimo", *words, "--json")
        return json.loads(printed) if printed.strip() else None

    async def ha(self, *words: str) -> Any:
        return await self.racimo("ha", *words)

    async def line(self, sid: str = SID) -> dict[str, Any]:
        lines = await self.ha("status")
        return next((line for line in lines if line.get("sid") == sid), {})

    async def arming(self) -> str:
        return next(line["status"] for line in await self.ha("status") if line.get("type") == "fencing")

    async def history(self, sid: str = SID) -> list[str]:
        return [f"{step['what']}: {step['why']}" for step in await self.ha("history", sid)]

    async def is_in(self, state: str, *, node: str = "", sid: str = SID, within_s: float = SOON_S) -> dict[str, Any]:
        """Wait until HA says so and, where it is to run, that it runs there and nowhere else."""

        async def look() -> dict[str, Any] | None:
            line = await self.line(sid)
            if line.get("state") != state or node not in ("", line["node"]):
                return None
            runs = [process.node for process in guest_processes(self.lab.lab, int(sid[3:]))]
            return line if state != "started" or runs == [line["node"]] else None

        try:
            return await until(f"{sid} {state} {node}", look, within_s)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{await self.line(sid)}\n{await self.history(sid)}") from None

    def kill(self) -> None:
        """The guest's QEMU crashes."""
        os.kill(self.lab.running().pid, signal.SIGKILL)

    @asynccontextmanager
    async def without_qemu(self, *nodes: LabNode) -> AsyncIterator[None]:
        """No guest can be started on the nodes."""
        for node in nodes:
            await node.succeed("mv", QEMU, QEMU + ".away")
        try:
            yield
        finally:
            for node in nodes:
                await node.succeed("mv", QEMU + ".away", QEMU)
