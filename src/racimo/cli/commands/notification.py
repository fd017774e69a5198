"""``racimo notification``: who hears of it when something happens."""

from __future__ import annotations

import base64
import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from racimo.cli.answer import Json, Row, rows
from racimo.cli.command import command, group
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Table
from racimo.errors import BadParameter, NotFound

app = group("notification", "Who hears of it when something happens: targets, and matchers that choose among them.")
targets = group("target", "Where notifications go: mail servers, local mail, webhooks.")
app.add_typer(targets)

PATH = "/cluster/notifications"
MAIL, SMTP, WEBHOOK = "sendmail", "smtp", "webhook"

Name = Annotated[str, typer.Argument(metavar="TARGET", help="The target's name.")]
MailTo = Annotated[str | None, typer.Option("--mailto", metavar="LIST", help="Who gets the mail.")]
From = Annotated[str | None, typer.Option("--from-address", metavar="ADDRESS", help="The sender of the mails.")]
Author = Annotated[str | None, typer.Option("--author", metavar="TEXT", help="The sender's name.")]
Server = Annotated[str | None, typer.Option("--server", metavar="HOST", help="smtp: the mail server.")]
Port = Annotated[int | None, typer.Option("--port", min=1, max=65535, help="smtp: without it 465, 587 or 25.")]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="smtp: tls, starttls or insecure.")]
User = Annotated[str | None, typer.Option("--username", metavar="NAME", help="smtp: to log in with.")]
Password = Annotated[
    str | None, typer.Option("--password", metavar="TEXT", help="smtp; - reads it from standard input. Never shown.")
]
Url = Annotated[str | None, typer.Option("--url", metavar="URL", help="webhook: may hold {{ secrets.NAME }}.")]
Method = Annotated[str | None, typer.Option("--method", metavar="METHOD", help="webhook: post, put or get.")]
Header = Annotated[
    list[str] | None, typer.Option("--header", metavar="NAME=VALUE", help="webhook; several times. Never shown.")
]
Secret = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="NAME=VALUE", help="webhook; several times; {{ secrets.NAME }}. Never shown."),
]
Body = Annotated[
    str | None, typer.Option("--body", metavar="TEMPLATE", help="webhook: without it all of the message as JSON.")
]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="A note for people.")]
Disable = Annotated[bool | None, typer.Option("--disable/--enable", help="Switch it off, or on again.")]


def _goes_to(target: Row) -> str:
    if target.text("type") == WEBHOOK:
        return target.text("url")
    names = target.fields.get("mailto")
    to = ", ".join(str(name) for name in names) if isinstance(names, list) else ""
    return f"{to} by {target.text('server')}" if target.text("server") else to


def _state(target: Row) -> str:
    if target.flag("disable"):
        return "disabled"
    return {"ok": "OK", "failing": "error"}.get(target.text("state"), "not used yet")


def _named_by(target: Row) -> str:
    names = target.fields.get("matchers")
    return ", ".join(str(name) for name in names) if isinstance(names, list) and names else "no matcher"


_COLUMNS = (
    Column("Target", lambda target: target.text("name")),
    Column("Type", lambda target: target.text("type")),
    Column("Goes to", _goes_to),
    Column("Named by", _named_by),
    Column("State", _state),
    Column("Why", lambda target: target.text("why")),
)


