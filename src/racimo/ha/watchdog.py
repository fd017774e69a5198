"""The hardware watchdog, or the lab's stand-in for one. Standard library only: the guard feeds it.

Once armed, a watchdog resets the machine when it is not fed for its time-out, whatever the reason. The contract of the
Linux device: Documentation/watchdog/watchdog-api.rst and linux/watchdog.h.
"""

from __future__ import annotations

import array
import contextlib
import errno
import fcntl
import math
import os
import socket
import struct
from typing import TYPE_CHECKING, Protocol

from racimo.ha.timing import longest_watchdog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

ENVIRONMENT = "RACIMO_WATCHDOG"
"""``unix:/path`` (the lab's), ``/dev/…`` (a device), ``none``. Default: ``/dev/watchdog`` where there is one."""

WDIOC_GETSUPPORT = 0x80285700
WDIOC_SETTIMEOUT = 0xC0045706
WDIOC_GETTIMEOUT = 0x80045707
WDIOF_SETTIMEOUT = 0x0080
WDIOF_MAGICCLOSE = 0x0100
INFORMATION = struct.Struct("=II32s")
"""``struct watchdog_info``: options, firmware version, identity."""


class Watchdog(Protocol):
    """What resets the machine unless it is fed."""

    @property
    def name(self) -> str:
        """Where it is."""

    @property
    def identity(self) -> str:
        """What the device calls itself; empty until it was armed."""

    @property
    def seconds(self) -> float:
        """The time-out that it counts by, which may be longer than what was asked for; 0 while it is not armed."""

    def arm(self, seconds: float) -> None:
        """Start it, or change its time-out. Afterwards ``seconds`` is what it has become. Raises ``OSError``."""

    def feed(self) -> None:
        """Not yet. Raises ``OSError``."""

    def disarm(self) -> None:
        """Stop it. Raises ``OSError`` where it cannot be stopped any more."""


class NoWatchdog:
    """A machine without one."""

    name, identity, seconds = "none", "", 0.0

    def arm(self, seconds: float) -> None:
        return

    def feed(self) -> None:
        return

    def disarm(self) -> None:
        return


class WatchdogFile(Protocol):
    """An open watchdog device. Every call raises ``OSError`` as the kernel does."""

    def control(self, request: int, value: int) -> int:
        """An ioctl that takes and gives one int."""

    def information(self) -> tuple[int, str]:
        """Options (``WDIOF_…``) and identity."""

    def write(self, content: bytes) -> None:
        """Feed it; a ``V`` among ``content`` lets the next close stop it."""

    def close(self) -> None:
        """Give it back: it goes on counting, unless it was told otherwise."""


