"""Targets and matchers as administrators handle them."""

from __future__ import annotations

import re
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeVar

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound
from racimo.model.notification import EventType, Matcher, Message, Origin, Severity, Target, TargetKind
from racimo.model.record import Record
from racimo.notification.calendar import parse_span
from racimo.notification.matching import parse_field
from racimo.notification.template import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.model.notification import TargetState
    from racimo.notification.delivery import Deliver
    from racimo.store.collection import Collection
    from racimo.store.layout import Layout
    from racimo.store.sealing import Sealing

R = TypeVar("R", bound=Record)
T = TypeVar("T", Matcher, Target)
NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{1,63}")
ADDRESS = re.compile(r"[^\s@,;<>\x00-\x1f]+@[^\s@,;<>\x00-\x1f]+|[a-z_][a-z0-9_-]*")
HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
METHODS = ("post", "put", "get")


@dataclass(frozen=True, slots=True)
class TargetLine:
    """A target, the matchers that name it, and how it is."""

    target: Target
    matchers: tuple[str, ...]
    state: TargetState | None


class NotificationSettings:
    """What is refused: names and values that cannot be, and removing a target that a matcher still names."""

    def __init__(
        self, layout: Layout, deliver: Deliver, node: str, wall: Callable[[], float], sealing: Sealing
    ) -> None:
        self._layout, self._deliver, self._node, self._wall = layout, deliver, node, wall
        self._sealing = sealing

    async def targets(self) -> list[TargetLine]:
        """By name."""
        layout = self._layout
        targets, matchers = await layout.notification_targets.records(), await layout.matchers.records()
        states = {state.target: state for state in await layout.target_states.records()}
        return [
            TargetLine(
                target,
                tuple(sorted(matcher.name for matcher in matchers if target.name in matcher.targets)),
                states.get(target.name),
            )
            for target in sorted(targets, key=lambda target: target.name)
        ]

    async def target(self, name: str, kind: TargetKind | None = None) -> Target:
        """``NotFound`` if there is none of that name (and kind)."""
        held = await self._layout.notification_targets.find(name)
        if held is None or kind not in (None, held.record.kind):
            what = f"{kind} endpoint" if kind else "target"
            raise NotFound(f"{what} '{name}' does not exist", todo="See: racimo notification target list")
        return held.record

    async def add_target(self, target: Target) -> None:
        """Its secrets, in the clear here, are sealed. Raises ``BadParameter`` for what cannot be, ``AlreadyExists``."""
        check_target(target)
        targets = self._layout.notification_targets
        await _create(targets, target.name, self._sealing.seal_record(targets.key(target.name), target), "target")

    async def change_target(self, name: str, kind: TargetKind | None, change: Callable[[Target], Target]) -> None:
        """``change`` must be pure. What it leaves as it was stays sealed as it stands, opened or not."""
        key = self._layout.notification_targets.key(name)

        def changed(target: Target) -> Target:
            opened = self._sealing.open_what_opens(key, target)
            new = _by_hand(change(opened))
            check_target(new)
            return self._sealing.seal_record(key, new, before=target, opened=opened)

        await self.target(name, kind)
        await self._layout.notification_targets.update(name, changed)

    async def remove_target(self, name: str, kind: TargetKind | None = None) -> None:
        """Refused while a matcher names it."""
        await self.target(name, kind)
        using = [matcher.name for matcher in await self._layout.matchers.records() if name in matcher.targets]
        if using:
            raise Conflict(
                f"Target '{name}' is in use", why=f"the matchers {', '.join(using)} name it",
                todo=f"Change or remove them first: racimo notification matcher remove {using[0]}",
            )  # fmt: skip
        held = await self._layout.notification_targets.hold(name)
        state = self._layout.target_states.key(name)
        if await self._layout.store.txn([held.compare], deletes=[held.key, state]) is None:
            raise Conflict(f"Target '{name}' was not removed", why="somebody changed it just now", todo="Try again")

    async def test(self, name: str) -> None:
        """Send one message to the target now, from this node. Raises ``Undelivered``."""
        target, now = await self.target(name), self._wall()
        message = Message(
            id=f"{int(now * 1000):014d}-{uuid.uuid4().hex[:8]}", type=EventType.TEST, severity=Severity.INFO,
            title="A test", text=f"This is a test of the target '{name}', sent by {self._node}.", at=now,
            by=self._node, fields={"hostname": self._node, "node": self._node}, targets=(name,),
        )  # fmt: skip
        await self._deliver(message, target)

    async def matchers(self) -> list[Matcher]:
        """By name."""
        return sorted(await self._layout.matchers.records(), key=lambda matcher: matcher.name)

    async def matcher(self, name: str) -> Matcher:
        """``NotFound`` if there is none of that name."""
        held = await self._layout.matchers.find(name)
        if held is None:
            raise NotFound(f"matcher '{name}' does not exist", todo="See: racimo notification matcher list")
        return held.record

    async def add_matcher(self, matcher: Matcher) -> None:
        """Raises ``BadParameter`` for one that cannot be, ``AlreadyExists``."""
        await self._check_matcher(matcher)
        await _create(self._layout.matchers, matcher.name, matcher, "matcher")

    async def change_matcher(self, name: str, change: Callable[[Matcher], Matcher]) -> None:
        """``change`` must be pure."""
        await self._check_matcher(change(await self.matcher(name)))
        await self._layout.matchers.update(name, lambda matcher: _by_hand(change(matcher)))

    async def remove_matcher(self, name: str) -> None:
        """Its targets stay."""
        await self.matcher(name)
        await self._layout.matchers.remove(name)

    async def _check_matcher(self, matcher: Matcher) -> None:
        problems = _check_name(matcher.name)
        known = await self._layout.notification_targets.all()
        if strange := sorted(set(matcher.targets) - set(known)):
            problems["target"] = f"there is no target {', '.join(strange)}; see: racimo notification target list"
        try:
            for condition in matcher.fields:
                parse_field(condition)
        except ValueError as error:
            problems["match-field"] = str(error)
        try:
            for span in matcher.calendar:
                parse_span(span)
        except ValueError as error:
            problems["match-calendar"] = str(error)
        if problems:
            raise BadParameter(problems)


