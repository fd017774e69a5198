"""A guest's QEMU monitor (QMP): commands with time-outs, events, QEMU's words in every error.

OperationFailed
├── MonitorLost      there is no connection, or it broke: a command that was under way may or may not have acted
├── MonitorSilent    QEMU did not answer in time: the command may still act
└── CommandRefused   QEMU answered with an error: nothing was changed by that command

QEMU serves one client of this socket at a time: the node's daemon. After a restart of the daemon the new one connects.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qemu.qmp import (
    ConnectError,
    EventListener,
    ExecInterruptedError,
    ExecuteError,
    QMPClient,
    QMPError,
    Runstate,
    StateError,
)

from racimo.errors import OperationFailed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from qemu.qmp import Message

CONNECT_TIMEOUT = 10.0
COMMAND_TIMEOUT = 10.0
CLOSE_TIMEOUT = 2.0
RETRY_CONNECT = 0.01
"""Seconds between attempts while QEMU has not yet made its socket: it gives no event to wait for."""

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # it logs what it also raises; we report what is raised


class MonitorLost(OperationFailed):
    """There is no connection to QEMU's monitor, or it broke. A command under way may or may not have acted."""


class MonitorSilent(OperationFailed):
    """QEMU did not answer in time. The command may still act."""


class CommandRefused(OperationFailed):
    """QEMU answered with an error; ``why`` is its text, ``error_class`` its class."""

    def __init__(self, what: str, *, why: str, error_class: str) -> None:
        super().__init__(what, why=why)
        self.error_class = error_class


@dataclass(frozen=True, slots=True)
class MonitorEvent:
    """One event of QEMU. ``at`` is its time stamp, in seconds since the epoch on that host's clock."""

    name: str
    at: float
    fields: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class MonitorStatus:
    """What ``query-status`` says: ``name`` is QEMU's run state, such as ``running``, ``paused``, ``postmigrate``."""

    name: str
    running: bool


class _Dispatch(EventListener):
    """Hands events to the subscribers and keeps none: the library's own listeners keep a history for ever."""

    def __init__(self) -> None:
        super().__init__()
        self.subscribers: list[tuple[frozenset[str], asyncio.Queue[MonitorEvent]]] = []

    async def put(self, event: Message) -> None:
        stamp: Any = event.get("timestamp", {})
        at = stamp.get("seconds", 0) + stamp.get("microseconds", 0) / 1e6
        fields: Any = event.get("data", {})
        seen = MonitorEvent(str(event["event"]), at, fields)
        for names, queue in self.subscribers:
            if not names or seen.name in names:
                queue.put_nowait(seen)


class Monitor:
    """One connection to one guest's QEMU. All methods raise the errors listed at the head of this module."""

    def __init__(self, path: Path, label: str, client: QMPClient, dispatch: _Dispatch) -> None:
        self.path, self.label = path, label
        self._client, self._dispatch = client, dispatch

    @classmethod
    async def connect(cls, path: Path, label: str, *, timeout: float = CONNECT_TIMEOUT) -> Monitor:
        """Connect to the socket ``path``, waiting up to ``timeout`` seconds until QEMU serves it.

        ``label`` names the guest in errors. QEMU serves one client: while another is connected, this times out.
        """
        dispatch = _Dispatch()
        try:
            async with asyncio.timeout(timeout):
                while True:
                    client = QMPClient(label)
                    client.events.names.add("none")  # see _Dispatch
                    client.register_listener(dispatch)
                    try:
                        await client.connect(str(path))
                        return cls(path, label, client, dispatch)
                    except ConnectError as error:
                        if not isinstance(error.exc, (FileNotFoundError, ConnectionRefusedError)):
                            raise MonitorLost(
                                f"The monitor of {label} could not be reached", why=f"{path}: {error.exc}"
                            ) from error
                    await asyncio.sleep(RETRY_CONNECT)
        except TimeoutError:
            raise MonitorSilent(
                f"The monitor of {label} could not be reached",
                why=f"QEMU did not serve {path} within {timeout:g} s",
                todo="See the guest's qemu.log; or another program may hold this socket",
            ) from None

    @property
    def connected(self) -> bool:
        """Whether commands can be sent now."""
        return self._client.runstate is Runstate.RUNNING

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout: float = COMMAND_TIMEOUT
    ) -> object:
        """Run one QMP command and return its result."""
        what = f"{command} failed for {self.label}"
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments)
        except ExecuteError as error:
            raise CommandRefused(what, why=str(error), error_class=error.error_class) from error
        except TimeoutError:
            raise MonitorSilent(what, why=f"QEMU did not answer within {timeout:g} s") from None
        except (ExecInterruptedError, StateError) as error:
            raise MonitorLost(what, why="the connection to QEMU's monitor is lost") from error
        except QMPError as error:
            raise MonitorLost(what, why=str(error)) from error

    async def give_file(self, name: str, file: int) -> None:
        """Hand an open file to QEMU, which knows it as ``name`` from then on. The caller closes its own end."""
        try:
            self._client.send_fd_scm(file)
        except (OSError, QMPError, StateError) as error:
            raise MonitorLost(f"{self.label} was not given a file", why=str(error)) from error
        await self.execute("getfd", {"fdname": name})

    async def query(self, command: str, *, timeout: float = COMMAND_TIMEOUT) -> Mapping[str, Any]:
        """A command whose result is an object."""
        result = await self.execute(command, timeout=timeout)
        if not isinstance(result, dict):
            raise MonitorLost(f"{command} failed for {self.label}", why=f"QEMU answered {result!r}, not an object")
        return result

    @contextmanager
    def events(self, *names: str) -> Iterator[asyncio.Queue[MonitorEvent]]:
        """A queue that gets the events called ``names`` (none given: all) while the context lasts."""
        entry = (frozenset(names), asyncio.Queue[MonitorEvent]())
        self._dispatch.subscribers.append(entry)
        try:
            yield entry[1]
        finally:
            self._dispatch.subscribers.remove(entry)

    async def ended(self) -> None:
        """Return when the connection has ended and every event that QEMU sent before was delivered."""
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()

    async def status(self) -> MonitorStatus:
        """QEMU's run state."""
        answer = await self.query("query-status")
        return MonitorStatus(str(answer["status"]), bool(answer["running"]))

    async def close(self) -> None:
        """Disconnect. The guest goes on."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await self._client.disconnect()
        except (EOFError, OSError, QMPError, TimeoutError):
            return  # it ended already, or QEMU hangs: either way nothing of ours is left to lose
