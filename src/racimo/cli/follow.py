"""Waits for a task: a progress bar on anything over a second, and what Ctrl-C means meanwhile.

The first Ctrl-C leaves the task running and says how to find it again, after a moment in which a second one cancels it.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

from racimo.cli.session import task_path

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from racimo.api.client import TaskView
    from racimo.cli.interrupts import Interrupts
    from racimo.cli.session import Session

PATIENCE = 1.0
"""Seconds without a bar: what ends sooner needs none."""
SECOND_THOUGHTS = 3.0
"""Seconds after the first Ctrl-C in which a second one cancels the task."""
LIMIT = 86400.0
"""Seconds that a task is waited for: as long as anybody may wait."""


class Detached(Exception):
    """The wait was given up with Ctrl-C; the task runs on."""


class Follower:
    """Waits for one task. ``screen`` is where the bar goes (never the result's stream)."""

    def __init__(
        self,
        session: Session,
        upid: str,
        screen: Console,
        interrupts: Interrupts,
        *,
        second_thoughts: float = SECOND_THOUGHTS,
    ) -> None:
        self._session, self._upid, self._screen = session, upid, screen
        self._second_thoughts = second_thoughts
        self._interrupts = interrupts
        self._bar: Progress | None = None
        self._fraction, self._doing = 0.0, ""

    async def wait(self) -> TaskView:
        """The task at its end.

        Raises what the task failed with (``Cancelled`` when it was cancelled), ``Detached`` after Ctrl-C, and
        ``Unreachable`` when its node stays away.
        """
        show = asyncio.get_running_loop().call_later(PATIENCE, self._start_bar)
        self._interrupts.following = True
        ending = asyncio.create_task(self._session.client.wait_task(self._upid, self._news, timeout=LIMIT))
        interrupt = asyncio.create_task(self._interrupts.next())
        try:
            await asyncio.wait({ending, interrupt}, return_when=asyncio.FIRST_COMPLETED)
            if not ending.done():
                show.cancel()
                self._stop_bar()
                await self._interrupted(ending)
            return await ending
        finally:
            show.cancel()
            self._stop_bar()
            await _settle(ending, interrupt)

    def _news(self, view: TaskView) -> None:
        self._fraction, self._doing = view.progress, view.doing
        self._draw()

    def _start_bar(self) -> None:
        if not self._screen.is_terminal:
            return
        from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        self._bar = Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn(),
            console=self._screen, transient=True,
        )  # fmt: skip
        self._bar.add_task("", total=None)
        self._bar.start()
        self._draw()

    def _draw(self) -> None:
        if self._bar is not None:
            text = self._doing or self._upid.split(":")[5]
            total = 1.0 if self._fraction else None
            self._bar.update(self._bar.task_ids[0], description=text, completed=self._fraction, total=total)

    def _stop_bar(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    async def _interrupted(self, ending: asyncio.Task[TaskView]) -> None:
        """After the first Ctrl-C: leave the task, unless it ends or is cancelled by a second one first."""
        _say(f"\n{self._upid}\ngoes on in the background. Ctrl-C again cancels it; Enter, or waiting, leaves it.")
        again, enter = asyncio.create_task(self._interrupts.next()), asyncio.create_task(_enter_pressed())
        try:
            waiting = {ending, again, enter}
            await asyncio.wait(waiting, timeout=self._second_thoughts, return_when=asyncio.FIRST_COMPLETED)
            if ending.done():
                return
            if not again.done():
                _say(f"Left running. See it: racimo task log {self._upid} --follow")
                raise Detached(self._upid)
        finally:
            await _settle(again, enter)
        _say("Cancelling; what it had begun is undone.")
        await self._session.delete(task_path(self._upid))


async def _settle(*tasks: asyncio.Task[TaskView] | asyncio.Task[None]) -> None:
    """Cancel what still runs and see each to its end; what ``await`` already raised is not raised again."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _enter_pressed() -> None:
    """Waits until Enter is pressed; for ever where nobody can. Its waiter bounds it."""
    loop, pressed = asyncio.get_running_loop(), asyncio.Event()
    if not sys.stdin.isatty():
        await pressed.wait()
    loop.add_reader(sys.stdin, pressed.set)
    try:
        await pressed.wait()
        sys.stdin.readline()
    finally:
        loop.remove_reader(sys.stdin)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)  # noqa: T201
