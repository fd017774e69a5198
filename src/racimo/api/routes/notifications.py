"""Notifications: where they go, and which go there. Paths and names are those of the Proxmox VE API."""

from __future__ import annotations

import base64
import binascii
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from pydantic import Field

from racimo.api.endpoint import NODES, Routes, privilege
from racimo.api.parameters import Parameters, or_kept
from racimo.errors import BadParameter
from racimo.model.notification import MailSecurity, Matcher, MatchMode, Severity, Target, TargetKind
from racimo.notification.quorum import QuorumWatch
from racimo.notification.settings import NotificationSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pydantic import JsonValue

    from racimo.api.context import Context

PLACE = "/mapping/notifications"
AUDIT = privilege(PLACE, "Mapping.Audit", "Mapping.Use", "Mapping.Modify")
MODIFY = privilege(PLACE, "Mapping.Modify")
TEST_TIMEOUT_S = 45.0

routes = Routes()

R = TypeVar("R", Target, Matcher)

Comment = Annotated[str | None, Field(max_length=4096)]
Disable = Annotated[bool | None, Field(description="Switch it off.")]
MailTo = Annotated[tuple[str, ...] | None, Field(description="Addresses that get the mail.")]
From = Annotated[str | None, Field(alias="from-address", description="The sender's address.")]
Author = Annotated[str | None, Field(description="The sender's name.")]


class OfTarget(Parameters):
    """One target."""

    name: Annotated[str, Field(description="Its name.")]


class TargetOptions(OfTarget):
    """What can be set of any target."""

    comment: Comment = None
    disable: Disable = None
    delete: Annotated[tuple[str, ...], Field(description="Set these back to their defaults.")] = ()

    def onto(self, target: Target) -> Target:
        """``target`` with what was given. Raises ``BadParameter``."""
        return replace(
            target, comment=or_kept(self.comment, target.comment), disable=or_kept(self.disable, target.disable)
        )


class MailOptions(TargetOptions):
    """A target of mails, by the node's own mail program."""

    mailto: MailTo = None
    from_address: From = None
    author: Author = None

    def onto(self, target: Target) -> Target:
        target = super().onto(target)
        return replace(
            target, mailto=or_kept(self.mailto, target.mailto), author=or_kept(self.author, target.author),
            from_address=or_kept(self.from_address, target.from_address),
        )  # fmt: skip


class SmtpOptions(MailOptions):
    """A target of mails, by a mail server."""

    server: Annotated[str | None, Field(description="The mail server: a name or an address.")] = None
    port: Annotated[int | None, Field(ge=1, le=65535)] = None
    mode: Annotated[MailSecurity | None, Field(description="tls, starttls or insecure.")] = None
    username: str | None = None
    password: Annotated[str | None, Field(description="Never shown again.", repr=False)] = None

    def onto(self, target: Target) -> Target:
        target = super().onto(target)
        return replace(
            target, server=or_kept(self.server, target.server), port=or_kept(self.port, target.port),
            mode=or_kept(self.mode, target.mode), username=or_kept(self.username, target.username),
            password=or_kept(self.password, target.password),
        )  # fmt: skip


class WebhookOptions(TargetOptions):
    """A target that is called by HTTP. ``header`` and ``secret``: ``name=NAME,value=BASE64``; ``body``: base64."""

    whole: ClassVar[frozenset[str]] = frozenset({"header", "secret"})
    url: Annotated[str | None, Field(description="A template: may hold {{ secrets.NAME }}.", repr=False)] = None
    method: Annotated[str | None, Field(description="post, put or get.")] = None
    header: Annotated[list[str] | None, Field(description="name=NAME,value=BASE64; never shown again.")] = None
    secret: Annotated[list[str] | None, Field(description="name=NAME,value=BASE64; never shown again.")] = None
    body: Annotated[str | None, Field(description="A template in base64; without it the whole as JSON.")] = None

    def onto(self, target: Target) -> Target:
        target = super().onto(target)
        return replace(
            target, url=or_kept(self.url, target.url), method=or_kept(self.method, target.method),
            headers=target.headers if self.header is None else _pairs("header", self.header),
            secrets=target.secrets if self.secret is None else _pairs("secret", self.secret),
            body=target.body if self.body is None else _decoded("body", self.body),
        )  # fmt: skip


