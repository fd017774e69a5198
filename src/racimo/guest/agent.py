"""The guest agent, asked over its socket: does somebody answer in there?

The socket may still hold an answer to somebody who gave up waiting, so each talk begins with ``guest-sync-delimited``:
the agent sends the byte 0xFF and our number, and what came before is thrown away (QEMU, docs/interop/qemu-ga).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

from racimo.errors import Conflict, OperationFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from pydantic import JsonValue

    from racimo.model.paths import NodePaths

PING_TIMEOUT = 3.0
MARGIN = 0.1
"""Seconds left for closing when the time for an answer is over."""
DELIMITER = b"\xff"
LIMIT = 1 << 22
"""Bytes of one answer: more is not read from a guest."""


async def agent_ping(paths: NodePaths, vmid: int, timeout: float = PING_TIMEOUT) -> None:
    """Return when the guest's agent answered. Raises ``Conflict`` when it has none, ``OperationFailed`` when silent."""
    await agent_command(paths, vmid, "guest-ping", timeout)


async def agent_shutdown(paths: NodePaths, vmid: int, timeout: float = PING_TIMEOUT) -> None:
    """Have the agent shut the guest down; returns when it was told and raised no objection for ``timeout`` seconds.

    It answers this command only to refuse it (QEMU Guest Agent Protocol Reference). Raises as ``agent_ping`` does.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + timeout
    async with _connected(paths, vmid, "guest-shutdown", timeout) as (reader, writer):
        await _synchronise(reader, writer)
        writer.write(_line({"execute": "guest-shutdown"}))
        try:
            async with asyncio.timeout_at(deadline - MARGIN):
                _result(await reader.readuntil(b"\n"), "guest-shutdown", vmid)
        except (TimeoutError, ConnectionError, asyncio.IncompleteReadError):
            return  # it does so, or has done so already


async def agent_command(
    paths: NodePaths,
    vmid: int,
    command: str,
    timeout: float = PING_TIMEOUT,
    arguments: Mapping[str, JsonValue] | None = None,
) -> JsonValue:
    """Run one command of the agent and return its result, within ``timeout`` seconds. Talks to it one at a time."""
    async with _connected(paths, vmid, command, timeout) as (reader, writer):
        await _synchronise(reader, writer)
        writer.write(_line({"execute": command, **({"arguments": dict(arguments)} if arguments else {})}))
        return _result(await reader.readuntil(b"\n"), command, vmid)


@asynccontextmanager
async def _connected(
    paths: NodePaths, vmid: int, command: str, timeout: float
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """The agent's two ends, for ``timeout`` seconds; what goes wrong meanwhile is told as ``command``'s failure."""
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_unix_connection(paths.guest_run(vmid) / "agent.sock", limit=LIMIT)
            try:
                yield reader, writer
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
    except (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
        raise OperationFailed(
            f"The agent of guest {vmid} cannot be understood",
            why=str(error) or "it broke off",
            todo="Try again; if it stays so, restart the agent inside the guest",
        ) from error


async def _synchronise(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    number = secrets.randbits(31)
    writer.write(DELIMITER + _line({"execute": "guest-sync-delimited", "arguments": {"id": number}}))
    while True:
        await reader.readuntil(DELIMITER)
        if json.loads(await reader.readuntil(b"\n")).get("return") == number:
            break


def _result(line: bytes, command: str, vmid: int) -> JsonValue:
    answer: dict[str, Any] = json.loads(line)
    if "error" in answer:
        raise OperationFailed(
            f"{command} failed in guest {vmid}",
            why=str(answer["error"].get("desc", "")) or "its agent gave no reason",
            todo="Look at the agent inside the guest: it may be too old, or forbid this",
        )
    result: JsonValue = answer.get("return")
    return result


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
