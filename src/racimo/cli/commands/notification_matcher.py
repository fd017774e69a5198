"""``racimo notification matcher``: which notifications go to which targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from racimo.cli.answer import Json, Row, rows
from racimo.cli.command import command, group
from racimo.cli.commands.notification import PATH
from racimo.cli.commands.notification import app as notification_app
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Table
from racimo.errors import BadParameter

app = group("matcher", "Which notifications go to which targets.")
notification_app.add_typer(app)

Name = Annotated[str, typer.Argument(metavar="MATCHER", help="The matcher's name.")]
Target = Annotated[str | None, typer.Option("--target", metavar="LIST", help="The targets that get what it takes.")]
Severity = Annotated[
    str | None, typer.Option("--match-severity", metavar="LIST", help="Any of info, notice, warning, error.")
]
Field = Annotated[
    list[str] | None,
    typer.Option(
        "--match-field", metavar="CONDITION",
        help="exact:type=fencing,quorum or regex:node=^n[12]$; several times. Fields: type, node, guest, task, user.",
    ),
]  # fmt: skip
Calendar = Annotated[
    list[str] | None,
    typer.Option("--match-calendar", metavar="TIMES", help="mon..fri 8:00-17:00; several times: any of them."),
]
Mode = Annotated[str | None, typer.Option("--mode", metavar="MODE", help="all conditions have to hold, or any.")]
Invert = Annotated[bool | None, typer.Option("--invert-match/--no-invert-match", help="Take what it would not.")]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="A note for people.")]
Disable = Annotated[bool | None, typer.Option("--disable/--enable", help="Switch it off, or on again.")]


@dataclass(frozen=True, slots=True)
class MatcherOptions:
    """What can be set of a matcher; None for what was not given."""

    target: Target = None
    severity: Severity = None
    field: Field = None
    calendar: Calendar = None
    mode: Mode = None
    invert: Invert = None
    comment: Comment = None
    disable: Disable = None

    def given(self) -> dict[str, Json]:
        """What was given, as the API takes it."""
        given: dict[str, Json] = {
            "target": self.target, "match-severity": self.severity,
            "match-field": [*self.field] if self.field else None,
            "match-calendar": [*self.calendar] if self.calendar else None, "mode": self.mode,
            "invert-match": self.invert, "comment": self.comment, "disable": self.disable,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


def _list(matcher: Row, name: str) -> list[str]:
    values = matcher.fields.get(name)
    return [str(value) for value in values] if isinstance(values, list) else []


def _takes(matcher: Row) -> str:
    severities = _list(matcher, "match-severity")
    conditions = ["severity " + " or ".join(severities)] if severities else []
    conditions += _list(matcher, "match-field")
    times = _list(matcher, "match-calendar")
    conditions += [" or ".join(times)] if times else []
    joined = (" or " if matcher.text("mode") == "any" else " and ").join(conditions) or "everything"
    return f"not ({joined})" if matcher.flag("invert-match") else joined


_COLUMNS = (
    Column("Matcher", lambda matcher: matcher.text("name")),
    Column("Takes", _takes),
    Column("For", lambda matcher: ", ".join(_list(matcher, "target")) or "no target"),
    Column("State", lambda matcher: "disabled" if matcher.flag("disable") else "active"),
    Column("Comment", lambda matcher: matcher.text("comment")),
)


@command(
    app, "list", example="racimo notification matcher list",
    then="racimo notification matcher add all --target TARGET",
)  # fmt: skip
async def list_matchers(session: Session) -> Table:
    """List the matchers."""
    empty = "There is no matcher: nothing is sent, all stands in the log. Add one: "
    empty += "racimo notification matcher add all --target TARGET"
    return Table(_COLUMNS, rows(await session.get(f"{PATH}/matchers")), empty)


@command(
    app, "add",
    example="racimo notification matcher add all --target ops\n"
    "racimo notification matcher add night --target phone --match-severity error --match-calendar 22:00-6:00",
    then="racimo notification matcher list",
)  # fmt: skip
async def add(session: Session, matcher: Name, options: MatcherOptions) -> Done:
    """Give notifications to targets. Without conditions it takes everything."""
    answer = await session.post(f"{PATH}/matchers", name=matcher, **options.given())
    return Done(f"Matcher {matcher} is added.", answer, "racimo notification matcher list")


@command(app, "set", example="racimo notification matcher set all --target ops,chat")
async def change(
    session: Session,
    matcher: Name,
    options: MatcherOptions,
    delete: Annotated[
        str | None, typer.Option("--delete", metavar="LIST", help="Take conditions away, such as match-severity.")
    ] = None,
) -> Done:
    """Change a matcher. What is not given stays as it is."""
    given = options.given()
    if delete is not None:
        given["delete"] = delete
    if not given:
        todo = f"racimo notification matcher set {matcher} --disable"
        raise BadParameter({"--target": "nothing to change was given"}, todo=todo)
    answer = await session.put(f"{PATH}/matchers/{part(matcher)}", **given)
    return Done(f"Matcher {matcher} is changed.", answer, "racimo notification matcher list")


@command(app, "remove", example="racimo notification matcher remove night", then="racimo notification matcher list")
async def remove(session: Session, matcher: Name) -> Done:
    """Forget a matcher. Its targets stay."""
    answer = await session.delete(f"{PATH}/matchers/{part(matcher)}")
    return Done(f"Matcher {matcher} is removed; its targets stay.", answer)
