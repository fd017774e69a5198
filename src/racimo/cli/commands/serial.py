"""``racimo guest serial``: what a guest wrote to its serial console."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated

import typer

from racimo.cli.command import command
from racimo.cli.commands.guest import app
from racimo.cli.parameters import Follow, Vmid
from racimo.cli.run import Item
from racimo.cli.session import Session

PAUSE = 0.5
"""Seconds between two looks while following."""
TAIL = 65536
"""Bytes of the console's log asked for."""
ANCHOR = 512
"""Characters by which the end of what was seen is found again."""


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
    seen = ""
    while True:
        text = str(await session.get(await session.guest_path(vmid) + "/serial", size=TAIL))
        fresh = new_text(seen, text) if seen else _last_lines(text, limit)
        if follow:
            fresh = fresh[: fresh.rfind("\n") + 1]  # a line that is not complete yet is shown when it is
        for line in fresh.splitlines():
            yield Item(line, {"vmid": vmid, "line": line})
        if not follow:
            return
        seen = text[: text.rfind("\n") + 1]
        await asyncio.sleep(PAUSE)


def new_text(seen: str, now: str) -> str:
    """What ``now``, a later tail of the same log, has more than ``seen``; all of it when they do not overlap."""
    anchor = seen[-ANCHOR:]
    at = now.rfind(anchor)
    return now if at < 0 else now[at + len(anchor) :]


def _last_lines(text: str, limit: int) -> str:
    return "".join(text.splitlines(keepends=True)[-limit:])
