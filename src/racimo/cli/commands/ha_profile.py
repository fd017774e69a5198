"""``racimo ha profile``: how fast high availability reacts."""

from __future__ import annotations

from typing import Annotated

import typer
from pydantic import JsonValue

from racimo.cli.answer import row, rows
from racimo.cli.command import command
from racimo.cli.commands.ha import app
from racimo.cli.session import Session
from racimo.cli.view import Column, Done, Facts, Page, Table

__all__ = ["profile"]

_NODES = (
    Column("Node", lambda entry: entry.text("node")),
    Column("Profile", lambda entry: entry.text("profile")),
    Column("Heartbeats take", lambda entry: f"{entry.number('commit_ms'):g} ms" if entry.number("commit_ms") else "-"),
)
_NAMES = ("default", "fast", "patient")


@command(app, "profile", example="racimo ha profile\nracimo ha profile fast", then="racimo ha status")
async def profile(
    session: Session,
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="PROFILE",
            help="default (a guest starts elsewhere within 12 s), fast (6.5 s) or patient (34 s).",
            autocompletion=lambda: list(_NAMES),
        ),
    ] = None,
) -> Page | Done:
    """Show or change how fast HA reacts, while guests run too. Fast is refused where the store is slow."""
    if name is not None:
        answer = await session.put("/cluster/options", ha_profile=name)
        return Done(f"HA reacts by the profile {name} now.", answer, "racimo ha profile")
    options = row(await session.get("/cluster/options"))
    status = await session.get("/cluster/ha/status/current")
    nodes = [entry for entry in rows(status) if entry.text("type") == "lrm"]
    facts = Facts([("Profile", options.text("ha_profile"))], None)
    told: list[JsonValue] = [entry.fields for entry in nodes]
    shown: dict[str, JsonValue] = {"profile": options.text("ha_profile"), "nodes": told}
    return Page([facts, Table(_NODES, nodes, "No node reports to HA.")], shown)
