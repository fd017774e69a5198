"""``racimo ha maintenance|disarm|arm|history|rebalance``: HA of the whole datacenter."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import Row, row, rows
from racimo.cli.command import command
from racimo.cli.commands.ha import HISTORY, app
from racimo.cli.parameters import Sid, sid_of
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Facts, Page, Table
from racimo.errors import BadParameter

__all__ = ["arm", "disarm", "history", "maintenance", "rebalance"]


def _guests(entry: Row) -> str:
    guests = entry.fields.get("guests")
    return ", ".join(map(str, guests)) if isinstance(guests, list) else ""


_MAINTENANCE = (
    Column("Node", lambda entry: entry.text("node")),
    Column("Maintenance", lambda entry: "on" if entry.flag("maintenance") else "off"),
    Column("HA guests there", _guests),
    Column("Comment", lambda entry: entry.text("comment")),
)
_MOVES = (
    Column("Guest", lambda entry: entry.text("sid")),
    Column("From", lambda entry: entry.text("source")),
    Column("To", lambda entry: entry.text("target")),
    Column("Why", lambda entry: entry.text("why")),
)


@command(
    app, "maintenance",
    example="racimo ha maintenance\nracimo ha maintenance n1 on --comment 'new memory'\nracimo ha maintenance n1 off",
    then="racimo ha status",
)  # fmt: skip
async def maintenance(
    session: Session,
    node: Annotated[str | None, typer.Argument(metavar="NODE", help="The node; left out: show all.")] = None,
    state: Annotated[str | None, typer.Argument(metavar="on|off", help="Begin or end it.")] = None,
    comment: Annotated[str, typer.Option("--comment", metavar="TEXT", help="A note for people.")] = "",
) -> Table | Done:
    """Have the HA guests of a node leave it live, and come back afterwards. It outlasts reboots."""
    if node is None:
        answer = await session.get("/cluster/ha/maintenance")
        return Table(_MAINTENANCE, rows(answer), "There is no node.")
    if state not in ("on", "off"):
        raise BadParameter({"on|off": "is missing" if state is None else f"'{state}' is neither"})
    path = f"/cluster/ha/maintenance/{part(node)}"
    if state == "on":
        answer = await session.put(path, comment=comment)
        return Done(f"{node} is in maintenance; its HA guests leave it.", answer, "racimo ha status")
    answer = await session.delete(path)
    return Done(f"The maintenance of {node} is over; the guests that left it come back.", answer, "racimo ha status")


@command(app, "disarm", example="racimo ha disarm freeze\nracimo ha disarm ignore", then="racimo ha arm")
async def disarm(
    session: Session,
    mode: Annotated[
        str,
        typer.Argument(
            metavar="MODE", help="freeze: guests stay as they are. ignore: they are handled as if not under HA."
        ),
    ] = "freeze",
) -> Done:
    """Have HA do nothing: no node is fenced, no guest started, moved or killed. A recovery is finished first."""
    answer = await session.post("/cluster/ha/status/disarm-ha", mode=mode)
    return Done(f"HA is being disarmed ({mode}).", answer, "racimo ha status")


@command(app, "arm", example="racimo ha arm", then="racimo ha status")
async def arm(session: Session) -> Done:
    """Have HA act again."""
    answer = await session.post("/cluster/ha/status/arm-ha")
    return Done("HA is armed.", answer, "racimo ha status")


@command(app, "history", example="racimo ha history vm:100", then="racimo ha status")
async def history(session: Session, sid: Sid) -> Table:
    """Show what HA has done with a guest, each step with the reason."""
    answer = await session.get(f"/cluster/ha/resources/{part(sid_of(sid))}/history")
    return Table(HISTORY, rows(answer), "Nothing has happened yet.")


@command(
    app, "rebalance", example="racimo ha rebalance --dry-run\nracimo ha rebalance --moves 2", then="racimo ha status"
)
async def rebalance(
    session: Session,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be moved, and why.")] = False,
    moves: Annotated[int | None, typer.Option("--moves", metavar="N", min=1, help="At most so many guests.")] = None,
) -> Page:
    """Move HA guests live so that the nodes are used alike."""
    if dry_run:
        answer = row(await session.get("/cluster/ha/rebalance", moves=moves))
    else:
        answer = row(await session.post("/cluster/ha/rebalance", moves=moves))
    verb = "Would do" if dry_run else "Asked for"
    facts = Facts([(verb, answer.text("why"))], None)
    return Page([facts, Table(_MOVES, rows(answer.fields.get("moves")), "No guest is to be moved.")], answer.fields)