class OfMatcher(Parameters):
    """One matcher."""

    name: Annotated[str, Field(description="Its name.")]


class MatcherOptions(OfMatcher):
    """What can be set of a matcher."""

    whole: ClassVar[frozenset[str]] = frozenset({"match-field", "match-calendar"})
    target: Annotated[tuple[str, ...] | None, Field(description="The targets that get what it takes.")] = None
    severity: Annotated[tuple[Severity, ...] | None, Field(alias="match-severity")] = None
    fields: Annotated[
        list[str] | None, Field(alias="match-field", description="exact:FIELD=VALUE,… or regex:FIELD=PATTERN")
    ] = None
    calendar: Annotated[list[str] | None, Field(alias="match-calendar", description="Such as mon..fri 8:00-17:00")] = (
        None
    )
    mode: Annotated[MatchMode | None, Field(description="all conditions, or any.")] = None
    invert: Annotated[bool | None, Field(alias="invert-match", description="Take what it would not.")] = None
    comment: Comment = None
    disable: Disable = None
    delete: Annotated[tuple[str, ...], Field(description="Set these back to their defaults.")] = ()

    def onto(self, matcher: Matcher) -> Matcher:
        """``matcher`` with what was given."""
        return replace(
            matcher, targets=matcher.targets if self.target is None else tuple(sorted(set(self.target))),
            severities=or_kept(self.severity, matcher.severities),
            fields=matcher.fields if self.fields is None else tuple(self.fields),
            calendar=matcher.calendar if self.calendar is None else tuple(self.calendar),
            mode=or_kept(self.mode, matcher.mode), invert=or_kept(self.invert, matcher.invert),
            comment=or_kept(self.comment, matcher.comment), disable=or_kept(self.disable, matcher.disable),
        )  # fmt: skip


_MATCHER_FIELDS = {
    "target": "targets", "match-severity": "severities", "match-field": "fields", "match-calendar": "calendar",
    "mode": "mode", "invert-match": "invert", "comment": "comment", "disable": "disable",
}  # fmt: skip
_TARGET_FIELDS = {
    "comment": "comment", "disable": "disable", "mailto": "mailto", "from-address": "from_address",
    "author": "author", "port": "port", "mode": "mode", "username": "username", "password": "password",
    "header": "headers", "secret": "secrets", "body": "body", "method": "method",
}  # fmt: skip
KINDS: dict[TargetKind, type[TargetOptions]] = {
    TargetKind.SMTP: SmtpOptions, TargetKind.WEBHOOK: WebhookOptions, TargetKind.SENDMAIL: MailOptions
}  # fmt: skip


def _deleted(delete: Sequence[str], known: Mapping[str, str]) -> list[str]:
    """The record's fields that go back to their defaults. Raises ``BadParameter`` for a name that is none."""
    unknown = sorted(set(delete) - set(known))
    if unknown:
        raise BadParameter({"delete": f"'{unknown[0]}' cannot be deleted; {', '.join(known)} can"})
    return [known[name] for name in delete]


def _set_back(record: R, fields: Sequence[str], empty: R) -> R:
    return replace(record, **{name: getattr(empty, name) for name in fields})


