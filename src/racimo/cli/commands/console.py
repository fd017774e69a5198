"""``racimo guest console``: type into a guest's serial console, on the node that runs it."""

from __future__ import annotations

import asyncio
import os
import sys
import termios
import tty
from contextlib import contextmanager
from typing import TYPE_CHECKING

from racimo.cli.command import command
from racimo.cli.commands.guest import app
from racimo.cli.parameters import Vmid
from racimo.cli.session import Session
from racimo.cli.view import Done
from racimo.errors import Conflict, Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LEAVE = b"\x1d"
"""Ctrl-]"""
CONNECT_LIMIT = 5.0
CHUNK = 4096


@command(app, "console", example="racimo guest console 100", then="leave it with Ctrl-]")
async def console(session: Session, vmid: Vmid) -> Done:
    """Open a guest's serial console at this terminal, on the node that runs the guest. Ctrl-] leaves it."""
    if not sys.stdin.isatty():
        raise Refused(
            "The console needs a terminal",
            why="the input is none",
            todo=f"Read it: racimo guest serial {vmid} --follow",
        )
    guest = await session.guest(vmid)
    here = await session.local_node()
    if guest.text("node") != here:
        node = guest.text("node")
        raise Refused(
            f"Guest {vmid} is not on {here}", why=f"it is on {node}", todo=f"On {node}: racimo guest console {vmid}"
        )
    await attach(session.socket.parent / "guests" / str(vmid) / "serial.sock", vmid)
    return Done("", {"vmid": vmid})


async def attach(socket: Path, vmid: int) -> None:
    """Join the terminal and ``socket`` until Ctrl-] or the guest's end. Raises ``Conflict`` when it does not answer."""
    try:
        async with asyncio.timeout(CONNECT_LIMIT):
            reader, writer = await asyncio.open_unix_connection(str(socket))
    except (OSError, TimeoutError) as error:
        raise Conflict(
            f"The serial console of guest {vmid} does not answer",
            why=str(error) or "it took too long",
            todo=f"Does it run, and has it serial0=socket? racimo guest config {vmid}",
        ) from error
    print(f"Guest {vmid}. Ctrl-] leaves.", file=sys.stderr)  # noqa: T201
    try:
        with _raw_terminal():
            await _join(reader, writer)
    finally:
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    print(file=sys.stderr)  # noqa: T201


async def _join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    loop, left, terminal = asyncio.get_running_loop(), asyncio.Event(), sys.stdin.fileno()

    def typed() -> None:
        try:
            keys = os.read(terminal, CHUNK)
        except OSError:  # the terminal was closed
            keys = b""
        if not keys or LEAVE in keys:
            left.set()
        writer.write(keys.partition(LEAVE)[0])

    async def shown() -> None:
        while chunk := await reader.read(CHUNK):
            os.write(sys.stdout.fileno(), chunk)
        left.set()

    loop.add_reader(terminal, typed)
    showing = asyncio.create_task(shown())
    try:
        await left.wait()
    finally:
        loop.remove_reader(terminal)
        showing.cancel()
        await asyncio.gather(showing, return_exceptions=True)


@contextmanager
def _raw_terminal() -> Iterator[None]:
    before = termios.tcgetattr(sys.stdin)
    tty.setraw(sys.stdin, termios.TCSADRAIN)  # and what was typed meanwhile is kept
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)
