"""Starting and stopping the units of this node."""

from __future__ import annotations

import asyncio
from typing import Protocol

from racimo.errors import OperationFailed

ETCD_UNIT = "racimo-etcd.service"
WITNESS_TIMER = "racimo-witness.timer"
TIMEOUT_S = 60.0


class Services(Protocol):
    """What the room needs of the service manager. All raise ``OperationFailed`` with what it said."""

    async def start(self, unit: str) -> None:
        """Start it now and at each boot; return without waiting until it serves."""

    async def stop(self, unit: str) -> None:
        """Stop it now and start it no more at boot; return when it is down. Nothing happens if it does not run."""

    async def active(self, unit: str) -> bool:
        """Whether it runs or is on its way up."""

    async def journal(self, unit: str) -> str:
        """The last lines that it logged, for people."""


class SystemdServices:
    """``Services`` by systemctl."""

    async def start(self, unit: str) -> None:
        await self._systemctl("reset-failed", unit, check=False)
        await self._systemctl("enable", "--quiet", unit)
        await self._systemctl("start", "--no-block", unit)

    async def stop(self, unit: str) -> None:
        await self._systemctl("disable", "--quiet", unit)
        await self._systemctl("stop", unit)

    async def active(self, unit: str) -> bool:
        state = await self._systemctl("is-active", unit, check=False)
        return state.strip() in {"active", "activating", "reloading"}

    async def journal(self, unit: str) -> str:
        return await _output("journalctl", "--no-pager", "--output=cat", "--lines=5", f"--unit={unit}", check=False)

    @staticmethod
    async def _systemctl(*arguments: str, check: bool = True) -> str:
        return await _output("systemctl", *arguments, check=check)


async def _output(*argv: str, check: bool) -> str:
    """Standard output of a program; with ``check``, ``OperationFailed`` when it fails. Killed after a minute."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
        )
    except FileNotFoundError as error:
        raise OperationFailed(
            f"{argv[0]} is missing", why=str(error), todo="Racimo needs a host with systemd"
        ) from error
    try:
        async with asyncio.timeout(TIMEOUT_S):
            output, errors = await process.communicate()
    except TimeoutError:
        raise OperationFailed(
            f"'{' '.join(argv)}' did not end",
            why=f"waited {TIMEOUT_S:.0f} s for it",
            todo="See what systemd waits for: systemctl list-jobs",
        ) from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if check and process.returncode:
        raise OperationFailed(
            f"'{' '.join(argv)}' failed",
            why=errors.decode(errors="replace").strip(),
            todo="See whether the units of Racimo are installed and whole: systemctl list-unit-files 'racimo-*'",
        )
    return output.decode(errors="replace")
