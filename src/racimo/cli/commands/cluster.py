"""``racimo cluster``: create, join, leave, look at the quorum, back up and recover."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from racimo.cli.answer import Json, Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.completion import complete_nodes
from racimo.cli.parameters import NodeName, assignments
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.cli.units import moment
from racimo.cli.view import Column, Done, Facts, Page, Table
from racimo.errors import BadParameter

app = group("cluster", "The datacenter as a whole: create it, join it, leave it, look after its quorum.")

Link = Annotated[
    str | None,
    typer.Option("--link", metavar="ADDRESS", help="This node's address on the cluster network; it stays in use."),
]


@command(
    app, "create", task=True,
    example="racimo cluster create lab --link 10.0.1.11",
    then="racimo cluster join-info, and racimo cluster join TEXT on the next node",
)  # fmt: skip
async def create(
    session: Session,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What the datacenter is called.")],
    link: Link = None,
) -> Started:
    """Make this node the first of a datacenter. Its guests go on running."""
    answer = await session.post("/cluster/config", clustername=name, link0=link)
    return Started(answer, f"The datacenter {name} has its first node.", "racimo cluster join-info")


@command(
    app, "join-info",
    example="racimo cluster join-info\nracimo cluster join-info --witness",
    then="racimo cluster join TEXT on the node that shall join (or racimo cluster witness TEXT)",
)  # fmt: skip
async def join_info(
    session: Session,
    witness: Annotated[
        bool, typer.Option("--witness", help="For a machine that only votes: the third one beside two nodes.")
    ] = False,
) -> Done:
    """Print the text that lets one node join, once, within its time.

    It carries a one-time right, the addresses of the nodes and the fingerprint of the datacenter's authority.
    """
    answer = await session.get("/cluster/config/join", witness=1 if witness else None)
    made = row(answer)
    text = answer if isinstance(answer, str) else made.text("text") or made.text("join_text")
    return Done(text, answer if isinstance(answer, dict) else {"text": text})


@command(
    app, "join", task=True,
    example="racimo cluster join racimo-join-1.eyJ…\n"
    "ssh n1 racimo cluster join-info | racimo cluster join - --link 10.0.1.12",
    then="racimo cluster status",
)  # fmt: skip
async def join(
    session: Session,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="What join-info printed; - reads it from the input.")],
    link: Link = None,
    renumber: Annotated[
        bool,
        typer.Option("--renumber", help="Give this node's guests new numbers where theirs are taken."),
    ] = False,
) -> Started:
    """Let this node join a datacenter, with its guests.

    Nothing is changed when it cannot be: a number of a guest that is taken is refused, naming both guests.
    """
    answer = await session.post("/cluster/config/join", text=_read(text), link0=link, renumber=1 if renumber else None)
    return Started(answer, "This node has joined.", "racimo cluster status")


@command(
    app, "witness", task=True,
    example="racimo cluster witness racimo-join-1.eyJ…",
    then="racimo cluster status on any node",
)  # fmt: skip
async def witness(
    session: Session,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What join-info --witness printed; - reads it from the input.")
    ],
    link: Link = None,
) -> Started:
    """Make this machine the witness: it votes, so that either of two nodes may fail, and runs no guests."""
    answer = await session.post("/cluster/config/join", text=_read(text), link0=link)
    return Started(answer, "This machine is now a witness: it votes and runs no guests.", "racimo cluster status")


@command(
    app, "leave", task=True,
    example="racimo cluster leave",
    then="racimo status: the node stands alone again",
)  # fmt: skip
async def leave(session: Session) -> Started:
    """Let this node leave the datacenter and stand alone again, with its guests."""
    answer = await session.post("/cluster/config/leave")
    return Started(answer, "This node stands alone again.", "racimo status")


@command(
    app, "remove", task=True,
    example="racimo cluster remove n3\nracimo cluster remove n3 --guests-to n2",
    then="racimo cluster status",
)  # fmt: skip
async def remove(
    session: Session,
    node: NodeName,
    guests_to: Annotated[
        str | None,
        typer.Option("--guests-to", metavar="NODE", help="Who gets its guests.", autocompletion=complete_nodes),
    ] = None,
) -> Started:
    """Remove a dead node for good. It cannot come back as it was: it would have to be made anew."""
    answer = await session.delete(f"/cluster/config/nodes/{part(node)}", guests_to=guests_to)
    return Started(answer, f"{node} is no longer part of the datacenter.", "racimo cluster status")


@command(app, "status", example="racimo cluster status", then="racimo status for guests and tasks")
async def status(session: Session) -> Page:
    """Show the quorum and the members."""
    answer = await session.get("/cluster/status")
    entries = rows(answer)
    whole = next((entry for entry in entries if entry.text("type") == "cluster"), Row({}))
    nodes = [entry for entry in entries if entry.text("type") == "node"]
    lines = [
        ("Datacenter", whole.text("name") or "none: this node stands alone"),
        ("Quorum", "yes" if whole.flag("quorate") or not whole.fields else "no"),
    ]
    return Page([Facts(lines, whole.fields), members(nodes)], answer)


def members(nodes: list[Row]) -> Table:
    """The members as a table."""
    columns = [
        Column("Node", lambda node: node.text("name") + (" (asked)" if node.flag("local") else "")),
        Column("State", lambda node: "online" if node.flag("online") else "offline"),
        Column("Address", lambda node: node.text("ip") or node.text("address")),
        Column("Role", _role),
    ]
    return Table(columns, nodes, "There are no members.")


@command(app, "backup", task=True, example="racimo cluster backup", then="keep a copy elsewhere")
async def backup(session: Session) -> Started:
    """Back the datacenter's records up now, beside the backup that each voter makes every hour."""
    answer = await session.post("/racimo/backup")
    path = answer if isinstance(answer, str) else row(answer).text("path")
    return Started(answer, f"Backed up to {path}." if path and not path.startswith("UPID:") else "Backed up.")


