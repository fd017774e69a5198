"""What a task waits by: news, or its time."""

from __future__ import annotations

import asyncio

import pytest

from racimo.ha.simulate.loop import run, virtual_loop
from racimo.ha.wake import Wake


def test_it_waits_until_its_time_when_nobody_rings() -> None:
    async def waits() -> float:
        await Wake().wait(2.5)
        return virtual_loop().time()

    assert run(waits()) == 2.5


def test_news_ends_the_wait_and_every_one_after_it_until_it_is_cleared() -> None:
    async def waits() -> list[float]:
        wake, ends = Wake(), []
        virtual_loop().call_later(1.0, wake.ring)
        for _ in range(2):
            await wake.wait(10.0)
            ends.append(virtual_loop().time())
        wake.clear()
        await wake.wait(10.0)
        return [*ends, virtual_loop().time()]

    assert run(waits()) == [1.0, 1.0, 11.0]


def test_a_cancelled_wait_leaves_nothing_that_rings_later() -> None:
    async def waits() -> None:
        wake = Wake()
        task = asyncio.create_task(wake.wait(5.0))
        await asyncio.sleep(1.0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        wake.ring()
        await wake.wait(5.0)
        assert virtual_loop().time() == 1.0

    run(waits())
