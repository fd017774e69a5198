"""An event loop whose clock jumps to the next timer: hours in seconds, and the same each time.

There are two clocks. ``time()`` is what the simulated machines live by. ``world_time()`` is what the script is told in;
it runs ahead by the quiet stretches that were skipped (see ``skip_to``), which no machine has lived through.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from contextvars import Context

T = TypeVar("T")


class _Call(asyncio.TimerHandle):
    """A call that is due: millions are made, so nothing is looked at that a simulation has no use for."""

    __slots__ = ()

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], loop: VirtualLoop, context: Context | None
    ) -> None:
        self._callback, self._args, self._loop = callback, args, loop
        self._context = context or copy_context()
        self._cancelled, self._repr, self._source_traceback = False, None, None

    def cancel(self) -> None:
        self._cancelled, self._callback, self._args = True, None, None  # type: ignore[assignment]


class VirtualLoop(asyncio.BaseEventLoop):
    """An asyncio loop in simulated time, without any I/O."""

    def __init__(self) -> None:
        super().__init__()
        self._now, self._skipped, self._number = 0.0, 0.0, 0
        self._ready_now: deque[_Call] = deque()
        self._timers: list[tuple[float, int, _Call]] = []
        self._script: list[tuple[float, int, _Call]] = []

    def time(self) -> float:
        return self._now

    def world_time(self) -> float:
        """Seconds since the simulation began, skipped ones included."""
        return self._now + self._skipped

    # call_soon and call_at: typeshed ties a callback's arguments to its type, which a Handle does not take on.

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = _Call(callback, args, self, context)
        self._ready_now.append(handle)
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        handle = _Call(callback, args, self, context)
        self._number += 1
        heapq.heappush(self._timers, (when, self._number, handle))
        return handle

    async def sleep(self, seconds: float) -> None:
        """Like ``asyncio.sleep``."""
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        waiter: asyncio.Future[None] = self.create_future()
        self.call_at(self._now + seconds, _wake, waiter)
        await waiter

    def call_in_script(self, when: float, callback: Callable[..., object], *args: Any) -> asyncio.TimerHandle:
        """Call at ``when`` in the world's time."""
        handle = _Call(callback, args, self, None)
        self._number += 1
        heapq.heappush(self._script, (when, self._number, handle))
        return handle

    def next_in_script(self) -> float | None:
        """When the script goes on, in the world's time."""
        while self._script and self._script[0][2]._cancelled:
            heapq.heappop(self._script)
        return self._script[0][0] if self._script else None

    def skip_to(self, when: float) -> None:
        """Let the world's time be ``when`` (not earlier than now); no machine's clock moves."""
        self._skipped += max(0.0, when - self.world_time())

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Cancelled timers are dropped when their time comes."""

    def _write_to_self(self) -> None:
        """There is no other thread."""

    def _process_events(self, event_list: object) -> None:
        """There is no I/O."""

    def _run_once(self) -> None:
        """Not once, but until it is to stop: there is nothing else to look at between two rounds."""
        ready = self._ready_now
        while True:
            if not ready:
                self._advance()
            for _ in range(len(ready)):
                call = ready.popleft()
                if not call._cancelled:
                    try:
                        call._context.run(call._callback, *call._args)
                    except (SystemExit, KeyboardInterrupt):
                        raise
                    except BaseException as error:  # noqa: BLE001 - as asyncio does: one call is no other's business
                        self.call_exception_handler(
                            {"message": f"Exception in callback {call!r}", "exception": error, "handle": call}
                        )
            if self._stopping:  # type: ignore[attr-defined]
                return

    def _advance(self) -> None:
        """Go to the next timer, and make all that is due then ready, in the order in which it was asked for."""
        timers, script, skipped = self._timers, self._script, self._skipped
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        while script and script[0][2]._cancelled:
            heapq.heappop(script)
        if not timers and not script:
            raise RuntimeError("every task waits and no timer is set: the simulation would stand still")
        now = timers[0][0] if timers else script[0][0] - skipped
        if script and script[0][0] - skipped < now:
            now = script[0][0] - skipped
        self._now = now = max(self._now, now)
        while timers and timers[0][0] <= now:
            self._ready_now.append(heapq.heappop(timers)[2])
        while script and script[0][0] - skipped <= now:
            self._ready_now.append(heapq.heappop(script)[2])


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)


def run(main: Coroutine[Any, Any, T]) -> T:
    """Like ``asyncio.run``, in simulated time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def virtual_loop() -> VirtualLoop:
    """The loop that runs; only within a simulation."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)  # noqa: S101 - whoever calls this was called by ``run``
    return loop
