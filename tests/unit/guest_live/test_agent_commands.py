"""What the API asks of a guest's agent. The other end is written here to the protocol."""

from __future__ import annotations

import asyncio
import base64
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
from guest_parts import Lines

from racimo.errors import BadParameter, Conflict, OperationFailed
from racimo.guest.agent_commands import Agent
from racimo.guest.operations import CreateGuest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from guest_nodes import Datacenter, GuestNode

    from racimo.model.paths import NodePaths

HELLO = base64.b64encode(b"hello").decode()
ANSWERS: dict[str, Any] = {
    "guest-ping": {},
    "guest-network-get-interfaces": [{"name": "lo", "ip-addresses": []}],
    "guest-exec": {"pid": 7},
    "guest-exec-status": {"exited": True, "exitcode": 0, "out-data": HELLO},
    "guest-file-open": 1000,
    "guest-file-read": {"count": 5, "buf-b64": HELLO, "eof": True},
    "guest-file-write": {"count": 5, "eof": False},
    "guest-file-close": {},
    "guest-set-user-password": {},
    "guest-fsfreeze-freeze": 2,
    "guest-fsfreeze-thaw": 2,
}


@asynccontextmanager
async def an_agent(paths: NodePaths, vmid: int = 100) -> AsyncIterator[list[dict[str, Any]]]:
    """An agent that knows ``ANSWERS``; the list gets what it was asked."""
    asked: list[dict[str, Any]] = []
    talks: set[asyncio.Task[None]] = set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            message = json.loads(line.lstrip(b"\xff"))
            name = message["execute"]
            if name == "guest-sync-delimited":
                writer.write(b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode() + b"\n")
                continue
            asked.append(message)
            known = {"return": ANSWERS[name]} if name in ANSWERS else {"error": {"desc": "unknown command"}}
            writer.write(json.dumps(known).encode() + b"\n")
        writer.close()
        await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(talk(reader, writer)))

    paths.guest_run(vmid).mkdir(parents=True, exist_ok=True)
    async with await asyncio.start_unix_server(accept, paths.guest_run(vmid) / "agent.sock"):
        yield asked
        async with asyncio.timeout(5):
            await asyncio.gather(*talks)


async def a_guest(place: Datacenter) -> GuestNode:
    node = await place.add("n1")
    await node.run(CreateGuest(vmid=100, config={"memory": "32"}))
    return node


async def test_what_the_agent_tells_comes_back_under_result(place: Datacenter) -> None:
    node = await a_guest(place)
    async with an_agent(node.paths):
        answer = await node.api("GET", "/100/agent/network-get-interfaces")
        assert answer == {"result": [{"name": "lo", "ip-addresses": []}]}
        with pytest.raises(OperationFailed, match="guest-get-osinfo failed in guest 100: unknown command"):
            await node.api("GET", "/100/agent/get-osinfo")
        assert await node.api("POST", "/100/agent", "command=ping") == {"result": {}}
        with pytest.raises(BadParameter, match="command"):
            await node.api("POST", "/100/agent", "command=format-disk")


async def test_a_program_is_started_with_its_arguments_and_its_output_read(place: Datacenter) -> None:
    node = await a_guest(place)
    async with an_agent(node.paths) as asked:
        form = "command=/bin/echo&command=a%2C+b&input-data=hi"
        assert await node.api("POST", "/100/agent/exec", form) == {"pid": 7}
        assert asked[-1]["arguments"]["arg"] == ["a, b"]
        status = await node.api("GET", "/100/agent/exec-status", "pid=7")
    assert status == {"exited": 1, "exitcode": 0, "out-data": "hello"}


async def test_files_are_read_and_written_and_always_closed(place: Datacenter) -> None:
    node = await a_guest(place)
    async with an_agent(node.paths) as asked:
        found = await node.api("GET", "/100/agent/file-read", "file=/etc/motd")
        assert found == {"content": "hello", "bytes-read": 5}
        await node.api("POST", "/100/agent/file-write", "file=/etc/motd&content=hello")
    assert [message["execute"] for message in asked].count("guest-file-close") == 2


async def test_a_password_goes_to_the_agent_as_base64(place: Datacenter) -> None:
    node = await a_guest(place)
    async with an_agent(node.paths) as asked:
        await node.api("POST", "/100/agent/set-user-password", "username=root&password=secret")
    assert base64.b64decode(asked[-1]["arguments"]["password"]) == b"secret"


async def test_a_guest_without_an_agent_is_said_to_have_none(place: Datacenter) -> None:
    node = await a_guest(place)
    with pytest.raises(Conflict, match="has no agent here"):
        await node.api("GET", "/100/agent/get-osinfo")


async def test_file_systems_are_thawed_whatever_happens_while_they_are_frozen(paths: NodePaths) -> None:
    report = Lines()
    async with an_agent(paths) as asked:
        with pytest.raises(ValueError, match="in between"):
            async with Agent(paths, 100).frozen(report):
                raise ValueError("in between")
    assert [message["execute"] for message in asked] == ["guest-ping", "guest-fsfreeze-freeze", "guest-fsfreeze-thaw"]
    assert report.lines == ["the guest's agent froze 2 file systems"]


async def test_without_an_agent_nothing_is_frozen_and_nothing_fails(paths: NodePaths) -> None:
    report = Lines()
    async with Agent(paths, 100).frozen(report):
        pass
    assert "are not frozen" in report.lines[0]
