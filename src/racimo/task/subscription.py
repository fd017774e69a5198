"""A live view of the tasks: each change as it happens."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType

    from racimo.task.record import TaskRecord

KEEP = 1000
"""Changes that wait for a slow reader; of more, the oldest go. Each carries the whole record, so little is lost."""


class Subscription:
    """``with runner.subscribe() as changes: async for task in changes: …``; ends when the runner closes."""

    def __init__(self, registry: set[Subscription]) -> None:
        self._registry = registry
        self._waiting: deque[TaskRecord] = deque(maxlen=KEEP)
        self._news = asyncio.Event()
        self._closed = False
        registry.add(self)

    def push(self, record: TaskRecord) -> None:
        """A task changed."""
        self._waiting.append(record)
        self._news.set()

    def close(self) -> None:
        """No more changes; the reader gets what is waiting, then the end."""
        self._registry.discard(self)
        self._closed = True
        self._news.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskRecord:
        while not self._waiting:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._waiting.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
