"""A writer with less patience than the client has with one member, such as a heartbeat of the profile ``fast``."""

from __future__ import annotations

import asyncio

import pytest

from racimo.store.base import Put
from racimo.store.etcd_gateway import MEMBER_TIMEOUT, Gateway
from racimo.store.etcd_txn import Slot, _Request


async def test_a_member_that_was_given_up_on_is_not_asked_first_again() -> None:
    """Else each write would be given up on before the client turns to the next member."""
    taken, gone = asyncio.Event(), asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.set()
        await reader.read(-1)
        writer.close()
        await writer.wait_closed()
        gone.set()

    server = await asyncio.start_server(mute, "127.0.0.1", 0)
    dead, other = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", "http://127.0.0.1:9"
    gateway = Gateway([dead, other], None)
    deadline = asyncio.get_running_loop().time() + 5
    request = _Request(gateway, Slot("/slot", 1), (), (Put("/key", b"value"),), (), deadline)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(MEMBER_TIMEOUT / 3):
            await request.run({})
    assert taken.is_set()
    preferred = gateway.endpoints
    await gateway.close()
    await asyncio.wait_for(gone.wait(), 5)
    server.close()
    await server.wait_closed()
    assert preferred == [other, dead]
