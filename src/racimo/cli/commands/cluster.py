"""``racimo cluster``: create, join, leave, look at the quorum, back up and recover."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from racimo.cli.answer import Json, Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.completion import complete_nodes
from racimo.cli.parameters import NodeName, assignments
from racimo.cli.run import Started
from racimo.cli.session import Session, part
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
    life: Annotated[
        int | None, typer.Option("--life", metavar="SECONDS", min=1, help="How long it is good for; an hour.")
    ] = None,
) -> Done:
    """Print the text that lets one node join, once, within its time.

    It carries a one-time right, the addresses of the nodes and the fingerprint of the datacenter's authority.
    """
    text = await session.post("/racimo/join-info", witness=1 if witness else None, life=life)
    return Done(str(text), {"text": text})


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
    example="racimo cluster witness racimo-join-1.eyJ…\nracimo cluster witness --stop",
    then="racimo cluster status on any node",
)  # fmt: skip
async def witness(
    session: Session,
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="What join-info --witness printed; - reads it from the input.")
    ] = "",
    link: Link = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="What it is called; without it the host name.")
    ] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Be a witness no more.")] = False,
) -> Started:
    """Make this machine the witness: it votes, so that either of two nodes may fail, and runs no guests."""
    if bool(text) == stop:
        raise BadParameter({"TEXT": "give the join text, or --stop"}, todo="racimo cluster join-info --witness")
    answer = await session.post("/racimo/witness", text=_read(text), link0=link, name=name)
    if stop:
        return Started(answer, "This machine is no witness any more.", "racimo cluster remove it on a node")
    return Started(answer, "This machine is now a witness: it votes and runs no guests.", "racimo cluster status")


@command(
    app, "leave", task=True,
    example="racimo cluster leave",
    then="racimo status: the node stands alone again",
)  # fmt: skip
async def leave(
    session: Session,
    force: Annotated[
        bool, typer.Option("--force", help="Also when the others do not answer; they must remove it then.")
    ] = False,
) -> Started:
    """Let this node leave the datacenter and stand alone again, with its guests."""
    answer = await session.post("/cluster/config/leave", force=1 if force else None)
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
    forget_guests: Annotated[bool, typer.Option("--forget-guests", help="Delete its guests from the records.")] = False,
    powered_off: Annotated[bool, typer.Option("--powered-off", help="You vouch that it is off and stays off.")] = False,
) -> Started:
    """Remove a dead node, or a witness, for good. It cannot come back as it was: it would have to be made anew."""
    given: dict[str, Json] = {
        "guests-to": guests_to,
        "forget-guests": 1 if forget_guests else None,
        "powered-off": 1 if powered_off else None,
    }
    answer = await session.client.delete(f"/cluster/config/nodes/{part(node)}", given)
    return Started(answer, f"{node} is no longer part of the datacenter.", "racimo cluster status")


@command(app, "status", example="racimo cluster status", then="racimo status for guests and tasks")
async def status(session: Session) -> Page:
    """Show the quorum and the members."""
    answer = await session.get("/cluster/status")
    entries = rows(answer)
    whole = next((entry for entry in entries if entry.text("type") == "cluster"), Row({}))
    nodes = [entry for entry in entries if entry.text("type") == "node"]
    lines = [("Datacenter", whole.text("name") or "none: this node stands alone"), ("Quorum", quorum(whole))]
    if removed := whole.text("removed"):
        lines.append(("Beware", removed))
    elif danger := next_failure(whole, nodes):
        lines.append(("Beware", danger))
    return Page([Facts(lines, whole.fields), members(nodes)], answer)


def quorum(whole: Row) -> str:
    """Whether there is a quorum, with the votes and why not."""
    if not whole.fields:
        return "yes"
    votes = (
        f"{whole.text('votes_present')} of {whole.text('votes_expected')} votes, {whole.text('votes_needed')} needed"
    )
    word = "yes" if whole.flag("quorate") else "NO"
    why = (
        "" if whole.flag("quorate") else f": {whole.text('why') or 'nothing can be changed until more voters are back'}"
    )
    return f"{word} ({votes}){why}" if "votes_expected" in whole else word + why


def next_failure(whole: Row, nodes: list[Row]) -> str:
    """What to do before the next voter fails, where that would cost the quorum; empty where it would not."""
    if not whole.flag("quorate") or int(whole.text("votes_present") or 0) > int(whole.text("votes_needed") or 0):
        return ""
    missing = [node.text("name") for node in nodes if node.flag("voter") and not node.flag("reachable")]
    if missing:
        return f"if one more voter fails, the quorum is lost; bring back {', '.join(missing)}"
    return "if a voter fails, the quorum is lost; add nodes, or a witness: racimo cluster join-info --witness"


def members(nodes: list[Row]) -> Table:
    """The members as a table."""
    columns = [
        Column("Node", lambda node: node.text("name") + (" (asked)" if node.flag("local") else "")),
        Column("State", lambda node: "online" if node.flag("online") else "offline"),
        Column("Address", lambda node: node.text("ip") or node.text("address")),
        Column("Role", _role),
        Column("Why", lambda node: node.text("why")),
    ]
    return Table(columns, nodes, "There are no members.")


@command(app, "backup", task=True, example="racimo cluster backup", then="keep a copy elsewhere")
async def backup(session: Session) -> Started:
    """Back the datacenter's records up now, beside the backup that each voter makes every hour."""
    answer = await session.post("/racimo/backup")
    path = answer if isinstance(answer, str) else row(answer).text("path")
    return Started(answer, f"Backed up to {path}." if path and not path.startswith("UPID:") else "Backed up.")


