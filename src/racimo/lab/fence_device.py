"""The lab's fence devices: what a server's management board is to it, a socket of the supervisor is to a node.

Every node of the lab can have any other switched, over ``/run/racimo-lab/fence``, whatever becomes of its networks.
Each node's device can be made to fail in the ways that such devices do; which one is kept in a file beside the node.
"""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

import structlog

from racimo.errors import RacimoError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from racimo.lab.node import LabNode

log = structlog.get_logger()

REQUEST_TIMEOUT_S = 5.0
HANGS_S = 3600.0
SLOW_S = 20.0
EARLY_S = 2.0


class FenceFault(StrEnum):
    """How a node's fence device fails."""

    NONE = "none"
    LIES = "lies"
    """It says that it cut the power, and does nothing. Its status is right."""
    HANGS = "hangs"
    """It takes every order, and never answers."""
    SLOW = "slow"
    """It cuts the power after 20 s."""
    EARLY = "early"
    """It says at once that the power is cut, and cuts it 2 s later. Its status is right."""
    WRONG = "wrong"
    """It does nothing, and says that the power is off, whenever it is asked."""
    DIES = "dies"
    """It has its power from the node: it answers only while the node is on."""


def set_fault(node: LabNode, fault: FenceFault) -> None:
    """From the next order on the node's device fails so."""
    draft = node.fence_fault.with_suffix(".new")
    draft.write_text(f"{fault}\n")
    draft.replace(node.fence_fault)


def fault_of(node: LabNode) -> FenceFault:
    """How the node's device fails."""
    try:
        return FenceFault(node.fence_fault.read_text().strip())
    except (FileNotFoundError, ValueError):
        return FenceFault.NONE


@dataclass(slots=True)
class LabFence:
    """The devices of all ``nodes``, as one of them reaches them at ``path``."""

    path: Path
    nodes: Mapping[str, LabNode]
    _later: set[asyncio.Task[None]] = field(default_factory=set)

    async def serve(self, listening: asyncio.Event) -> None:
        """Answer until cancelled. Sets ``listening`` when the node can reach it."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        try:
            server = await asyncio.start_unix_server(self._answer, str(self.path))
            async with server:
                os.chmod(self.path, 0o600)
                listening.set()
                await server.serve_forever()
        finally:
            for task in self._later:
                task.cancel()
            self.path.unlink(missing_ok=True)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                request = json.loads(await reader.readline())
            answer = await self._do(str(request.get("action")), str(request.get("plug")))
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        except (TimeoutError, ValueError, AttributeError, OSError) as error:
            log.info("lab.fence.not_answered", why=str(error) or type(error).__name__)
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _do(self, action: str, plug: str) -> dict[str, str]:
        node = self.nodes.get(plug)
        if node is None:
            return {"error": f"the lab has no node called {plug}"}
        fault = fault_of(node)
        log.info("lab.fence.asked", action=action, node=plug, fault=str(fault))
        if fault is FenceFault.HANGS or (fault is FenceFault.DIES and node.container is None):
            await asyncio.sleep(HANGS_S)
        try:
            match action:
                case "off":
                    return await self._off(node, fault)
                case "on":
                    if node.container is None:
                        await node.boot(ready=False)
                    return {"said": "Success: Powered ON", "power": "on"}
                case "status":
                    off = fault is FenceFault.WRONG or node.container is None
                    return {"said": f"Status: {'OFF' if off else 'ON'}", "power": "off" if off else "on"}
        except RacimoError as error:
            return {"error": str(error)}
        return {"error": f"{action} is none of off, on, status"}

    async def _off(self, node: LabNode, fault: FenceFault) -> dict[str, str]:
        done = {"said": "Success: Powered OFF", "power": "off"}
        if fault in (FenceFault.LIES, FenceFault.WRONG):
            return done
        if fault is FenceFault.EARLY:
            task = asyncio.create_task(self._cut_later(node))
            self._later.add(task)
            task.add_done_callback(self._later.discard)
            return done
        if fault is FenceFault.SLOW:
            await asyncio.sleep(SLOW_S)
        await node.power_cut()
        return done

    async def _cut_later(self, node: LabNode) -> None:
        await asyncio.sleep(EARLY_S)
        try:
            await node.power_cut()
        except RacimoError as error:
            log.exception("lab.fence.not_cut", node=node.name, why=str(error))