def _pairs(parameter: str, entries: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for entry in entries:
        words = dict(word.partition("=")[::2] for word in entry.split(","))
        if set(words) != {"name", "value"} or not words["name"]:
            raise BadParameter({parameter: "is not like name=NAME,value=BASE64"})
        pairs[words["name"]] = _decoded(parameter, words["value"])
    return pairs


def _decoded(parameter: str, text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise BadParameter({parameter: "is not UTF-8 text in base64"}) from None


@routes.add("GET", "/cluster/notifications", permission=AUDIT, summary="What there is about notifications")
async def index(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """An index."""
    return [{"name": name} for name in ("endpoints", "matcher-fields", "matchers", "targets")]


@routes.add("GET", "/cluster/notifications/endpoints", permission=AUDIT, summary="The kinds of targets")
async def kinds(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """An index."""
    return [{"name": str(kind)} for kind in KINDS]


def _register(kind: TargetKind, options: type[TargetOptions]) -> None:
    """The rows of one kind of targets."""
    base = f"/cluster/notifications/endpoints/{kind}"

    @routes.add("GET", base, permission=AUDIT, summary=f"The targets of kind {kind}")
    async def list_endpoints(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
        lines = await context.services.need(NotificationSettings).targets()
        return [shown(line.target) for line in lines if line.target.kind is kind]

    @routes.add("GET", f"{base}/{{name}}", permission=AUDIT, parameters=OfTarget, summary=f"A target of kind {kind}")
    async def get_endpoint(context: Context, parameters: OfTarget) -> dict[str, JsonValue]:
        return shown(await context.services.need(NotificationSettings).target(parameters.name, kind))

    @routes.add("POST", base, permission=MODIFY, parameters=options, summary=f"Add a target of kind {kind}")
    async def add_endpoint(context: Context, parameters: TargetOptions) -> None:
        target = parameters.onto(Target(name=parameters.name, kind=kind))
        await context.services.need(NotificationSettings).add_target(target)

    @routes.add(
        "PUT", f"{base}/{{name}}", permission=MODIFY, parameters=options, summary=f"Change a target of kind {kind}"
    )
    async def change_endpoint(context: Context, parameters: TargetOptions) -> None:
        empty, deleted = Target(name=parameters.name, kind=kind), _deleted(parameters.delete, _TARGET_FIELDS)
        parameters.onto(empty)  # what cannot be read is refused before the target is looked for
        await context.services.need(NotificationSettings).change_target(
            parameters.name, kind, lambda target: _set_back(parameters.onto(target), deleted, empty)
        )

    @routes.add(
        "DELETE", f"{base}/{{name}}", permission=MODIFY, parameters=OfTarget, summary=f"Remove a target of kind {kind}"
    )
    async def remove_endpoint(context: Context, parameters: OfTarget) -> None:
        await context.services.need(NotificationSettings).remove_target(parameters.name, kind)


for _kind, _options in KINDS.items():
    _register(_kind, _options)


@routes.add("GET", "/cluster/notifications/targets", permission=AUDIT, summary="All targets, and how they are")
async def list_targets(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """By name, with the matchers that name them and whether the last delivery went well."""
    found: list[dict[str, JsonValue]] = []
    for line in await context.services.need(NotificationSettings).targets():
        state = line.state
        found.append({
            **shown(line.target), "matchers": list(line.matchers),
            "state": "unknown" if state is None else "ok" if state.ok else "failing",
            "why": state.why if state else "", "since": state.since if state else 0,
        })  # fmt: skip
    return found


@routes.add(
    "POST", "/cluster/notifications/targets/{name}/test", permission=AUDIT, parameters=OfTarget,
    summary="Send a test to a target", timeout=TEST_TIMEOUT_S,
)  # fmt: skip
async def test_target(context: Context, parameters: OfTarget) -> None:
    """From the node that is asked, now, whatever the matchers say. Says why it did not arrive."""
    await context.services.need(NotificationSettings).test(parameters.name)


@routes.add("GET", "/cluster/notifications/matchers", permission=AUDIT, summary="All matchers")
async def list_matchers(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """By name."""
    return [_matcher(matcher) for matcher in await context.services.need(NotificationSettings).matchers()]


@routes.add(
    "GET", "/cluster/notifications/matchers/{name}", permission=AUDIT, parameters=OfMatcher, summary="A matcher"
)
async def get_matcher(context: Context, parameters: OfMatcher) -> dict[str, JsonValue]:
    """As it is set."""
    return _matcher(await context.services.need(NotificationSettings).matcher(parameters.name))


@routes.add(
    "POST", "/cluster/notifications/matchers", permission=MODIFY, parameters=MatcherOptions, summary="Add a matcher"
)
async def add_matcher(context: Context, parameters: MatcherOptions) -> None:
    """Without conditions it takes everything."""
    matcher = parameters.onto(Matcher(name=parameters.name))
    await context.services.need(NotificationSettings).add_matcher(matcher)


@routes.add(
    "PUT", "/cluster/notifications/matchers/{name}", permission=MODIFY, parameters=MatcherOptions,
    summary="Change a matcher",
)  # fmt: skip
async def change_matcher(context: Context, parameters: MatcherOptions) -> None:
    """What is not given stays as it is."""
    empty, deleted = Matcher(name=parameters.name), _deleted(parameters.delete, _MATCHER_FIELDS)
    await context.services.need(NotificationSettings).change_matcher(
        parameters.name, lambda matcher: _set_back(parameters.onto(matcher), deleted, empty)
    )


@routes.add(
    "DELETE", "/cluster/notifications/matchers/{name}", permission=MODIFY, parameters=OfMatcher,
    summary="Remove a matcher",
)  # fmt: skip
async def remove_matcher(context: Context, parameters: OfMatcher) -> None:
    """Its targets stay."""
    await context.services.need(NotificationSettings).remove_matcher(parameters.name)


@routes.add("GET", "/cluster/notifications/matcher-fields", permission=AUDIT, summary="What matchers can look at")
async def matcher_fields(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """The fields that messages have."""
    return [{"name": name} for name in ("guest", "hostname", "node", "severity", "task", "type", "user")]


@routes.add("GET", "/racimo/notifications/quorum", permission=NODES, summary="Whether this node has lost the store")
async def quorum(context: Context, parameters: Parameters) -> dict[str, JsonValue]:
    """Asked by the other nodes, so that one of them says it."""
    return {"lost": context.services.need(QuorumWatch).lost}


def shown(target: Target) -> dict[str, JsonValue]:
    """A target without what is sealed: of headers and secrets the names alone."""
    kind = {"name": target.name, "type": str(target.kind), "origin": str(target.origin)}
    rest: dict[str, JsonValue] = {"comment": target.comment} if target.comment else {}
    if target.disable:
        rest["disable"] = 1
    if target.kind is TargetKind.WEBHOOK:
        rest |= {
            "url": target.url, "method": target.method, "header": [f"name={name}" for name in target.headers],
            "secret": [f"name={name}" for name in target.secrets],
        }  # fmt: skip
        if target.body:
            rest["body"] = base64.b64encode(target.body.encode()).decode()
        return {**kind, **rest}
    rest |= {"mailto": list(target.mailto), "from-address": target.from_address, "author": target.author}
    if target.kind is TargetKind.SMTP:
        rest |= {"server": target.server, "mode": str(target.mode)}
        rest |= {"port": target.port} if target.port else {}
        rest |= {"username": target.username} if target.username else {}
    return {**kind, **{name: value for name, value in rest.items() if value not in ("", [])}}


def _matcher(matcher: Matcher) -> dict[str, JsonValue]:
    found: dict[str, JsonValue] = {
        "name": matcher.name, "origin": str(matcher.origin), "target": list(matcher.targets), "mode": str(matcher.mode),
        "match-severity": [str(severity) for severity in matcher.severities], "match-field": list(matcher.fields),
        "match-calendar": list(matcher.calendar), "invert-match": int(matcher.invert),
        "disable": int(matcher.disable), "comment": matcher.comment,
    }  # fmt: skip
    return {name: value for name, value in found.items() if value not in ("", [], 0) or name == "target"}
