"""A real QEMU, started with a generated command line under TCG, and spoken to over its monitor socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from racimo.guest.config import parse_config
from racimo.guest.qemu.command_line import Launch, command_line
from racimo.guest.qemu.machine import pin_machine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from racimo.guest.qemu.machine import Hypervisor
    from racimo.storage.base import BlockSource

WAIT = 30.0
"""Seconds for a QEMU under TCG on a busy machine to do one thing."""


@dataclass
class StartedQemu:
    """A running QEMU, its monitor connected and ready for commands."""

    process: asyncio.subprocess.Process
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    greeting: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)
    """What it told by itself and nobody has asked for yet."""

    async def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to a command; events are put by."""
        self.writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        async with asyncio.timeout(WAIT):
            while True:
                reply = json.loads(await self.reader.readline())
                if "error" in reply:
                    raise AssertionError(f"{command}: {reply['error']}")
                if "return" in reply:
                    return reply["return"]
                self.events.append(reply)

    async def migrated(self) -> str:
        """How the migration ended: ``completed`` or ``failed`` (needs the capability ``events``)."""
        async with asyncio.timeout(WAIT):
            while True:
                while self.events:
                    event = self.events.pop(0)
                    if event["event"] == "MIGRATION" and event["data"]["status"] in {"completed", "failed"}:
                        return str(event["data"]["status"])
                self.events.append(json.loads(await self.reader.readline()))

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        async with asyncio.timeout(WAIT):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def started(
    values: Mapping[str, str],
    blocks: Mapping[str, BlockSource],
    hypervisor: Hypervisor,
    folder: Path,
    *,
    node: str = "n1",
    epoch: int = 1,
    incoming: bool = False,
) -> AsyncIterator[StartedQemu]:
    """Start it paused. Raises ``AssertionError`` with what QEMU said if it does not come up."""
    config = parse_config(values)
    launch = Launch(
        vmid=100, node=node, epoch=epoch, machine=pin_machine(config.machine, hypervisor), run=folder, log=folder,
        blocks=blocks, incoming=incoming,
    )  # fmt: skip
    process = await asyncio.create_subprocess_exec(
        *command_line(config, hypervisor, launch), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    writer = None
    try:
        async with asyncio.timeout(WAIT):
            while True:
                try:
                    reader, writer = await asyncio.open_unix_connection(str(launch.qmp_socket))
                except (FileNotFoundError, ConnectionRefusedError):
                    if process.returncode is not None:
                        raise AssertionError((await process.stdout.read()).decode()) from None
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(process.wait(), 0.02)
                    continue
                break
        try:
            greeting = json.loads(await asyncio.wait_for(reader.readline(), WAIT))
            qemu = StartedQemu(process, reader, writer, greeting)
            await qemu.ask("qmp_capabilities")
        except (ConnectionError, ValueError):  # it ended instead of answering
            await process.wait()
            raise AssertionError((await process.stdout.read()).decode()) from None
        yield qemu
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        if process.returncode is None:
            process.kill()
        await process.communicate()
