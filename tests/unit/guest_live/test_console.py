"""Serial console and guest agent over their sockets."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from guest_parts import HALT

from racimo.errors import Conflict, NotFound, OperationFailed
from racimo.guest.agent import agent_ping
from racimo.guest.console import serial_console, serial_tail
from racimo.guest.operations import CreateGuest, StopGuest

if TYPE_CHECKING:
    from guest_nodes import Datacenter

    from racimo.model.paths import NodePaths

ECHO = bytes.fromhex("fa bafd03 ec a801 74fb baf803 ec ee ebf1")
"""Waits for a byte on the first serial port and sends it back."""
CONFIG = {"memory": "32", "vga": "none", "balloon": "0", "serial0": "socket"}


async def test_what_is_typed_reaches_the_guest_and_comes_back(place: Datacenter) -> None:
    node = await place.add("n1")
    await node.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": place.boot_disk(ECHO)}, start=True))
    async with asyncio.timeout(20), serial_console(node.paths, 100) as (reader, writer):
        answer = b""
        while b"hola" not in answer:  # the boot sector may not run yet
            writer.write(b"hola")
            try:
                async with asyncio.timeout(0.5):
                    answer += await reader.read(100)
            except TimeoutError:
                continue
    await node.run(StopGuest(vmid=100))
    assert "hola" in serial_tail(node.paths, 100) and serial_tail(node.paths, 100, size=1) in "hola"
    with pytest.raises(NotFound, match="no serial port 0 here"):
        async with serial_console(node.paths, 100):
            raise AssertionError


async def test_a_guest_without_an_answering_agent_is_told_within_the_time_out(place: Datacenter) -> None:
    node = await place.add("n1")
    with pytest.raises(Conflict, match="no agent here"):
        await agent_ping(node.paths, 100)
    await node.run(CreateGuest(vmid=100, config={**CONFIG, "agent": "1", "virtio0": place.boot_disk(HALT)}, start=True))
    with pytest.raises(OperationFailed, match=r"no answer to guest-ping within 0\.2 s"):
        await agent_ping(node.paths, 100, timeout=0.2)


async def test_an_answer_meant_for_somebody_else_is_thrown_away(paths: NodePaths) -> None:
    """The other end is written here to the protocol: no guest with an agent is at hand."""
    asked: list[str] = []
    done = asyncio.Event()

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"return": {"stale": 1}}\n')
        while line := await reader.readline():
            message = json.loads(line.lstrip(b"\xff"))
            asked.append(message["execute"])
            if message["execute"] == "guest-sync-delimited":
                writer.write(b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode() + b"\n")
            else:
                writer.write(b'{"return": {}}\n')
        writer.close()
        await writer.wait_closed()
        done.set()

    paths.guest_run(100).mkdir(parents=True)
    async with await asyncio.start_unix_server(agent, paths.guest_run(100) / "agent.sock"):
        await agent_ping(paths, 100)
        async with asyncio.timeout(5):
            await done.wait()
    assert asked == ["guest-sync-delimited", "guest-ping"]
