"""Work past the point of no return: it comes to its end although who waits for it is cancelled."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

from racimo.errors import StoreUnknown

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from contextlib import AsyncExitStack

T = TypeVar("T")


async def unbroken(work: Coroutine[Any, Any, T]) -> T:
    """Finish ``work``, which must be bounded in time by itself, and return its result or raise what it raised.

    A cancellation that comes meanwhile is too late, and is dropped.
    """
    task = asyncio.ensure_future(work)
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            continue
    return task.result()


async def committed(undo: AsyncExitStack, write: Coroutine[Any, Any, object]) -> None:
    """Write a record that names what was made; from then on it is not undone any more.

    Neither is it when the answer of the store was lost: the record may name it by now.
    """
    try:
        await unbroken(write)
    except StoreUnknown:
        undo.pop_all()
        raise
    undo.pop_all()
