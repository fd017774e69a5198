"""A real QEMU, started with a generated command line under TCG, and spoken to over its monitor socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
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

    async def ask(self, command: str, **arguments: Any) -> Any:
        """The answer to a command; events are passed over."""
        self.writer.write(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        async with asyncio.timeout(WAIT):
            while True:
                reply = json.loads(await self.reader.readline())
                if "error" in reply:
                    raise AssertionError(f"{command}: {reply['error']}")
                if "return" in reply:
                    return reply["return"]

    async def ended(self) -> int:
        """Its exit status, once it has ended."""
        async with asyncio.timeout(WAIT):
            return await self.process.wait()


@contextlib.asynccontextmanager
async def started(
    values: Mapping[str, str], blocks: Mapping[str, BlockSource], hypervisor: Hypervisor, folder: Path
) -> AsyncIterator[StartedQemu]:
    """Start it paused. Raises ``AssertionError`` with what QEMU said if it does not come up."""
    config = parse_config(values)
    launch = Launch(
        vmid=100, node="n1", epoch=1, machine=pin_machine(config.machine, hypervisor), run=folder, log=folder,
        blocks=blocks,
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
