"""The guest agent, asked over its socket: does somebody answer in there?

The socket may still hold an answer to somebody who gave up waiting, so each talk begins with ``guest-sync-delimited``:
the agent sends the byte 0xFF and our number, and what came before is thrown away (QEMU, docs/interop/qemu-ga).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from racimo.errors import Conflict, OperationFailed

if TYPE_CHECKING:
    from racimo.model.paths import NodePaths

PING_TIMEOUT = 3.0
DELIMITER = b"\xff"
LIMIT = 1 << 20


async def agent_ping(paths: NodePaths, vmid: int, timeout: float = PING_TIMEOUT) -> None:
    """Return when the guest's agent answered. Raises ``Conflict`` when it has none, ``OperationFailed`` when silent."""
    await agent_command(paths, vmid, "guest-ping", timeout)


async def agent_command(paths: NodePaths, vmid: int, command: str, timeout: float = PING_TIMEOUT) -> object:
    """Run one command of the agent and return its result, within ``timeout`` seconds. Talks to it one at a time."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(paths.guest_run(vmid) / "agent.sock", limit=LIMIT)
            try:
                return await _talk(reader, writer, command, vmid)
            finally:
                writer.close()
                with suppress(ConnectionError):  # it ended first
                    await writer.wait_closed()
    except TimeoutError:
        raise OperationFailed(
            f"The agent of guest {vmid} does not answer",
            why=f"no answer to {command} within {timeout:g} s",
            todo="It may not be installed in the guest, or the guest hangs",
        ) from None
    except (FileNotFoundError, ConnectionRefusedError):
        raise Conflict(
            f"Guest {vmid} has no agent here",
            why="it does not run on this node, or its option agent is not set",
            todo="Start it with agent: 1",
        ) from None
    except (ConnectionError, asyncio.IncompleteReadError, ValueError) as error:
        raise OperationFailed(f"The agent of guest {vmid} cannot be understood", why=str(error)) from error


async def _talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, command: str, vmid: int) -> object:
    number = secrets.randbits(31)
    writer.write(DELIMITER + _line({"execute": "guest-sync-delimited", "arguments": {"id": number}}))
    while True:
        await reader.readuntil(DELIMITER)
        if json.loads(await reader.readuntil(b"\n")).get("return") == number:
            break
    writer.write(_line({"execute": command}))
    answer: dict[str, Any] = json.loads(await reader.readuntil(b"\n"))
    if "error" in answer:
        raise OperationFailed(f"{command} failed in guest {vmid}", why=str(answer["error"].get("desc", "")))
    return answer.get("return")


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
