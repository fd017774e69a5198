"""One run of an outside program, bounded in time, with what it said in the error."""

from __future__ import annotations

import asyncio

from racimo.errors import OperationFailed

TIMEOUT = 30.0


async def run_program(*argv: str, check: bool = True, timeout: float = TIMEOUT) -> str:
    """Run it and return what it printed. Raises ``OperationFailed`` when it takes too long or, with ``check``, fails.

    A cancelled or late program is killed.
    """
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    shown = " ".join(argv[:5])
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate()
    except TimeoutError:
        raise OperationFailed(f"'{shown}' did not end within {timeout:g} s") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if check and process.returncode != 0:
        raise OperationFailed(f"'{shown}' failed", why=err.decode(errors="replace").strip())
    return out.decode(errors="replace")
