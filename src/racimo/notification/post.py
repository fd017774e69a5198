"""Delivers the messages that wait: each target for itself, in order, with pauses that grow while it does not answer."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreError
from racimo.model.notification import Origin, TargetState
from racimo.notification.undelivered import Undelivered
from racimo.store.mirror import MirroredCollection

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.model.notification import Message
    from racimo.notification.delivery import Deliver
    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror

log = structlog.get_logger()

LOOK_S = 5.0
"""How often it is looked for work when nothing calls for it."""
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 300.0
REFUSALS = 3
"""So often a message is tried on a target that answers but does not want it."""
GIVE_UP_S = 86400.0
"""So old a message may get."""
LOCAL = 20
"""So many messages past the store wait at most."""
CATCH_UP_S = 2.0


class Post:
    """One node's. It delivers what waits in the store only while ``is_sender()``: one node in the datacenter is."""

    def __init__(
        self,
        layout: Layout,
        mirror: Mirror,
        node: str,
        deliver: Deliver,
        is_sender: Callable[[], bool],
        wall: Callable[[], float],
        first_pause: float = FIRST_PAUSE_S,
    ) -> None:
        self.layout, self.mirror, self.node, self._deliver = layout, mirror, node, deliver
        self._is_sender, self._wall, self._first_pause = is_sender, wall, first_pause
        self._messages = MirroredCollection(mirror, layout.messages)
        self._targets = MirroredCollection(mirror, layout.notification_targets)
        self._states = MirroredCollection(mirror, layout.target_states)
        self._local: dict[str, Message] = {}
        self._had: set[tuple[str, str]] = set()
        self._failing: dict[str, str] = {}
        self._busy: set[str] = set()
        self._news = asyncio.Event()

    def wake(self) -> None:
        """Look anew: a message may be there, or a target may have been changed."""
        self._news.set()
        self._news = asyncio.Event()

    def send_past_the_store(self, message: Message) -> None:
        """Deliver ``message`` from this node's memory: the store takes nothing now. The oldest of too many go."""
        self._local[message.id] = message
        while len(self._local) > LOCAL:
            dropped = self._local.pop(min(self._local))
            log.error("a notification is dropped: too many wait", title=dropped.title, kept=LOCAL)
        self.wake()

    async def run(self) -> None:
        """Until cancelled. A target that hangs holds up no other."""
        async with asyncio.TaskGroup() as group:
            while True:
                for name in self._wanted() - self._busy:
                    self._busy.add(name)
                    group.create_task(self._drain(name), name=f"notifications to {name}")
                await self._wait(self._news, LOOK_S)

    # one target

    async def _drain(self, name: str) -> None:
        tries = 0
        try:
            while (message := self._next(name)) is not None:
                target = self._targets.find(name)
                if (message.id, name) in self._had or target is None or target.record.disable:
                    await self._settle(message, name)
                    continue
                try:
                    await self._deliver(message, target.record)
                except Undelivered as failure:
                    tries += 1
                    await self._note(name, failure.why)
                    if not self._is_given_up(message, name, failure, tries):
                        await self._pause(name, tries)
                        continue
                else:
                    log.info("notification delivered", title=message.title, target=name)
                    await self._note(name, "")
                tries = 0
                self._had.add((message.id, name))
                await self._settle(message, name)
        finally:
            self._busy.discard(name)

    def _is_given_up(self, message: Message, name: str, failure: Undelivered, tries: int) -> bool:
        if failure.passed_over:
            log.info("a notification is not sent by default", title=message.title, target=name, why=failure.why)
            return True
        refused, old = failure.refused and tries >= REFUSALS, self._wall() - message.at > GIVE_UP_S
        if refused or old:
            log.error("a notification is given up", title=message.title, target=name, why=failure.why, tries=tries)
        return refused or old

    def _waiting(self) -> list[Message]:
        stored = self._messages.records() if self._is_sender() else []
        return sorted([*self._local.values(), *stored], key=lambda message: message.id)

    def _wanted(self) -> set[str]:
        return {name for message in self._waiting() for name in message.targets}

    def _next(self, name: str) -> Message | None:
        return next((message for message in self._waiting() if name in message.targets), None)

    async def _pause(self, name: str, tries: int) -> None:
        """Shorter if somebody changes the target meanwhile."""
        before = self._targets.find(name)
        loop = asyncio.get_running_loop()
        until = loop.time() + min(LONGEST_PAUSE_S, self._first_pause * 2 ** min(tries - 1, 16))
        while (left := until - loop.time()) > 0 and self._targets.find(name) == before:
            await self._wait(self._news, left)

    async def _settle(self, message: Message, name: str) -> None:
        """Cross ``name`` off. If the store does not take that, it is remembered here and done later."""
        if message.id in self._local:
            rest = tuple(other for other in self._local[message.id].targets if other != name)
            if rest:
                self._local[message.id] = replace(self._local[message.id], targets=rest)
            else:
                del self._local[message.id]
            self._had.discard((message.id, name))
            return
        try:
            await self._cross_off(message.id, name)
            self._had.discard((message.id, name))
        except StoreError as error:
            log.info("a delivered notification is crossed off later", target=name, why=str(error))
            await self._wait(asyncio.Event(), self._first_pause)

    async def _cross_off(self, message_id: str, name: str) -> None:
        messages, store = self.layout.messages, self.layout.store
        revision: int | None = None
        while revision is None:
            held = await messages.find(message_id)
            if held is None:
                revision = await store.revision()
                break
            rest = tuple(other for other in held.record.targets if other != name)
            puts = [messages.put(message_id, replace(held.record, targets=rest), held)] if rest else []
            revision = await store.txn([held.compare], puts, [] if rest else [held.key])
        await self.mirror.wait_for(revision, CATCH_UP_S)

    async def _note(self, name: str, why: str) -> None:
        """Write down how the target is, where that is news. A store that does not answer is no reason to wait."""
        before = self._failing.get(name)
        if before is None:
            held = self._states.find(name)
            before = held.record.why if held else None
        self._failing[name] = why
        if before == why:
            return
        if why:
            target = self._targets.find(name)
            by_default = target is not None and target.record.origin is Origin.BUILTIN
            write = log.info if by_default else log.warning
            write("a target of notifications does not take them", target=name, why=why)
        elif before:
            log.info("a target of notifications takes them again", target=name)
        state = TargetState(target=name, ok=not why, why=why, by=self.node, since=self._wall())
        try:
            await self.layout.store.txn([], [self.layout.target_states.put(name, state)])
        except StoreError as error:
            log.info("a target's state was not written down", target=name, why=str(error))

    @staticmethod
    async def _wait(event: asyncio.Event, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await event.wait()
        except TimeoutError:
            return