def _by_hand(record: T) -> T:
    """What a person has changed is not as it was built in any more."""
    return replace(record, origin=Origin.MODIFIED) if record.origin is Origin.BUILTIN else record


async def _create(collection: Collection[R], name: str, record: R, what: str) -> None:
    if await collection.store.txn([collection.absent(name)], [collection.put(name, record)]) is None:
        raise AlreadyExists(f"{what} '{name}' already exists", todo=f"See: racimo notification {what} set {name}")


def _check_name(name: str) -> dict[str, str]:
    if NAME.fullmatch(name):
        return {}
    return {"name": f"'{name}' is not a name: a letter, then letters, digits, '.', '-' and '_', 64 at most"}


def check_target(target: Target) -> None:
    """Raises ``BadParameter`` naming all that is wrong with it."""
    problems = _check_name(target.name)
    problems |= _check_webhook(target) if target.kind is TargetKind.WEBHOOK else _check_mail(target)
    if problems:
        raise BadParameter(problems)


def _check_mail(target: Target) -> dict[str, str]:
    problems = {}
    if not target.mailto:
        problems["mailto"] = "is missing: who is to have the mail?"
    if strange := [name for name in target.mailto if not ADDRESS.fullmatch(name)]:
        problems["mailto"] = f"'{strange[0]}' is not a mail address"
    if target.from_address and not ADDRESS.fullmatch(target.from_address):
        problems["from-address"] = f"'{target.from_address}' is not a mail address"
    if target.kind is TargetKind.SMTP:
        if not re.fullmatch(r"[A-Za-z0-9.:_-]+", target.server):
            problems["server"] = f"'{target.server}' is not a host name or an address"
        if not target.from_address:
            problems["from-address"] = "is missing, and it is not optional for a mail server"
        if target.password and not target.username:
            problems["username"] = "is missing, and there is a password"
    return problems


def _check_webhook(target: Target) -> dict[str, str]:
    problems = {}
    if not re.match(r"https?://[^\s/]+", target.url):
        problems["url"] = "is not an http:// or https:// URL"
    if target.method not in METHODS:
        problems["method"] = f"is not one of {', '.join(METHODS)}"
    if strange := [name for name in target.headers if not HEADER.fullmatch(name)]:
        problems["header"] = f"'{strange[0]}' is not the name of a header"
    if [name for name, value in target.headers.items() if re.search(r"[\r\n\x00]", value)]:
        problems["header"] = "a header's value has a line break in it"
    places = {"url": [target.url], "body": [target.body], "header": list(target.headers.values())}
    for name, templates in places.items():
        try:
            for template in templates:
                check(template, target.secrets)
        except ValueError as error:
            problems[name] = str(error)
    return problems
