"""``racimo guest serial``: what a guest wrote to its serial console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from racimo.cli.answer import Json, row
from racimo.cli.command import command
from racimo.cli.commands.guest import app
from racimo.cli.parameters import Follow, Vmid
from racimo.cli.run import Item
from racimo.cli.session import Session

PAUSE = 0.5
"""Seconds between two looks while following."""


@command(
    app, "serial",
    example="racimo guest serial 100\nracimo guest serial 100 --follow",
    then="racimo guest console 100 to type into it",
)  # fmt: skip
async def serial(
    session: Session,
    vmid: Vmid,
    follow: Follow = False,
    limit: Annotated[int, typer.Option("--lines", "-n", min=1, help="How many lines, the last ones.")] = 200,
) -> AsyncIterator[Item]:
    """Print the end of what a guest wrote to its serial console; with --json one object per line."""
    seen: list[str] = []
    while True:
        lines = _lines(await session.get(await session.guest_path(vmid) + "/serial"))
        for line in new_lines(seen, lines)[-limit:]:
            yield Item(line, {"vmid": vmid, "line": line})
        if not follow:
            return
        seen = lines
        await asyncio.sleep(PAUSE)


def new_lines(seen: list[str], now: list[str]) -> list[str]:
    """What ``now``, a later tail of the same log, has more than ``seen``."""
    if not seen:
        return now
    for overlap in range(min(len(seen), len(now)), 0, -1):
        if seen[-overlap:] == now[:overlap]:
            return now[overlap:]
    return now


def _lines(answer: Json) -> list[str]:
    text = answer if isinstance(answer, str) else row(answer).text("text") or row(answer).text("tail")
    return text.splitlines()
