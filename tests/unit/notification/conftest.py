"""Nodes that say and send notifications over one store in memory."""

from __future__ import annotations

import sys
import time
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from racimo.model.ha import NodeHealth, NodeStatus
from racimo.model.notification import Matcher, Target, TargetKind
from racimo.model.paths import NodePaths
from racimo.notification.delivery import Delivery
from racimo.notification.notifier import Notifier
from racimo.notification.post import Post
from racimo.notification.settings import NotificationSettings
from racimo.notification.teller import Teller
from racimo.store.layout import ROOT, Layout
from racimo.store.memory import MemoryStore
from racimo.store.mirror import Mirror
from racimo.store.sealing import Keyring, Sealing, dump_ring, new_sealing_key
from racimo.task.runner import TaskRunner

if TYPE_CHECKING:
    import asyncio
    from collections.abc import AsyncIterator, Awaitable, Callable


@dataclass
class Speaker:
    """One node's notifications."""

    notifier: Notifier
    teller: Teller
    post: Post
    mirror: Mirror
    tasks: TaskRunner
    running: asyncio.Task[None] | None = None


@dataclass
class World:
    """The store, and who sends."""

    root: Path
    store: MemoryStore
    layout: Layout
    stack: AsyncExitStack
    sealing: Sealing
    sender: str = "n1"
    sendmail: str = "/nowhere/sendmail"
    speakers: dict[str, Speaker] = field(default_factory=dict)

    async def speaker(self, name: str) -> Speaker:
        import asyncio

        mirror = Mirror(self.store, ROOT)
        await mirror.start()
        self.stack.push_async_callback(mirror.stop)
        tasks = TaskRunner(name, NodePaths(self.root / name))
        self.stack.push_async_callback(tasks.close)
        teller = Teller(self.layout, mirror, name, time.time)
        sends = lambda: self.sender == name  # noqa: E731
        post = Post(self.layout, mirror, name, self.delivery(name), sends, time.time, first_pause=0.05)
        speaker = Speaker(Notifier(teller, post, tasks, sends, gather_s=0.05), teller, post, mirror, tasks)
        speaker.running = asyncio.create_task(speaker.notifier.run())
        self.speakers[name] = speaker
        self.stack.push_async_callback(self.silence, name)
        return speaker

    def delivery(self, name: str) -> Delivery:
        return Delivery(lambda: "lab", name, self.sealing, self.sendmail)

    def settings(self, name: str) -> NotificationSettings:
        return NotificationSettings(self.layout, self.delivery(name), name, time.time, self.sealing)

    async def until(self, look: Callable[[], Awaitable[bool]]) -> None:
        """Look after each change of the store."""
        import asyncio

        changes = self.store.watch(ROOT, await self.store.revision())
        async with asyncio.timeout(10), aclosing(changes):  # type: ignore[type-var]
            while not await look():
                await anext(changes)

    async def until_quiet(self) -> None:
        """Until something was said and nothing waits to be delivered."""

        async def quiet() -> bool:
            return bool(await self.layout.said.all()) and not await self.layout.messages.all()

        await self.until(quiet)

    async def silence(self, name: str) -> None:
        """The node dies."""
        import asyncio

        speaker = self.speakers[name]
        assert speaker.running is not None
        speaker.running.cancel()
        await asyncio.wait({speaker.running})
        if not speaker.running.cancelled() and (error := speaker.running.exception()):
            raise error

    async def health(self, node: str, health: NodeHealth, why: str = "it is so") -> None:
        status = NodeStatus(node=node, health=health, why=why, proof="lease" if health is NodeHealth.FENCE else "")
        await self.store.txn([], [self.layout.node_statuses.put(node, status)])

    async def hears_all(self, url: str, name: str = "chat", **fields: str) -> None:
        """A webhook that gets everything."""
        target = Target(name=name, kind=TargetKind.WEBHOOK, url=url, **fields)  # type: ignore[arg-type]
        targets = self.layout.notification_targets
        await targets.create(name, self.sealing.seal_record(targets.key(name), target))
        await self.layout.matchers.create(f"all-{name}", Matcher(name=f"all-{name}", targets=(name,)))


@asynccontextmanager
async def a_world(root: Path) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        store = MemoryStore()
        stack.push_async_callback(store.close)
        yield World(root, store, Layout(store), stack, a_sealing(root))


def a_sealing(root: Path) -> Sealing:
    """With a key of its own."""
    key = new_sealing_key()
    (root / "sealing.json").write_bytes(dump_ring(Keyring(datacenter="dc", current=key.id, keys=(key,))))
    return Sealing(root / "sealing.json")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_world(tmp_path) as made:
        yield made
