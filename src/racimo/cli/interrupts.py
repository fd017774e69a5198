"""Ctrl-C as something to wait for, from before the request is sent: so no task that was begun is lost sight of."""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

IMPATIENT = 2
"""Presses that end a command for which no task is known yet."""


class Interrupts:
    """Presses of Ctrl-C, in order. Before ``following``, the second one cancels the command itself."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[None] = asyncio.Queue()
        self._presses, self._command = 0, asyncio.current_task()
        self.following = False

    async def next(self) -> None:
        """Wait for the next press; one that came before counts."""
        await self._queue.get()

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Within: Ctrl-C comes here and raises nothing."""
        loop = asyncio.get_running_loop()
        before = signal.getsignal(signal.SIGINT)
        loop.add_signal_handler(signal.SIGINT, self._pressed)
        try:
            yield
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            signal.signal(signal.SIGINT, before)

    def _pressed(self) -> None:
        self._presses += 1
        self._queue.put_nowait(None)
        if self._presses >= IMPATIENT and not self.following and self._command is not None:
            self._command.cancel()


@contextmanager
def raising() -> Iterator[None]:
    """Within, while a person is asked something: Ctrl-C raises ``KeyboardInterrupt`` as ever."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
