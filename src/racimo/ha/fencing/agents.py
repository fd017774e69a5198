"""Asks fence devices through programs with the fence agents' interface (FenceAgentAPI of ClusterLabs).

Options go to the program's standard input as ``name=value`` lines, secrets among them: never to its arguments. What
the program says is kept for people, with the secrets blotted out.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from racimo.errors import BadParameter, NotFound, OperationFailed, RacimoError
from racimo.model.fence import DeviceAnswer
from racimo.store.layout import FENCE_DEVICES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from racimo.model.fence import FenceDevice
    from racimo.store.sealing import Sealing

DIRECTORIES = (Path("/usr/sbin"), Path("/usr/local/sbin"))
"""Where programs are looked for; what is installed there is root's."""

NAME = re.compile(r"fence_[a-z0-9_]{1,60}")
POWER = re.compile(r"^Status:\s*(ON|OFF)\s*$", re.IGNORECASE | re.MULTILINE)
OFF_CODE = 2
"""What ``status`` ends with when the power is off. Bad options end with it too, so alone it means nothing."""
_TRY = "Run it by hand and see what it says: echo action=metadata |"
_REINSTALL = "Install it anew: apt-get install --reinstall fence-agents"
METADATA_TIMEOUT_S = 20.0
SAID = 300
"""Characters that are kept of what a program says."""
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C", "LC_ALL": "C"}


class FenceAgents(Protocol):
    """Whoever can ask a device. The simulation has devices of its own."""

    async def ask(self, device: FenceDevice, action: str) -> DeviceAnswer:
        """Have ``device`` do ``off``, ``on`` or ``status``; within its time-out there is an answer. Raises nothing."""


@dataclass(frozen=True, slots=True)
class _Printed:
    code: int
    out: str
    err: str


class FencePrograms:
    """The programs installed on this machine. Here alone a device's secrets are in the clear."""

    def __init__(self, sealing: Sealing, directories: Sequence[Path] = DIRECTORIES) -> None:
        self.sealing, self._directories = sealing, tuple(directories)

    def names(self) -> list[str]:
        """Every program that looks like a fence agent."""
        found = {path.name for directory in self._directories for path in directory.glob("fence_*")}
        return sorted(name for name in found if NAME.fullmatch(name) and self._find(name) is not None)

    def program(self, agent: str) -> Path:
        """Where ``agent`` is. Raises ``BadParameter`` for a name that is none, ``NotFound`` when it is not there."""
        if not NAME.fullmatch(agent):
            raise BadParameter({"agent": f"'{agent}' is not the name of a fence agent, such as fence_ipmilan"})
        path = self._find(agent)
        if path is None:
            raise NotFound(
                f"{agent} is not installed on this node",
                why=f"it is not in {' or '.join(str(directory) for directory in self._directories)}",
                todo="Install it on every node: apt-get install fence-agents; and see: racimo ha fence agents",
            )
        return path

    def _find(self, agent: str) -> Path | None:
        for directory in self._directories:
            path = directory / agent
            if path.is_file() and os.access(path, os.X_OK):
                return path
        return None

    async def metadata(self, agent: str) -> str:
        """The XML in which ``agent`` describes itself. Raises as ``program``, and ``OperationFailed``."""
        path = self.program(agent)
        try:
            printed = await _run(path, "action=metadata\n", METADATA_TIMEOUT_S)
        except TimeoutError:
            why = f"it printed nothing within {METADATA_TIMEOUT_S:g} s"
            raise OperationFailed(f"{agent} does not describe itself", why=why, todo=f"{_TRY} {agent}") from None
        except OSError as error:
            why = error.strerror or str(error)
            raise OperationFailed(f"{agent} cannot be run", why=why, todo=_REINSTALL) from error
        if printed.code != 0 or "<resource-agent" not in printed.out:
            why = _said(printed) or f"it ended with code {printed.code}"
            raise OperationFailed(f"{agent} does not describe itself", why=why, todo=f"{_TRY} {agent}")
        return printed.out

    async def ask(self, device: FenceDevice, action: str) -> DeviceAnswer:
        """See ``FenceAgents``."""
        began, opened = time.monotonic(), device

        def answer(said: str, *, ok: bool = False, power: str = "") -> DeviceAnswer:
            told = _without_secrets(said, opened)
            spent = round(time.monotonic() - began, 2)
            return DeviceAnswer(device=device.name, action=action, ok=ok, power=power, said=told, seconds=spent)

        try:
            opened = self.sealing.open_record(f"{FENCE_DEVICES}{device.name}", device)
            feed = _feed(opened, action)
            printed = await _run(self.program(device.agent), feed, device.timeout)
        except TimeoutError:
            return answer(f"{device.agent} gave no answer within {device.timeout:g} s")
        except RacimoError as error:  # no such program, options that cannot be, secrets that do not open
            return answer(str(error))
        except OSError as error:
            return answer(f"{device.agent} cannot be run: {error.strerror or error}")
        said = _said(printed) or f"{device.agent} ended with code {printed.code}"
        if action != "status":
            return answer(said, ok=printed.code == 0)
        power = _power(printed)
        return answer(said, ok=bool(power), power=power)


def _power(printed: _Printed) -> str:
    """``on`` or ``off`` if exit code and words agree on it; empty otherwise."""
    match = POWER.search(printed.out)
    word = match[1].lower() if match else ""
    return word if (word, printed.code) in (("off", OFF_CODE), ("on", 0)) else ""


def _feed(device: FenceDevice, action: str) -> str:
    options = {**device.options, **device.secrets}
    lines = [f"{name}={value}" for name, value in sorted(options.items())]
    if any(ord(letter) < 32 for line in lines for letter in line):
        raise BadParameter({"options": f"those of {device.name} hold a line break or another control character"})
    return "".join(f"{line}\n" for line in [f"action={action}", *lines])


def _said(printed: _Printed) -> str:
    """The last words of a program, on one line: those of its standard error, if it failed."""
    text = printed.out if printed.code in (0, OFF_CODE) and printed.out.strip() else printed.err or printed.out
    return " ".join(text.split())[-SAID:]


def _without_secrets(said: str, device: FenceDevice) -> str:
    for secret in sorted(device.secrets.values(), key=len, reverse=True):
        if secret:
            said = said.replace(secret, "***")
    return said


async def _run(program: Path, feed: str, timeout: float) -> _Printed:
    """Run ``program`` to its end in a session of its own, which is killed whole after ``timeout`` seconds.

    Raises ``TimeoutError`` and ``OSError``.
    """
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(program), stdin=pipe, stdout=pipe, stderr=pipe, env=ENVIRONMENT, cwd="/", start_new_session=True
    )
    try:
        async with asyncio.timeout(timeout):
            out, err = await process.communicate(feed.encode())
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
    return _Printed(process.returncode or 0, out.decode(errors="replace"), err.decode(errors="replace"))
