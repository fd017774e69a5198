"""Waiting for work that must come to its end, whatever happens to who waits."""

from __future__ import annotations

import asyncio
from typing import Any


async def settled(task: asyncio.Task[Any]) -> None:
    """Wait until ``task`` is done. A cancellation of the caller is held back until then, and raised afterwards.

    The task must be bounded in time by itself; what it raised is not raised here.
    """
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled
