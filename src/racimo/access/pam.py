"""The realm ``pam``: accounts of this node, asked for in a process of its own."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING

import structlog

from racimo.errors import NotLoggedIn, OperationFailed
from racimo.task.settle import settled

if TYPE_CHECKING:
    from collections.abc import Sequence

SERVICE = "racimo"
"""PAM's name for us: /etc/pam.d/racimo, or /etc/pam.d/other where that is not there."""
TIMEOUT = 15.0
"""Seconds for PAM's answer; a wrong password alone takes its modules two."""
AT_ONCE, WAITING = 4, 64
HELPER = (sys.executable, "-I", "-m", "racimo.access.pam_helper")
CHANGE = ("chpasswd",)

_log = structlog.get_logger()


class Pam:
    """Asks the helper. ``helper`` and ``change`` are the programs: argv, the secret goes to their standard input."""

    def __init__(
        self, helper: Sequence[str] = HELPER, change: Sequence[str] = CHANGE, *, timeout: float = TIMEOUT
    ) -> None:
        self._helper, self._change, self._timeout = tuple(helper), tuple(change), timeout
        self._free = asyncio.Semaphore(AT_ONCE)
        self._waiting = 0

    async def is_right(self, name: str, password: str) -> bool:
        """Whether PAM takes the password of the account. Raises ``OperationFailed`` when it cannot be asked."""
        asked = json.dumps({"service": SERVICE, "user": name, "password": password}).encode()
        code, said = await self._run(self._helper, asked)
        if code not in (0, 1):
            raise OperationFailed("PAM could not be asked", why=said, todo="See whether libpam0g is installed")
        if code == 1:
            _log.info("PAM refused a login", account=name, why=said)
        return code == 0

    async def change(self, name: str, password: str) -> None:
        """Give the account of this node a new password. Raises ``OperationFailed``."""
        code, said = await self._run(self._change, f"{name}:{password}\n".encode())
        if code != 0:
            raise OperationFailed("The password was not changed", why=said or f"{self._change[0]} ended with {code}")

    async def _run(self, argv: Sequence[str], given: bytes) -> tuple[int, str]:
        if self._waiting >= WAITING:
            raise NotLoggedIn("Too many logins at once", why=f"{self._waiting} wait already", todo="Try again shortly")
        self._waiting += 1
        try:
            async with self._free:
                return await self._ask(argv, given)
        finally:
            self._waiting -= 1

    async def _ask(self, argv: Sequence[str], given: bytes) -> tuple[int, str]:
        try:
            process = await asyncio.create_subprocess_exec(
                *argv, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
        except OSError as error:
            raise OperationFailed(f"{argv[0]} cannot be run", why=error.strerror or str(error)) from error
        try:
            async with asyncio.timeout(self._timeout):
                said, _ = await process.communicate(given)
        except TimeoutError as error:
            raise OperationFailed(f"{argv[0]} did not answer", why=f"it took over {self._timeout:g} s") from error
        finally:
            if process.returncode is None:
                process.kill()
                await settled(asyncio.ensure_future(process.wait()))
        return process.returncode or 0, said.decode(errors="replace").strip()[-200:]
