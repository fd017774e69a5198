"""A node's way to the store in simulated time: slow, cut off, losing answers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from racimo.errors import StoreUnavailable, StoreUnknown

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from sim_node import SimNode
    from world import World

    from racimo.store.base import Change, Compare, Listing, Put, Stored

ANSWER_WITHIN_S = 3.0


class Link:
    """A node's way to the store. Requests that were sent go on when their sender is gone."""

    def __init__(self, world: World, node: SimNode) -> None:
        self.world, self.node = world, node
        self.up = asyncio.Event()
        self.up.set()
        self.slow = 0.0
        """Probability that a message takes up to 4 s."""
        self.lose_answers = 0.0

    async def travel(self) -> None:
        chance = self.world.random
        await asyncio.sleep(chance.uniform(0.5, 4.0) if chance.random() < self.slow else chance.uniform(0.0005, 0.005))
        await self.up.wait()


class LinkedStore:
    """``Store`` of one process on a node: late, cut off, paused, as its link and its node are."""

    def __init__(self, world: World, link: Link) -> None:
        self._world, self._link, self._memory = world, link, world.memory

    async def _ask(self, request: Callable[[], Any], lossy: bool) -> Any:
        await self._link.node.awake()

        async def go() -> Any:
            await self._link.travel()
            answer = await request()
            if lossy and self._world.random.random() < self._link.lose_answers:
                raise StoreUnknown("the answer was lost")
            await self._link.travel()
            return answer

        sent = self._world.spawn(go())
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await asyncio.shield(sent)
        except TimeoutError as error:
            sent.add_done_callback(lambda task: None if task.cancelled() else task.exception())
            raise (StoreUnknown if lossy else StoreUnavailable)("no answer in time") from error
        await self._link.node.awake()
        return answer

    async def get(self, key: str) -> Stored | None:
        answer: Stored | None = await self._ask(lambda: self._memory.get(key), lossy=False)
        return answer

    async def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        answer: tuple[Stored | None, ...] = await self._ask(lambda: self._memory.snapshot(keys), lossy=False)
        return answer

    async def list(self, prefix: str) -> Listing:
        answer: Listing = await self._ask(lambda: self._memory.list(prefix), lossy=False)
        return answer

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        answer: int | None = await self._ask(lambda: self._memory.txn(compares, puts, deletes), lossy=True)
        return answer

    async def watch(self, prefix: str, from_revision: int) -> AsyncGenerator[Change, None]:
        async with aclosing(self._memory.watch(prefix, from_revision)) as changes:
            async for change in changes:
                await asyncio.sleep(0.001)
                await self._link.up.wait()
                await self._link.node.awake()
                yield change

    async def revision(self) -> int:
        answer: int = await self._ask(self._memory.revision, lossy=False)
        return answer

    async def close(self) -> None:
        return