@command(
    app, "rotate-key",
    example="racimo cluster rotate-key",
    then="change the passwords themselves, where a machine that left had them",
)  # fmt: skip
async def rotate_key(
    session: Session,
    force: Annotated[
        bool, typer.Option("--force", help="No node has the present key any more: what it sealed must be set anew.")
    ] = False,
) -> Done:
    """Make a new key for the secrets in the store (passwords of mail servers, fence devices), and seal them with it.

    The key is in /etc/racimo/sealing.json on each node and not in the store, nor in its backups. Do this after a node
    was removed that you do not trust, or where that file has come into wrong hands.
    """
    answer = row(await session.post("/racimo/sealing/rotate", force=1 if force else None))
    found = answer.fields.get("lost")
    lost = [str(name) for name in found] if isinstance(found, list) else []
    text = f"{answer.text('records')} records are sealed with the new key {answer.text('key')}."
    if lost:
        text += "\nThese secrets cannot be opened any more; set them anew: " + ", ".join(lost)
    return Done(text, answer.fields)


@command(
    app, "recover", task=True,
    example="racimo cluster recover --yes\n"
    "racimo cluster recover --follow 10.0.1.11\n"
    "racimo cluster recover --yes --from /var/lib/racimo/backup/2026-01-31T10.json",
    then="racimo cluster remove NODE for each node that is lost for good",
)  # fmt: skip
async def recover(
    session: Session,
    yes: Annotated[
        bool, typer.Option("--yes", help="Yes, the other voters are lost for good and are switched off.")
    ] = False,
    source: Annotated[
        str | None,
        typer.Option("--from", "--backup", metavar="FILE", help="A backup, where this node's store is lost too."),
    ] = None,
    follow: Annotated[
        str | None,
        typer.Option("--follow", metavar="ADDRESS", help="On another node: follow the one that was recovered."),
    ] = None,
) -> Started:
    """Make this node the only voter, when most voters are lost for good.

    Dangerous while any of the others still runs: two datacenters would come of it.
    """
    if not yes and not follow:
        raise BadParameter(
            {"--yes": "is missing: recovering while another voter runs makes two datacenters of one"},
            todo="Switch the lost voters off for good, then add --yes",
        )
    answer = await session.post("/racimo/recover", confirmed=1 if yes else 0, backup=_absolute(source), member=follow)
    if follow:
        return Started(answer, f"This node follows {follow}.", "racimo cluster status")
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
    return Facts([(name, answer.text(name)) for name in answer], answer.fields)


def _absolute(path: str | None) -> str | None:
    return str(Path(path).absolute()) if path else None


def _role(node: Row) -> str:
    words = [word for word in ("witness", "voter", "learner", "leader") if node.flag(word)]
    return ", ".join(words)


def _read(text: str) -> str:
    return "".join(sys.stdin.read().split()) if text == "-" else text.strip()
