"""The locks over every store: what they promise must not hang on one backend."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import TYPE_CHECKING

from racimo.store.layout import Layout
from racimo.task.lock import Locks

if TYPE_CHECKING:
    from conftest import Backend


async def test_tasks_of_several_nodes_never_hold_one_lock_together(backend: Backend) -> None:
    inside, served, subject = 0, 0, f"guests/{uuid.uuid4().hex}"

    async def work(locks: Locks, task: str) -> None:
        nonlocal inside, served
        async with locks.hold(subject, task=task, wait=30):
            inside += 1
            assert inside == 1
            await asyncio.sleep(0)
            inside -= 1
            served += 1

    nodes = [Locks(Layout(backend.open_store()), f"n{n}", "boot", lambda node, boot: False) for n in range(3)]
    await asyncio.gather(*(work(nodes[n % 3], f"task {n}") for n in range(24)))
    assert served == 24
    assert await Layout(backend.store).locks.find(subject) is None
    for locks in nodes:
        await locks.close()


async def test_who_waits_is_woken_by_the_release_not_by_a_clock(backend: Backend) -> None:
    subject = f"guests/{uuid.uuid4().hex}"
    n1, n2 = (
        Locks(Layout(backend.open_store()), name, "boot", lambda node, boot: False, recheck=60) for name in ("n1", "n2")
    )
    waits = asyncio.Event()

    async def wait() -> float:
        async with n2.hold(subject, task="second", wait=30, told=lambda text: waits.set()):
            return time.monotonic()

    async with n1.hold(subject, task="first"):
        second = asyncio.create_task(wait())
        await asyncio.wait_for(waits.wait(), 10)
        await asyncio.sleep(0.1)
    released = time.monotonic()
    assert await second - released < 2
    for locks in (n1, n2):
        await locks.close()