@command(
    app, "recover", task=True,
    example="racimo cluster recover --yes\n"
    "racimo cluster recover --yes --from /var/lib/racimo/backup/2026-01-31T10.json",
    then="racimo cluster remove NODE for each node that is lost for good",
)  # fmt: skip
async def recover(
    session: Session,
    yes: Annotated[
        bool, typer.Option("--yes", help="Yes, the other voters are lost for good and are switched off.")
    ] = False,
    source: Annotated[
        str | None, typer.Option("--from", metavar="FILE", help="A backup, where this node's store is lost too.")
    ] = None,
) -> Started:
    """Make this node the only voter, when most voters are lost for good.

    Dangerous while any of the others still runs: two datacenters would come of it.
    """
    if not yes:
        raise BadParameter(
            {"--yes": "is missing: recovering while another voter runs makes two datacenters of one"},
            todo="Switch the lost voters off for good, then add --yes",
        )
    answer = await session.post("/racimo/recover", **{"from": source} if source else {})
    return Started(answer, "This node is the only voter now.", "racimo cluster remove NODE for each lost node")


@command(
    app, "options",
    example="racimo cluster options\nracimo cluster options --set migration_network=10.0.2.0/24",
)  # fmt: skip
async def options(
    session: Session,
    assigned: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a setting; may be repeated.")
    ] = None,
) -> Facts:
    """Show the settings of the datacenter, or change some."""
    if assigned:
        values: dict[str, Json] = dict(assignments(assigned))
        await session.client.put("/cluster/options", values)
    answer = row(await session.get("/cluster/options"))
    return Facts([(name, _setting(answer, name)) for name in answer], answer.fields)


def _setting(answer: Row, name: str) -> str:
    return moment(answer.number(name)) if name == "created" else answer.text(name)


def _role(node: Row) -> str:
    if node.flag("witness"):
        return "witness"
    return "voter" if node.flag("voter") else ""


def _read(text: str) -> str:
    return "".join(sys.stdin.read().split()) if text == "-" else text.strip()
