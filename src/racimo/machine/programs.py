"""Programs of this machine, run to their end: the one seam through which this room changes what is not a file."""

from __future__ import annotations

import asyncio
import contextlib
import os

from racimo.errors import OperationFailed

TIMEOUT = 30.0
"""Seconds that a program may take."""


class Programs:
    """Runs them. Tests put one in its place that notes what was asked for."""

    async def run(self, *argv: str, timeout: float = TIMEOUT) -> str:
        """Standard output. Raises ``OperationFailed`` with what it said; it is killed when it takes too long."""
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE, env={**os.environ, "LC_ALL": "C"},
            )  # fmt: skip
        except FileNotFoundError as error:
            raise OperationFailed(f"{argv[0]} is not installed", todo="Install it on this node") from error
        try:
            async with asyncio.timeout(timeout):
                output, complaint = await process.communicate()
        except TimeoutError as error:
            raise OperationFailed(f"{argv[0]} was ended", why=f"it did not end within {timeout:g} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
        if process.returncode:
            said = complaint.decode(errors="replace").strip() or f"exit status {process.returncode}"
            raise OperationFailed(f"'{' '.join(argv)}' failed", why=said[:500])
        return output.decode(errors="replace")
