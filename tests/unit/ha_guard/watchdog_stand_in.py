"""A watchdog device in memory that keeps the contract of the kernel's: drivers/watchdog/watchdog_dev.c, Linux 6.1."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field

from racimo.ha.watchdog import WDIOC_GETTIMEOUT, WDIOC_SETTIMEOUT, WDIOF_MAGICCLOSE, WDIOF_SETTIMEOUT

WDIOC_GETTIMELEFT = 0x8004570A
ALL = WDIOF_SETTIMEOUT | WDIOF_MAGICCLOSE


def failure(number: int) -> OSError:
    return OSError(number, os.strerror(number))


@dataclass
class StandIn:
    """One device. ``now`` is moved by hand; ``bitten`` says when it reset the machine."""

    options: int = ALL
    least: int = 1
    most: int = 600
    step: int = 1
    """Time-outs are rounded up to a multiple of this."""
    nowayout: bool = False
    timeout: int = 60
    now: float = 0.0
    opened: int = 0
    fed: list[float] = field(default_factory=list)
    deadline: float | None = None

    @property
    def running(self) -> bool:
        return self.deadline is not None

    @property
    def bitten(self) -> bool:
        return self.deadline is not None and self.now >= self.deadline

    def feed(self) -> None:
        self.fed.append(self.now)
        self.deadline = self.now + self.timeout

    def open(self, path: str) -> StandInFile:
        if self.opened:
            raise failure(errno.EBUSY)
        self.opened += 1
        self.feed()
        return StandInFile(self)


class StandInFile:
    """One open file of it."""

    def __init__(self, device: StandIn) -> None:
        self.device, self.may_stop, self.closed = device, False, False

    def control(self, request: int, value: int) -> int:
        device = self.device
        if request == WDIOC_GETTIMEOUT:
            return device.timeout
        if request == WDIOC_GETTIMELEFT and device.deadline is not None:
            return round(device.deadline - device.now)
        if request != WDIOC_SETTIMEOUT:
            raise failure(errno.ENOTTY)
        if not device.options & WDIOF_SETTIMEOUT:
            raise failure(errno.EOPNOTSUPP)
        if not device.least <= value <= device.most:
            raise failure(errno.EINVAL)
        device.timeout = -(-value // device.step) * device.step
        device.feed()
        return device.timeout

    def information(self) -> tuple[int, str]:
        return self.device.options, "stand-in"

    def write(self, content: bytes) -> None:
        if content:
            self.may_stop = b"V" in content
            self.device.feed()

    def close(self) -> None:
        device = self.device
        stops = self.may_stop or not device.options & WDIOF_MAGICCLOSE
        if stops and not device.nowayout:
            device.deadline = None
        else:
            device.feed()
        device.opened -= 1
        self.closed = True
