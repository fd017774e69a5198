"""Told by systemd that this node is being shut down: have HA announce it, and hold the shutdown up until HA is done.

``python -m racimo.ha.announce`` is the ``ExecStop=`` of ``racimo-shutdown.service``, which systemd stops before the
guests, the daemons, the store and the network. It always ends, and always successfully: what could not be settled in
time goes the way of any node that falls silent.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import aiohttp
from pydantic import TypeAdapter, ValidationError

from racimo.ha.clock import SystemClock
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from racimo.ha.clock import Clock

KINDS = {
    "reboot.target": "reboot", "kexec.target": "reboot", "soft-reboot.target": "reboot",
    "poweroff.target": "poweroff", "halt.target": "poweroff",
}  # fmt: skip
"""What systemd is about to reach, and what that is to HA."""

LOOK_S = 0.25
SETTLED_S = 1.5
"""So long nothing may be left to wait for: the node's daemon still writes down what has ended."""
SILENT_S = 15.0
"""So long without an answer of the HA daemon, and it is not waited for."""
UNHEARD_S = 30.0
"""So long the store may take for the announcement: without a quorum nobody acts on it anyway."""
LIMIT_S = 1500.0
"""Nothing is waited for longer: half an hour after it was told to shut down systemd does so by force."""
ASK_S = 3.0


def kind_of(jobs: str) -> str:
    """``reboot`` or ``poweroff``, by what ``systemctl list-jobs`` prints; empty when the machine stays up."""
    for line in jobs.splitlines():
        fields = line.split()
        if len(fields) >= 3 and fields[2] == "start" and fields[1] in KINDS:
            return KINDS[fields[1]]
    return ""


@dataclass(frozen=True)
class Progress:
    """How far the shutdown is; ``why``: what is waited for."""

    ready: bool
    why: str = ""


@dataclass(frozen=True)
class Status:
    """What the HA daemon says that matters here. ``in_touch``: the store takes its heartbeats."""

    in_touch: bool
    shutdown: Progress


_adapter = TypeAdapter(Status)


class Daemon(Protocol):
    """The HA daemon of this node."""

    async def status(self) -> Status | None:
        """How it is; None while it does not answer."""


class SocketDaemon:
    """Asked over its socket."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def status(self) -> Status | None:
        timeout = aiohttp.ClientTimeout(total=ASK_S)
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(self._socket)), timeout=timeout) as session,
                session.get("http://localhost/status") as answer,
            ):
                return _adapter.validate_json(await answer.read())
        except (aiohttp.ClientError, OSError, TimeoutError, ValidationError):
            return None


async def hold_up(daemon: Daemon, clock: Clock, tell: Callable[[str], None]) -> str:
    """Wait until the node may end, or waiting is of no use any more; why, as a sentence. ``tell`` hears of changes."""
    began = heard = touched = clock.monotonic()
    ready_since: float | None = None
    last = ""
    while True:
        status, now = await daemon.status(), clock.monotonic()
        if status is not None:
            heard, touched = now, now if status.in_touch else touched
            if status.shutdown.why not in ("", last):
                last = status.shutdown.why
                tell(last)
        if status is None or not status.shutdown.ready:
            ready_since = None
        elif ready_since is None:
            ready_since = now
        elif now - ready_since >= SETTLED_S:
            return "HA is done with this node"
        if now - heard > SILENT_S:
            return f"the HA daemon has not answered for {SILENT_S:g} s"
        if now - touched > UNHEARD_S:
            return f"the store has not taken heartbeats for {UNHEARD_S:g} s, so nobody acts: {last}"
        if now - began > LIMIT_S:
            return f"it has taken {LIMIT_S:g} s: {last}"
        await clock.sleep(LOOK_S)


async def announce(paths: NodePaths, jobs: str, daemon: Daemon, clock: Clock, tell: Callable[[str], None]) -> str:
    """Announce what ``jobs`` say is happening, and wait. What came of it, as a sentence."""
    kind = kind_of(jobs)
    if not kind:
        return "this machine is not being shut down"
    if not paths.ha_socket.exists():
        return f"{kind}: HA does not run here"
    paths.shutdown.write_text(kind + "\n", encoding="ascii")
    return f"{kind}: {await hold_up(daemon, clock, tell)}"


async def _jobs() -> str:
    process = await asyncio.create_subprocess_exec(
        "systemctl", "list-jobs", "--no-legend", "--plain", "--full", stdout=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(10):
            out, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return ""
    return out.decode(errors="replace")


async def run(paths: NodePaths) -> str:
    """All of it, over the real things."""
    return await announce(paths, await _jobs(), SocketDaemon(paths.ha_socket), SystemClock(), _say)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    _say(asyncio.run(run(NodePaths())))
