"""Follows the records and this node's tasks, and has the teller say what is news."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreError, WatchLost
from racimo.model.notification import EventType
from racimo.notification.judge import judge_node, judge_service, judge_task, moved_from
from racimo.store.layout import NOTIFICATIONS
from racimo.store.mirror import MirroredCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from racimo.model.ha import NodeStatus, Service
    from racimo.model.notification import Said
    from racimo.notification.events import Verdict
    from racimo.notification.post import Post
    from racimo.notification.teller import Teller
    from racimo.store.base import Change
    from racimo.task.runner import TaskRunner

log = structlog.get_logger()

GATHER_S = 0.5
"""How long it is waited for more of the same, so that a node's fifty guests make one message."""
RETRY_S = 2.0
LOOK_S = 3600.0
"""How often all is looked at anew, whatever the watch told."""
TASKS_FOR_S = 30 * 86400.0
"""A failed task that nobody tried again is forgotten after so long; if it fails again then, that is news."""
PENDING = 10_000


class Notifier:
    """One node's. What HA decides is told by the sender alone; of its tasks and its certificate each node itself."""

    def __init__(
        self, teller: Teller, post: Post, tasks: TaskRunner, is_sender: Callable[[], bool], gather_s: float = GATHER_S
    ) -> None:
        self.teller, self.post, self._tasks, self._is_sender = teller, post, tasks, is_sender
        self._gather_s = gather_s
        layout, self._mirror = teller.layout, teller.mirror
        self._statuses = MirroredCollection(self._mirror, layout.node_statuses)
        self._services = MirroredCollection(self._mirror, layout.services)
        self._nodes = MirroredCollection(self._mirror, layout.nodes)
        self._manager = layout.manager.prefix
        self._pending: deque[Verdict] = deque(maxlen=PENDING)
        self._news = asyncio.Event()
        self._whole = True

    def submit(self, verdicts: Iterable[Verdict]) -> None:
        """What this node found out about itself."""
        self._pending.extend(verdicts)
        self._news.set()

    async def run(self) -> None:
        """Until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.post.run(), name="post")
            group.create_task(self._follow_records(), name="records")
            group.create_task(self._follow_tasks(), name="tasks")
            group.create_task(self._tell(), name="teller")

    async def _follow_tasks(self) -> None:
        with self._tasks.subscribe() as changes:
            async for task in changes:
                if not task.running:
                    self.submit(judge_task(task))

    async def _follow_records(self) -> None:
        while True:
            changes = self._mirror.changes()
            self._look_at_all()
            try:
                async for change in changes:
                    self._judge(change)
                return
            except WatchLost as error:
                log.info("what is to be said is looked up anew", why=str(error))
            finally:
                await changes.aclose()

    def _look_at_all(self) -> None:
        self._whole = True
        self._news.set()

    def _judge(self, change: Change) -> None:
        for event in change.events:
            if event.key.startswith(NOTIFICATIONS):
                self.post.wake()
            elif event.key.startswith(self._manager):
                self.post.wake()
                self._look_at_all()
            elif self._is_sender():
                self._judge_record(event.key)

    def _judge_record(self, key: str) -> None:
        try:
            for collection in (self._statuses, self._services):
                prefix = collection.collection.prefix
                if key.startswith(prefix):
                    name = key.removeprefix(prefix)
                    self.submit(self._node(name) if collection is self._statuses else self._service(name))
        except StoreError as error:
            log.warning("a record is passed over", key=key, why=str(error))

    def _node(self, name: str) -> list[Verdict]:
        held = self._statuses.find(name)
        return judge_node(name, held.record if held else None)

    def _service(self, sid: str) -> list[Verdict]:
        held = self._services.find(sid)
        if held is None:
            return judge_service(sid, None, {})
        origin = moved_from(held.record)
        status = self._statuses.find(origin) if origin else None
        return judge_service(sid, held.record, {origin: status.record} if status else {})

    def _all_statuses(self) -> dict[str, NodeStatus]:
        return {name: held.record for name, held in self._statuses.all().items()}

    async def _tell(self) -> None:
        while True:
            try:
                async with asyncio.timeout(LOOK_S):
                    await self._news.wait()
                await asyncio.sleep(self._gather_s)
            except TimeoutError:
                self._whole = True
            self._news.clear()
            taken = list(self._pending)
            self._pending.clear()
            try:
                await self.teller.tell(taken)
                taken = []
                if self._whole:
                    self._whole = False
                    await self._tell_all()
            except StoreError as error:
                log.info("nothing can be said now", why=str(error))
                last = {verdict.key: verdict for verdict in taken}  # some of them may have been said
                self._pending.extendleft(reversed(last.values()))
                self._look_at_all()
                await asyncio.sleep(RETRY_S)

    async def _tell_all(self) -> None:
        """Whatever the records say now: after this node became the sender, and after an outage."""
        if not self._is_sender():
            return
        statuses = self._all_statuses()
        services: dict[str, Service] = {sid: held.record for sid, held in self._services.all().items()}
        verdicts: list[Verdict] = []
        for name, status in statuses.items():
            verdicts += judge_node(name, status)
        for sid, service in services.items():
            verdicts += judge_service(sid, service, statuses)
        for key, held in self.teller.said.all().items():
            kind, _, subject = key.partition(":")
            if kind in ("fencing", "power") and subject not in statuses:
                verdicts += judge_node(subject, None)
            elif kind in ("error", "recovery") and subject not in services:
                verdicts += judge_service(subject, None, statuses)
            elif self._is_pointless(kind, subject, held.record):
                await self.teller.forget(key)
        await self.teller.tell(verdicts)

    def _is_pointless(self, kind: str, subject: str, said: Said) -> bool:
        """Nobody waits for its end any more."""
        if kind == "certificate":
            return subject != "authority" and self._nodes.find(subject) is None
        if kind == "task" and self._nodes.find(said.fields.get("node", "")) is None:
            return True
        return said.type is EventType.TASK and self.teller.wall() - said.since > TASKS_FOR_S
