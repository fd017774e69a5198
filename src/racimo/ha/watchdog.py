"""The hardware watchdog, or the lab's stand-in for one. Standard library only: the guard feeds it.

Once armed, a watchdog resets the machine when it is not fed for its time-out, whatever the reason.
"""

from __future__ import annotations

import array
import fcntl
import math
import os
import socket
from typing import Protocol

ENVIRONMENT = "RACIMO_WATCHDOG"
"""``unix:/path`` (the lab's), ``/dev/…`` (a device), ``none``. Default: ``/dev/watchdog`` where there is one."""

WDIOC_SETTIMEOUT = 0xC0045706
"""From linux/watchdog.h."""


class Watchdog(Protocol):
    """What resets the machine unless it is fed."""

    name: str

    def arm(self, seconds: float) -> None:
        """Start it, or change its time-out. Raises ``OSError``."""

    def feed(self) -> None:
        """Not yet. Raises ``OSError``."""

    def disarm(self) -> None:
        """Stop it, where it can be stopped."""


class NoWatchdog:
    """A machine without one."""

    name = "none"

    def arm(self, seconds: float) -> None:
        return

    def feed(self) -> None:
        return

    def disarm(self) -> None:
        return


class DeviceWatchdog:
    """A Linux watchdog device (Documentation/watchdog/watchdog-api.rst)."""

    def __init__(self, path: str) -> None:
        self.name, self._file, self._seconds = path, -1, 0

    def arm(self, seconds: float) -> None:
        if self._file < 0:
            self._file = os.open(self.name, os.O_WRONLY | os.O_CLOEXEC)
        wanted = math.ceil(seconds)
        if wanted != self._seconds:
            fcntl.ioctl(self._file, WDIOC_SETTIMEOUT, array.array("i", [wanted]))
            self._seconds = wanted

    def feed(self) -> None:
        if self._file >= 0:
            os.write(self._file, b"\0")

    def disarm(self) -> None:
        if self._file >= 0:
            os.write(self._file, b"V")  # the magic close: without it closing leaves the watchdog running
            os.close(self._file)
            self._file = -1


class DatagramWatchdog:
    """The lab's: ``arm SECONDS``, ``feed`` and ``disarm`` as datagrams to a unix socket outside the node."""

    def __init__(self, path: str) -> None:
        self.name, self._path, self._seconds = f"unix:{path}", path, 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def arm(self, seconds: float) -> None:
        if seconds != self._seconds:
            self._socket.sendto(f"arm {seconds:g}".encode(), self._path)
            self._seconds = seconds

    def feed(self) -> None:
        if self._seconds:
            self._socket.sendto(b"feed", self._path)

    def disarm(self) -> None:
        if self._seconds:
            self._socket.sendto(b"disarm", self._path)
            self._seconds = 0.0
        self._socket.close()


def open_watchdog(setting: str | None) -> Watchdog:
    """The watchdog that ``setting`` (of ``RACIMO_WATCHDOG``) names."""
    if setting == "none":
        return NoWatchdog()
    if setting and setting.startswith("unix:"):
        return DatagramWatchdog(setting.removeprefix("unix:"))
    path = setting or "/dev/watchdog"
    return DeviceWatchdog(path) if setting or os.path.exists(path) else NoWatchdog()
