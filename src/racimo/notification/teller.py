"""Says what is to be said, once: what was said is a record, and who makes it, in one transaction, makes the message."""

from __future__ import annotations

import uuid
from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

import structlog

from racimo.errors import StoreUnavailable
from racimo.model.notification import Message, Said, Severity
from racimo.notification.events import Begin, Over, V, fields_of, folded, text_of, title_of
from racimo.notification.matching import receivers
from racimo.store.mirror import MirroredCollection

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from racimo.notification.events import Verdict
    from racimo.store.base import Compare, Put
    from racimo.store.collection import Held
    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror

log = structlog.get_logger()

KEPT = 500
"""So many messages wait at most; of more, the oldest go, and the log says so."""
ATTEMPTS = 8
CATCH_UP_S = 2.0


class Teller:
    """One node's. ``wall`` gives seconds since the epoch. With ``node_id``, a machine that was removed says nothing."""

    def __init__(self, layout: Layout, mirror: Mirror, node: str, wall: Callable[[], float], node_id: str = "") -> None:
        self.layout, self.mirror, self.node, self.wall, self._node_id = layout, mirror, node, wall, node_id
        self._nodes = MirroredCollection(mirror, layout.nodes)
        self.said = MirroredCollection(mirror, layout.said)
        self._targets = MirroredCollection(mirror, layout.notification_targets)
        self._matchers = MirroredCollection(mirror, layout.matchers)
        self._messages = MirroredCollection(mirror, layout.messages)
        self._last_id = 0

    async def tell(self, verdicts: Iterable[Verdict]) -> None:
        """Say what is news, in this order. Raises ``StoreError``: then it is unknown what was said; do it again."""
        for kind, run in groupby(self._news(verdicts), key=type):
            if kind is Begin:
                await self._all(folded(one for one in run if isinstance(one, Begin)))
            else:
                await self._all(folded(one for one in run if isinstance(one, Over)))

    def _news(self, verdicts: Iterable[Verdict]) -> list[Verdict]:
        """Without what was said already, and without the end of what was never said to begin."""
        news: list[Verdict] = []
        said: dict[str, bool] = {}
        for verdict in verdicts:
            key, begins = verdict.key, isinstance(verdict, Begin)
            if said.setdefault(key, self.said.find(key) is not None) is not begins:
                news.append(verdict)
                said[key] = begins
        return news

    async def forget(self, key: str) -> None:
        """Forget that it was said, and say nothing."""
        held = self.said.find(key)
        if held is not None:
            await self.layout.store.txn([held.compare], deletes=[held.key])

    def address(self, message: Message) -> Message:
        """``message`` with those who are to have it, as the matchers say."""
        targets = {name: held.record for name, held in self._targets.all().items()}
        return replace(message, targets=receivers(message, self._matchers.records(), targets))

    def known_targets(self, names: Iterable[str]) -> tuple[str, ...]:
        """Those of ``names`` that there still are and that are not switched off."""
        found = {name: self._targets.find(name) for name in set(names)}
        return tuple(sorted(name for name, held in found.items() if held is not None and not held.record.disable))

    def message(self, group: tuple[V, ...]) -> Message:
        """One message about all of ``group``, nobody named to have it yet."""
        now, first = self.wall(), group[0]
        self._last_id = max(self._last_id + 1, int(now * 1000))  # two of one millisecond stay in order
        return Message(
            id=f"{self._last_id:014d}-{uuid.uuid4().hex[:8]}", type=first.type, title=title_of(group),
            severity=first.severity if isinstance(first, Begin) else Severity.INFO, text=text_of(group),
            fields=fields_of(group), over=isinstance(first, Over), at=now, by=self.node,
        )  # fmt: skip

    # one message

    async def _all(self, groups: Iterable[tuple[Begin, ...] | tuple[Over, ...]]) -> None:
        for group in list(groups):
            await self._say(group)

    async def _say(self, group: tuple[Begin, ...] | tuple[Over, ...]) -> None:
        for _ in range(ATTEMPTS):
            made = self._transaction(group)
            if made is None:
                return
            message, compares, puts, deletes = made
            if self._node_id:
                own = self._nodes.find(self.node)
                if own is None or own.record.id != self._node_id:
                    log.info("a removed machine says nothing", title=message.title)
                    return
                compares.append(own.compare)
            revision = await self.layout.store.txn(compares, puts, deletes)
            if revision is not None:
                _to_the_log(message)
                await self.mirror.wait_for(revision, CATCH_UP_S)
                return
            await self.mirror.wait_for(await self.layout.store.revision(), CATCH_UP_S)
        raise StoreUnavailable(f"'{group[0].title}' was not said", why="others write the same records all the time")

    def _transaction(
        self, group: tuple[Begin, ...] | tuple[Over, ...]
    ) -> tuple[Message, list[Compare], list[Put], list[str]] | None:
        """None: nothing of it is news any more."""
        begins = tuple(one for one in group if isinstance(one, Begin) and self.said.find(one.key) is None)
        ended = [(one, held) for one in group if isinstance(one, Over) and (held := self.said.find(one.key))]
        if begins:
            message = self.address(self.message(begins))
            saids = [self._said(begin, message) for begin in begins]
            puts = [self.layout.said.put(said.key, said) for said in saids]
            outbox, dropped = self._outbox(message)
            return message, [self.layout.said.absent(said.key) for said in saids], [*puts, *outbox], dropped
        if not ended:
            return None
        helds: list[Held[Said]] = [held for _, held in ended]
        told = self.known_targets(name for held in helds for name in held.record.targets)
        message = replace(
            self.message(tuple(over for over, _ in ended)), targets=told, about=helds[0].record.message
        )  # fmt: skip
        outbox, dropped = self._outbox(message)
        return message, [held.compare for held in helds], outbox, [*(held.key for held in helds), *dropped]

    def _said(self, begin: Begin, message: Message) -> Said:
        return Said(
            key=begin.key, type=begin.type, title=begin.title, fields=begin.fields, targets=message.targets,
            message=message.id, since=message.at,
        )  # fmt: skip

    def _outbox(self, message: Message) -> tuple[list[Put], list[str]]:
        """The message on its way, and the oldest ones where too many wait."""
        if not message.targets:
            return [], []
        waiting = sorted(self._messages.all().values(), key=lambda held: held.record.id)
        surplus = waiting[: max(0, len(waiting) + 1 - KEPT)][:10]
        for held in surplus:
            log.error("a notification is dropped: too many wait", title=held.record.title, kept=KEPT)
        return [self.layout.messages.put(message.id, message)], [held.key for held in surplus]


def _to_the_log(message: Message) -> None:
    write = {Severity.ERROR: log.error, Severity.WARNING: log.warning}.get(message.severity, log.info)
    write(
        f"notification: {message.title}", type=str(message.type), severity=str(message.severity),
        text=" ".join(message.text.split()), targets=",".join(message.targets), **message.fields,
    )  # fmt: skip