@dataclass(frozen=True, slots=True)
class TargetOptions:
    """What can be set of a target; None for what was not given."""

    mailto: MailTo = None
    from_address: From = None
    author: Author = None
    server: Server = None
    port: Port = None
    mode: Mode = None
    username: User = None
    password: Password = None
    url: Url = None
    method: Method = None
    header: Header = None
    secret: Secret = None
    body: Body = None
    comment: Comment = None
    disable: Disable = None

    def given(self) -> dict[str, Json]:
        """What was given, as the API takes it. Reads a password from standard input where that was asked for."""
        given: dict[str, Json] = {
            "mailto": self.mailto, "from-address": self.from_address, "author": self.author, "server": self.server,
            "port": self.port, "mode": self.mode, "username": self.username, "password": _typed(self.password),
            "url": self.url, "method": self.method, "header": _pairs("--header", self.header),
            "secret": _pairs("--secret", self.secret), "body": None if self.body is None else _base64(self.body),
            "comment": self.comment, "disable": self.disable,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


@command(targets, "list", example="racimo notification target list", then="racimo notification target test TARGET")
async def list_targets(session: Session) -> Table:
    """List the targets, and whether they take what is sent."""
    empty = "There is no target. Add one: racimo notification target add chat --type webhook --url https://…"
    return Table(_COLUMNS, rows(await session.get(f"{PATH}/targets")), empty)


@command(
    targets, "add",
    example="racimo notification target add ops --type smtp --server mail.example.org --from-address racimo@example.org"
    " --mailto ops@example.org\n"
    "racimo notification target add chat --type webhook --url https://chat.example.org/hook"
    " --header 'Authorization=Bearer {{ secrets.token }}' --secret token=…",
    then="racimo notification matcher add all --target TARGET",
)  # fmt: skip
async def add(
    session: Session,
    target: Name,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="smtp, sendmail or webhook.")],
    options: TargetOptions,
) -> Done:
    """Add a place where notifications can go. It gets those that a matcher gives it."""
    if kind not in (SMTP, MAIL, WEBHOOK):
        raise BadParameter({"--type": f"'{kind}' is not smtp, sendmail or webhook"})
    given = options.given()
    answer = await session.post(f"{PATH}/endpoints/{part(kind)}", name=target, **given)
    then = f"racimo notification target test {target}"
    return Done(f"Target {target} is added; it gets what a matcher gives it.", answer, then)


@command(
    targets, "set", example="racimo notification target set ops --mailto ops@example.org,boss@example.org",
    then="racimo notification target test TARGET",
)  # fmt: skip
async def change(session: Session, target: Name, options: TargetOptions) -> Done:
    """Change a target. What is not given stays as it is; headers and secrets are replaced as a whole."""
    given = options.given()
    if not given:
        raise BadParameter(
            {"--comment": "nothing to change was given"}, todo=f"racimo notification target set {target} --disable"
        )
    kind = await _kind_of(session, target)
    answer = await session.put(f"{PATH}/endpoints/{part(kind)}/{part(target)}", **given)
    return Done(f"Target {target} is changed.", answer, f"racimo notification target test {target}")


@command(targets, "remove", example="racimo notification target remove ops", then="racimo notification target list")
async def remove(session: Session, target: Name) -> Done:
    """Forget a target. Refused while a matcher names it."""
    kind = await _kind_of(session, target)
    answer = await session.delete(f"{PATH}/endpoints/{part(kind)}/{part(target)}")
    return Done(f"Target {target} is removed.", answer)


@command(targets, "test", example="racimo notification target test ops", then="racimo notification target list")
async def test(session: Session, target: Name) -> Done:
    """Send a test to a target now, from this node; says why it did not arrive."""
    answer = await session.post(f"{PATH}/targets/{part(target)}/test")
    return Done(f"Target {target} took a test message.", answer, "racimo notification target list")


async def _kind_of(session: Session, target: str) -> str:
    for entry in rows(await session.get(f"{PATH}/targets")):
        if entry.text("name") == target:
            return entry.text("type")
    raise NotFound(f"target '{target}' does not exist", todo="See: racimo notification target list")


def _typed(password: str | None) -> str | None:
    """Not on the command line, where every user of the machine could read it."""
    return sys.stdin.readline().rstrip("\n") if password in ("-",) else password


def _pairs(option: str, entries: list[str] | None) -> list[Json] | None:
    if not entries:
        return None
    pairs: list[Json] = []
    for entry in entries:
        name, equals, value = entry.partition("=")
        if not equals or not name:
            raise BadParameter({option: "is not like NAME=VALUE"})
        pairs.append(f"name={name},value={_base64(value)}")
    return pairs


def _base64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
