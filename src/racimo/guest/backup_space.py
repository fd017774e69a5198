"""Room for a backup: asked for before, and watched meanwhile.

QEMU fails a write of the guest when what it overwrites cannot be copied away first. So a backup ends itself before
its storage is full.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from racimo.storage.images import NoSpace

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from pathlib import Path
    from typing import Any

RESERVE = 256 << 20
"""Bytes that stay free."""
LOOK = 0.25
"""Seconds between two looks."""


async def demand_space(folder: Path, needed: int) -> None:
    """Raises ``NoSpace`` unless ``needed`` bytes and the reserve are free."""
    free = await _free(folder)
    if free < needed + RESERVE:
        raise NoSpace(
            f"There is no space in {folder}",
            why=f"the disks take up to {needed} bytes and {RESERVE} stay free, and {free} bytes are free",
            todo="Free space there, or choose another storage",
        )


async def while_there_is_space(folder: Path, work: Coroutine[Any, Any, None]) -> None:
    """Do ``work``; cancelled with ``NoSpace`` as soon as less than the reserve is free."""
    doing, watching = asyncio.ensure_future(work), asyncio.ensure_future(_full(folder))
    try:
        await asyncio.wait({doing, watching}, return_when=asyncio.FIRST_COMPLETED)
        if not doing.done():
            watching.result()
    finally:
        doing.cancel()
        watching.cancel()
        await asyncio.gather(doing, watching, return_exceptions=True)
    doing.result()


async def _full(folder: Path) -> None:
    while (free := await _free(folder)) >= RESERVE:  # noqa: ASYNC110 - a file system gives no event
        await asyncio.sleep(LOOK)
    raise NoSpace(
        f"There is no space in {folder}", why=f"{free} bytes are free, and {RESERVE} must stay free for the guest",
        todo="Free space there, or choose another storage; the guest goes on, and what was copied is removed",
    )  # fmt: skip


async def _free(folder: Path) -> int:
    found = await asyncio.to_thread(os.statvfs, folder)
    return found.f_bavail * found.f_frsize