class KernelFile:
    """``WatchdogFile`` over a device of the kernel. Opening it starts it."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CLOEXEC)

    def control(self, request: int, value: int) -> int:
        argument = array.array("i", [value])
        fcntl.ioctl(self._file, request, argument)
        return argument[0]

    def information(self) -> tuple[int, str]:
        argument = bytearray(INFORMATION.size)
        fcntl.ioctl(self._file, WDIOC_GETSUPPORT, argument)
        options, _, identity = INFORMATION.unpack(bytes(argument))
        return options, identity.split(b"\0")[0].decode("ascii", errors="replace")

    def write(self, content: bytes) -> None:
        os.write(self._file, content)

    def close(self) -> None:
        os.close(self._file)


class DeviceWatchdog:
    """A Linux watchdog device."""

    def __init__(self, path: str, opened: Callable[[str], WatchdogFile] = KernelFile) -> None:
        self.name, self.identity, self.seconds = path, "", 0.0
        self._opened, self._file, self._options, self._asked = opened, None, 0, 0

    _file: WatchdogFile | None

    def arm(self, seconds: float) -> None:
        wanted = math.ceil(seconds)
        if self._file is not None and wanted == self._asked:
            return
        if self._file is None:
            self._file = self._opened(self.name)
        try:
            self._set(self._file, wanted)
        except OSError:
            with contextlib.suppress(OSError):
                self.disarm()
            raise
        self._asked = wanted

    def _set(self, file: WatchdogFile, wanted: int) -> None:
        """Ask for ``wanted`` seconds, and take what the device makes of it."""
        if not self.identity:
            try:
                self._options, self.identity = file.information()
            except OSError:
                self._options, self.identity = WDIOF_SETTIMEOUT, "unknown"
        if self._options & WDIOF_SETTIMEOUT:
            try:
                self.seconds = float(file.control(WDIOC_SETTIMEOUT, wanted))
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
                # Out of its range: it keeps what it had, which may do as well.
        self.seconds = float(file.control(WDIOC_GETTIMEOUT, 0))

    def feed(self) -> None:
        if self._file is not None:
            self._file.write(b"\0")

    def disarm(self) -> None:
        """Without the magic close, closing leaves it running; with ``nowayout`` nothing stops it."""
        if self._file is None:
            return
        file, self._file, self.seconds, self._asked = self._file, None, 0.0, 0
        try:
            file.write(b"V")
        finally:
            file.close()


class DatagramWatchdog:
    """The lab's: ``arm SECONDS``, ``feed`` and ``disarm`` as datagrams to a unix socket outside the node."""

    identity = "the lab's watchdog"

    def __init__(self, path: str) -> None:
        self.name, self._path, self.seconds = f"unix:{path}", path, 0.0
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)

    def arm(self, seconds: float) -> None:
        if seconds != self.seconds:
            self._socket.sendto(f"arm {seconds:g}".encode(), self._path)
            self.seconds = seconds

    def feed(self) -> None:
        if self.seconds:
            self._socket.sendto(b"feed", self._path)

    def disarm(self) -> None:
        if self.seconds:
            self._socket.sendto(b"disarm", self._path)
            self.seconds = 0.0


class SafeWatchdog:
    """A watchdog as the guard uses it: none that counts longer than the lease allows, and none left unfed by mistake.

    A guard that was killed leaves its watchdog running, and its successor may have no reason to arm it. So ``marker``
    says with which time-out it was armed, and the successor feeds it too.
    """

    def __init__(self, inner: Watchdog, marker: Path) -> None:
        self._inner, self._marker = inner, marker
        self._refused: tuple[float, OSError] | None = None
        self._left_s = 0.0
        with contextlib.suppress(OSError, ValueError):
            self._left_s = float(marker.read_text(encoding="ascii"))

    @property
    def name(self) -> str:
        return self._inner.name

    @property
    def identity(self) -> str:
        return self._inner.identity

    @property
    def seconds(self) -> float:
        return self._inner.seconds

    def arm(self, seconds: float) -> None:
        if self._refused is not None and self._refused[0] == seconds:
            raise self._refused[1]
        before = self.seconds
        self._inner.arm(seconds)
        self._left_s = 0.0
        if self.seconds > (most := longest_watchdog(seconds)):
            why = f"its time-out is {self.seconds:g} s at least, and more than {most:g} s protect nothing"
            self._refused = seconds, OSError(errno.ERANGE, why)
            self.disarm()
            raise self._refused[1]
        if self.seconds != before:
            self._marker.write_text(f"{seconds:g}\n", encoding="ascii")

    def feed(self) -> None:
        if self._left_s:
            self.arm(self._left_s)
        self._inner.feed()

    def disarm(self) -> None:
        self._inner.disarm()
        self._marker.unlink(missing_ok=True)


def open_watchdog(setting: str | None, marker: Path) -> Watchdog:
    """The watchdog that ``setting`` (of ``RACIMO_WATCHDOG``) names; ``marker`` says whether it was left running."""
    path = setting or "/dev/watchdog"
    if setting == "none" or (not setting and not os.path.exists(path)):
        return NoWatchdog()
    if path.startswith("unix:"):
        return SafeWatchdog(DatagramWatchdog(path.removeprefix("unix:")), marker)
    return SafeWatchdog(DeviceWatchdog(path), marker)
