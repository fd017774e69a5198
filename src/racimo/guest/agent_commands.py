"""What can be asked of a guest's agent beyond a ping: commands, files, programs, frozen file systems."""

from __future__ import annotations

import asyncio
import base64
import binascii
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import structlog

from racimo.errors import BadParameter, OperationFailed, RacimoError
from racimo.guest.agent import agent_command, agent_ping
from racimo.guest.unbroken import unbroken

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from pydantic import JsonValue

    from racimo.model.paths import NodePaths
    from racimo.task.operation import Report

log = structlog.get_logger()

READS = (
    "get-fsinfo", "get-host-name", "get-memory-block-info", "get-memory-blocks", "get-osinfo", "get-time",
    "get-timezone", "get-users", "get-vcpus", "info", "network-get-interfaces",
)  # fmt: skip
"""Commands that only look, without arguments; the agent's own names, ``guest-`` left out."""

ACTIONS = ("fsfreeze-freeze", "fsfreeze-status", "fsfreeze-thaw", "fstrim", "shutdown", "suspend-disk", "suspend-ram")
"""Commands that act, without arguments."""

COMMAND_TIMEOUT = 10.0
FREEZE_TIMEOUT = 60.0
"""Seconds for a guest to write out what its file systems hold; a busy one takes long."""

READ_CHUNK = 1 << 20
MAX_READ = 16 << 20
"""Bytes of a file that are read at most; what is longer is cut, and that is said."""


class Agent:
    """The agent of one guest of this node."""

    def __init__(self, paths: NodePaths, vmid: int) -> None:
        self._paths, self._vmid = paths, vmid

    async def command(
        self, name: str, arguments: Mapping[str, JsonValue] | None = None, *, timeout: float = COMMAND_TIMEOUT
    ) -> JsonValue:
        """Run ``guest-<name>``. Raises ``Conflict`` when the guest has no agent, ``OperationFailed`` when it is silent
        or refuses."""
        return await agent_command(self._paths, self._vmid, f"guest-{name}", timeout, arguments)

    async def run(self, command: Sequence[str], given: bytes | None = None) -> int:
        """Start a program inside; returns its process id. ``given`` is its standard input."""
        arguments: dict[str, JsonValue] = {"path": command[0], "arg": list(command[1:]), "capture-output": True}
        if given is not None:
            arguments["input-data"] = base64.b64encode(given).decode()
        return int(self._object(await self.command("exec", arguments), "exec")["pid"])

    async def outcome(self, pid: int) -> dict[str, JsonValue]:
        """How a program that was started so stands: ``exited``, ``exitcode``, ``out-data`` and ``err-data`` as text."""
        found = self._object(await self.command("exec-status", {"pid": pid}), "exec-status")
        return {name: _text(value) if name.endswith("-data") else value for name, value in found.items()}

    async def read(self, path: str) -> tuple[bytes, bool]:
        """A file of the guest, and whether it was cut at ``MAX_READ`` bytes."""
        handle = await self.command("file-open", {"path": path, "mode": "r"})
        content = bytearray()
        try:
            while len(content) < MAX_READ:
                answer = await self.command("file-read", {"handle": handle, "count": READ_CHUNK})
                part = self._object(answer, "file-read")
                content += base64.b64decode(part.get("buf-b64", ""))
                if part.get("eof") or not part.get("count"):
                    return bytes(content), False
            return bytes(content), True
        finally:
            await self.command("file-close", {"handle": handle})

    async def write(self, path: str, content: bytes) -> None:
        """Replace a file of the guest."""
        handle = await self.command("file-open", {"path": path, "mode": "w"})
        try:
            while content:
                buffer = base64.b64encode(content).decode()
                answer = await self.command("file-write", {"handle": handle, "buf-b64": buffer})
                content = content[int(self._object(answer, "file-write")["count"]) :]
        finally:
            await self.command("file-close", {"handle": handle})

    async def set_password(self, user: str, password: str, *, hashed: bool) -> JsonValue:
        """Give an account of the guest another password; ``hashed``: it is a hash of crypt(5) already."""
        encoded = base64.b64encode(password.encode()).decode()
        return await self.command("set-user-password", {"username": user, "password": encoded, "crypted": hashed})

    @asynccontextmanager
    async def frozen(self, report: Report) -> AsyncIterator[None]:
        """Hold the guest's file systems still. An agent that is silent or cannot is told of, and no failure."""
        try:
            await agent_ping(self._paths, self._vmid)
        except RacimoError as error:
            report.log(f"its file systems are not frozen: {error}")
            yield
            return
        try:
            count = await self.command("fsfreeze-freeze", timeout=FREEZE_TIMEOUT)
            report.log(f"the guest's agent froze {count} file systems")
        except RacimoError as error:
            report.log(f"its file systems are not frozen: {error}")
            await unbroken(self._thaw(report, quiet=True))  # it may have frozen some, or be about to
            yield
            return
        except asyncio.CancelledError:
            await unbroken(self._thaw(report, quiet=True))
            raise
        try:
            yield
        finally:
            await unbroken(self._thaw(report))

    async def _thaw(self, report: Report, *, quiet: bool = False) -> None:
        try:
            await self.command("fsfreeze-thaw", timeout=COMMAND_TIMEOUT)
        except RacimoError as error:
            if quiet:
                log.info("a guest that was not frozen cannot be thawed", vmid=self._vmid, why=str(error))
            else:
                report.warn(f"its file systems were not thawed by its agent: {error}")

    def _object(self, answer: JsonValue, command: str) -> dict[str, Any]:
        if not isinstance(answer, dict):
            raise OperationFailed(
                f"The agent of guest {self._vmid} cannot be understood", why=f"guest-{command} answered {answer!r}"
            )
        return cast("dict[str, Any]", answer)


def decoded(content: str, *, name: str) -> bytes:
    """Bytes from base64. Raises ``BadParameter`` for the parameter ``name``."""
    try:
        return base64.b64decode(content, validate=True)
    except binascii.Error as error:
        raise BadParameter({name: "is not base64"}) from error


def _text(value: object) -> str:
    return base64.b64decode(str(value)).decode(errors="replace")
