"""A guard as systemd runs it, and processes that look like guests, for the guard's tests."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from racimo.model.lease import Lease, boottime_ns, write_lease
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SECOND = 1_000_000_000
BASE = 500_000_000 + os.getpid() * 10 % 400_000_000
"""Vmids that no other test on the machine uses."""


def eventually(condition: Callable[[], bool], within: float, what: str) -> float:
    """Seconds until ``condition`` held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within, f"waited {within} s for: {what}"
        time.sleep(0.01)
    return time.monotonic() - began


class Supervisor:
    """What systemd does for the guard: restarts it when it dies, and kills it when WATCHDOG=1 stays away for 1 s."""

    def __init__(self, root: Path, watchdog: str) -> None:
        self.root = root
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(str(root / "notify"))
        self._notify.settimeout(0.1)
        self._environment = {**os.environ, "NOTIFY_SOCKET": str(root / "notify"), "RACIMO_WATCHDOG": watchdog}
        self.starts = 0
        self.ready = threading.Event()
        self._ending = False
        self.process = self._start()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self.ready.wait(10), "the guard was not ready within 10 s"

    def _start(self) -> subprocess.Popen[bytes]:
        self.starts += 1
        self.heard = time.monotonic()
        return subprocess.Popen(
            [sys.executable, "-m", "racimo.ha.guard", "--root", str(self.root)],
            env=self._environment,
            stderr=subprocess.DEVNULL,
        )

    def _run(self) -> None:
        while not self._ending:
            with contextlib.suppress(TimeoutError):
                text = self._notify.recv(4096)
                self.heard = time.monotonic()
                if text.startswith(b"READY=1"):
                    self.ready.set()
            if time.monotonic() - self.heard > 1.0 and self.ready.is_set():
                self.process.kill()
            if self.process.poll() is not None and not self._ending:
                time.sleep(0.1)
                self.process = self._start()

    def close(self) -> None:
        self._ending = True
        self._thread.join()
        self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(10)
        self._notify.close()


class GuardedNode:
    """Lease file, marks and guests of one node, with its guard."""

    def __init__(self, root: Path, watchdog: str = "none") -> None:
        self.paths = NodePaths(root)
        self.paths.ha_marks.mkdir(parents=True)
        self._guests: list[subprocess.Popen[bytes]] = []
        self.supervisor = Supervisor(root, watchdog)

    def guest(self, number: int, *, marked: bool = True) -> subprocess.Popen[bytes]:
        """A process with the argv of a guest's QEMU."""
        vmid = BASE + number
        if marked:
            (self.paths.ha_marks / str(vmid)).touch()
        script = "import time; print(flush=True); time.sleep(600)"
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", script, "-name", f"racimo-guest-{vmid}"], stdout=subprocess.PIPE
        )
        self._guests.append(process)
        assert process.stdout is not None
        process.stdout.readline()
        return process

    def lease(self, left: float, margin: float = 0.5, watchdog: float = 1.0, sequence: int = 1) -> None:
        """A lease with so many seconds left."""
        deadline = boottime_ns() + round(left * SECOND)
        write_lease(
            self.paths.lease, Lease(deadline, round(margin * SECOND), round(watchdog * SECOND), "abc", sequence)
        )

    def report(self) -> dict[str, Any]:
        """What the guard says of itself."""
        content: dict[str, Any] = json.loads(self.paths.guard_report.read_text())
        return content

    def close(self) -> None:
        self.supervisor.close()
        for process in self._guests:
            process.kill()
            process.wait(10)
            assert process.stdout is not None
            process.stdout.close()
