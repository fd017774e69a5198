"""A TCP proxy that loses what it is told to: answers after the deed, or requests until they come much too late."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class LossyProxy:
    """Forwards 127.0.0.1:``port`` to ``target`` (a URL of this host).

    ``lose_answers(n)`` swallows the next n answers and closes their connections. ``hold_requests()`` keeps what clients
    send from now on, until ``release()`` passes it on, though the clients may be gone by then.
    """

    def __init__(self, target: str) -> None:
        self._target_port = int(target.rpartition(":")[2])
        self._losing = 0
        self.lost = asyncio.Event()
        self._open_gate = asyncio.Event()
        self._open_gate.set()
        self.held = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.url = ""

    def lose_answers(self, number: int) -> None:
        self.lost.clear()
        self._losing = number

    def hold_requests(self) -> None:
        self.held.clear()
        self._open_gate.clear()

    def release(self) -> None:
        self._open_gate.set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"https://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target_port)
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._upward(reader, there_writer))
                    group.create_task(self._downward(there_reader, writer))
            finally:
                there_writer.close()
        except (OSError, ExceptionGroup, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _upward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            if not self._open_gate.is_set():
                self.held.set()
                await self._open_gate.wait()
            writer.write(chunk)
            await writer.drain()

    async def _downward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while chunk := await reader.read(65536):
            if self._losing:
                self._losing -= 1
                self.lost.set()
                raise ConnectionResetError
            writer.write(chunk)
            await writer.drain()
        raise ConnectionResetError
