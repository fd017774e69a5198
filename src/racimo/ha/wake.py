"""What one task waits by: for news, and no longer than until something is due."""

from __future__ import annotations

import asyncio


class Wake:
    """For one waiting task. Waiting for it costs a timer and a future: much less than an event within a time-out."""

    def __init__(self) -> None:
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        """There is news: who waits goes on, and who waits next does so at once, until ``clear``."""
        self._rung = True
        if self._waiter is not None:
            _end(self._waiter)

    def clear(self) -> None:
        """What there was to know is known."""
        self._rung = False

    async def wait(self, seconds: float) -> None:
        """Until it is rung, or ``seconds`` have passed."""
        if self._rung:
            return
        loop = asyncio.get_running_loop()
        self._waiter = waiter = loop.create_future()
        timer = loop.call_later(seconds, _end, waiter)
        try:
            await waiter
        finally:
            timer.cancel()
            self._waiter = None


def _end(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
