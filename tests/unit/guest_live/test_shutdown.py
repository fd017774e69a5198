"""Having guests shut themselves down: real QEMU, guests that listen late or never, an agent to the protocol."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from guest_parts import HALT, OBEY_BUTTON, boot_disk, qemu

from racimo.errors import NotFound
from racimo.guest.host import GuestHost, GuestLaunch
from racimo.guest.shutdown import shut_down

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from racimo.model.paths import NodePaths


async def running(host: GuestHost, paths: NodePaths, code: bytes) -> None:
    argv = qemu(paths, 100, boot_disk(paths.root / "disk.raw", code))
    await host.launch(GuestLaunch(vmid=100, epoch=1, argv=argv))
    await host.cont(100)


async def test_a_guest_asked_while_it_boots_is_asked_again_until_it_listens(host: GuestHost, paths: NodePaths) -> None:
    await running(host, paths, OBEY_BUTTON)
    await host.press_power_button(100)
    assert not await host.wait_gone(100, 1.5)  # its firmware was still at work: nobody saw the button
    assert await shut_down(host, 100, 20)
    assert (await host.exits.get()).reason == "The guest shut itself down"


async def test_a_guest_that_boots_is_shut_down_within_the_time(host: GuestHost, paths: NodePaths) -> None:
    await running(host, paths, OBEY_BUTTON)
    assert await shut_down(host, 100, 20, again=0.2)


async def test_a_guest_that_never_listens_goes_on_when_the_time_is_over(host: GuestHost, paths: NodePaths) -> None:
    await running(host, paths, HALT)
    assert not await shut_down(host, 100, 0.5, again=0.1)
    assert host.vmids == {100}


async def test_a_guest_that_does_not_run_cannot_be_shut_down(host: GuestHost) -> None:
    with pytest.raises(NotFound, match="Guest 100 is not running"):
        await shut_down(host, 100, 1)


class Agent:
    """The guest's end of its agent's socket. It refuses every command but pings, or ends the guest, as told."""

    def __init__(self, host: GuestHost, *, obeys: bool) -> None:
        self.host, self.obeys = host, obeys
        self.asked: list[str] = []

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        talks: list[asyncio.Task[None]] = []

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            talks.append(asyncio.ensure_future(self._talk(reader, writer)))

        async with await asyncio.start_unix_server(accept, self.host.paths.guest_run(100) / "agent.sock"):
            yield
        async with asyncio.timeout(5):
            await asyncio.gather(*talks)

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            message = json.loads(line.lstrip(b"\xff"))
            self.asked.append(message["execute"])
            if message["execute"] == "guest-sync-delimited":
                writer.write(b"\xff" + json.dumps({"return": message["arguments"]["id"]}).encode() + b"\n")
            elif self.obeys:
                await self.host.kill(100)
                break
            else:
                writer.write(b'{"error": {"class": "CommandNotFound", "desc": "not known"}}\n')
        writer.close()
        await writer.wait_closed()


async def test_the_agent_is_asked_first_where_one_answers(host: GuestHost, paths: NodePaths) -> None:
    await running(host, paths, HALT)
    agent = Agent(host, obeys=True)
    async with agent.serving():
        assert await shut_down(host, 100, 20)
    assert agent.asked == ["guest-sync-delimited", "guest-shutdown"]


async def test_an_agent_that_refuses_leaves_it_to_the_power_button(host: GuestHost, paths: NodePaths) -> None:
    await running(host, paths, OBEY_BUTTON)
    agent = Agent(host, obeys=False)
    async with agent.serving():
        assert await shut_down(host, 100, 20, again=0.2)
    assert "guest-shutdown" in agent.asked
