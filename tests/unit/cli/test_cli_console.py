"""The console at a terminal: a real one, joined to a socket as QEMU serves it."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ATTACH = """
import asyncio, pathlib, sys
from racimo.cli.commands.console import attach
asyncio.run(attach(pathlib.Path(sys.argv[1]), 100))
"""


async def test_keys_reach_the_guest_its_answer_is_shown_and_ctrl_bracket_leaves(tmp_path: Path) -> None:
    """Keys that are typed as soon as the console says that it is open are not lost."""
    heard, ended = bytearray(), asyncio.Event()

    async def guest(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while keys := await reader.read(100):
            heard.extend(keys)
            writer.write(keys.upper())
        writer.close()
        await writer.wait_closed()
        ended.set()

    ours, theirs = os.openpty()
    async with await asyncio.start_unix_server(guest, tmp_path / "serial.sock"):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ATTACH, str(tmp_path / "serial.sock"), stdin=theirs, stdout=theirs, stderr=theirs
        )
        os.close(theirs)
        seen = asyncio.StreamReader()
        with os.fdopen(ours, "r+b", buffering=0) as terminal:
            loop = asyncio.get_running_loop()
            transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(seen), terminal)
            try:
                async with asyncio.timeout(60):
                    await seen.readuntil(b"Ctrl-] leaves.")
                    os.write(terminal.fileno(), b"boot\r")
                    await seen.readuntil(b"BOOT")
                    os.write(terminal.fileno(), b"\x1d")
                    assert await process.wait() == 0
                    await ended.wait()
            finally:
                if process.returncode is None:
                    process.kill()
                    await process.wait()
                transport.close()
    assert heard.startswith(b"boot")
