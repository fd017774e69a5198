"""``racimo ha rule``: on which nodes guests belong, and which of them belong together or apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from racimo.cli.answer import Json, Row, rows
from racimo.cli.command import command, group
from racimo.cli.commands.ha import app as ha_app
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Table
from racimo.errors import BadParameter

app = group("rule", "On which nodes guests belong, and which of them belong together or apart.")
ha_app.add_typer(app)

Name = Annotated[str, typer.Argument(metavar="RULE", help="The rule's name.")]
Resources = Annotated[
    str | None, typer.Option("--resources", metavar="LIST", help="The guests, such as vm:100,vm:101 or 100,101.")
]
Nodes = Annotated[
    str | None,
    typer.Option("--nodes", metavar="LIST", help="The nodes, with priorities: n1:2,n2:1. The highest that is there."),
]
Strict = Annotated[
    bool | None, typer.Option("--strict/--no-strict", help="On no other node, not even if none of them is there.")
]
Affinity = Annotated[
    str | None,
    typer.Option("--affinity", metavar="AFFINITY", help="positive keeps the guests together, negative apart."),
]
Disable = Annotated[bool | None, typer.Option("--disable/--enable", help="Switch the rule off, or on again.")]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="A note for people.")]


@dataclass(frozen=True, slots=True)
class RuleOptions:
    """What can be set of a rule; None for what was not given."""

    resources: Resources = None
    nodes: Nodes = None
    strict: Strict = None
    affinity: Affinity = None
    disable: Disable = None
    comment: Comment = None

    def given(self) -> dict[str, Json]:
        """What was given, as the API takes it."""
        given: dict[str, Json] = {
            "resources": self.resources, "nodes": self.nodes, "strict": self.strict, "affinity": self.affinity,
            "disable": self.disable, "comment": self.comment,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}


def _says(rule: Row) -> str:
    if rule.text("type") == "resource-affinity":
        return "together" if rule.text("affinity") == "positive" else "apart"
    return ("only on " if rule.flag("strict") else "on ") + rule.text("nodes").replace(",", ", ")


def _holds(rule: Row) -> str:
    if rule.flag("disable"):
        return "switched off"
    return f"left out: {rule.text('why')}" if rule.text("why") else "holds"


_COLUMNS = (
    Column("Rule", lambda rule: rule.text("rule")),
    Column("Guests", lambda rule: rule.text("resources").replace(",", ", ")),
    Column("Are kept", _says),
    Column("State", _holds),
    Column("Comment", lambda rule: rule.text("comment")),
)


@command(
    app, "list", example="racimo ha rule list", then="racimo ha rule add RULE --resources 100,101 --affinity negative"
)
async def list_rules(session: Session) -> Table:
    """List the rules, and why one does not hold."""
    empty = "There is no rule. Add one: racimo ha rule add web --resources 100,101 --affinity negative"
    return Table(_COLUMNS, rows(await session.get("/cluster/ha/rules")), empty)


@command(
    app, "add",
    example="racimo ha rule add web --resources 100,101 --affinity negative\n"
    "racimo ha rule add big --resources 100 --nodes n1:2,n2:1 --strict",
    then="racimo ha rule list",
)  # fmt: skip
async def add(session: Session, rule: Name, options: RuleOptions) -> Done:
    """Keep guests on certain nodes (--nodes), or keep guests together or apart (--affinity)."""
    by_nodes = options.nodes is not None
    if options.resources is None or by_nodes == (options.affinity is not None):
        missing = "--nodes" if options.resources else "--resources"
        raise BadParameter(
            {missing: "a rule has --resources, and either --nodes or --affinity"},
            todo="racimo ha rule add web --resources 100,101 --affinity negative",
        )
    answer = await session.post(
        "/cluster/ha/rules",
        rule=rule, type="node-affinity" if by_nodes else "resource-affinity", **options.given(),
    )  # fmt: skip
    return Done(f"Rule {rule} is added.", answer, "racimo ha rule list")


@command(app, "set", example="racimo ha rule set web --resources 100,101,102\nracimo ha rule set web --disable")
async def change(session: Session, rule: Name, options: RuleOptions) -> Done:
    """Change a rule. What is not given stays as it is."""
    given = options.given()
    if not given:
        raise BadParameter({"--resources": "nothing to change was given"}, todo=f"racimo ha rule set {rule} --disable")
    answer = await session.put(f"/cluster/ha/rules/{part(rule)}", **given)
    return Done(f"Rule {rule} is changed.", answer, "racimo ha rule list")


@command(app, "remove", example="racimo ha rule remove web", then="racimo ha rule list")
async def remove(session: Session, rule: Name) -> Done:
    """Forget a rule. Guests stay where they are."""
    answer = await session.delete(f"/cluster/ha/rules/{part(rule)}")
    return Done(f"Rule {rule} is removed; guests stay where they are.", answer)
