"""``racimo init``: the first command on a new node."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import row
from racimo.cli.command import command
from racimo.cli.run import Started
from racimo.cli.session import Session


def register(app: typer.Typer) -> None:
    """Add the commands to the top of ``app``."""
    command(
        app, "init", task=True,
        example="racimo init --name n1 --address 192.0.2.11",
        then="racimo cluster create NAME --link ADDRESS on the first node, racimo cluster join TEXT on the others",
    )(init)  # fmt: skip


async def init(
    session: Session,
    name: Annotated[
        str | None, typer.Option(help="The node's name for ever; without it the host name.", metavar="NAME")
    ] = None,
    address: Annotated[
        str | None,
        typer.Option(help="Its address; without it the one of the default route.", metavar="ADDRESS"),
    ] = None,
) -> Started:
    """Make this machine a node that stands alone: its identity, its certificates, its store.

    It can run guests from then on, and can create or join a datacenter with them.
    """
    answer = await session.post("/racimo/init", name=name, address=address)
    made = row(answer)
    known = f" {made.text('name')}" if made.text("name") else ""
    return Started(
        answer,
        f"This machine is now the node{known}, standing alone.",
        "racimo storage list, racimo guest create 100, or racimo cluster create NAME --link ADDRESS",
    )
