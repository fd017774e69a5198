"""Processes of the lab: started apart from whoever starts them, and known by id and start time, never by name."""

from __future__ import annotations

import asyncio
import os
import select
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import OperationFailed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LAUNCH_TIMEOUT_S = 20.0


def host_boot() -> str:
    """The id of the host's present boot: process ids of another one mean nothing."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def start_time(pid: int) -> int | None:
    """When the process started, in clock ticks since the host's boot; None when there is none or it is a zombie."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in "ZX" else int(fields[19])


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the host, whoever started it. Another one that got the same id later is not taken for it."""

    pid: int
    started: int
    boot: str

    @classmethod
    def of(cls, pid: int) -> Process | None:
        """The process that has this id now."""
        started = start_time(pid)
        return None if started is None else cls(pid, started, host_boot())

    @property
    def alive(self) -> bool:
        """Whether it is still there (a zombie is not)."""
        return start_time(self.pid) == self.started and host_boot() == self.boot

    def signal(self, number: int) -> bool:
        """Send a signal; False when it is gone."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    async def ended(self, timeout_s: float) -> bool:
        """Wait until it is gone; False when it is still there after ``timeout_s``."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return True
        try:
            if not self.alive:
                return True
            return await _readable(descriptor, timeout_s)
        finally:
            os.close(descriptor)


async def _readable(descriptor: int, timeout_s: float) -> bool:
    loop = asyncio.get_running_loop()
    seen = asyncio.Event()
    loop.add_reader(descriptor, seen.set)
    try:
        async with asyncio.timeout(timeout_s):
            await seen.wait()
    except TimeoutError:
        return bool(select.select([descriptor], [], [], 0)[0])
    finally:
        loop.remove_reader(descriptor)
    return True


@dataclass(frozen=True, slots=True)
class Output:
    """What a tool printed, and the code it ended with."""

    code: int
    out: str
    err: str


async def output(*argv: str | Path, feed: str = "", timeout_s: float = 60.0) -> Output:
    """Run a tool to its end, whatever its code. Raises ``OperationFailed`` when it takes too long."""
    stdin = asyncio.subprocess.PIPE if feed else asyncio.subprocess.DEVNULL
    pipe = asyncio.subprocess.PIPE
    child = await asyncio.create_subprocess_exec(*argv, stdin=stdin, stdout=pipe, stderr=pipe)
    try:
        async with asyncio.timeout(timeout_s):
            out, err = await child.communicate(feed.encode() if feed else None)
    except TimeoutError:
        what = " ".join(map(str, argv[:6]))
        raise OperationFailed(f"{argv[0]} did not end within {timeout_s:.0f} s", why=what) from None
    finally:
        if child.returncode is None:
            child.kill()
            await child.wait()
    assert child.returncode is not None  # noqa: S101 - communicate or wait came back
    return Output(child.returncode, out.decode(errors="replace"), err.decode(errors="replace"))


async def run(*argv: str | Path, feed: str = "", timeout_s: float = 60.0) -> str:
    """Run a tool and return what it printed. Raises ``OperationFailed`` with what it said when it failed."""
    done = await output(*argv, feed=feed, timeout_s=timeout_s)
    if done.code != 0:
        why = (done.err or done.out).strip() or f"it ended with code {done.code}"
        raise OperationFailed(f"{' '.join(map(str, argv[:4]))} failed", why=why)
    return done.out


async def launch(
    script: str, *arguments: str | Path, log: Path, environment: Mapping[str, str] | None = None
) -> Process:
    """Start a shell script (which ends in ``exec``) in a session of its own, its output going to ``log``.

    It is no child of ours: it stays when we end, and nobody here has to wait for it.
    """
    opening = f'echo $$; exec >>"$1" 2>&1 </dev/null; shift; {script}'
    argv: Sequence[str] = ("setsid", "--fork", "sh", "-ec", opening, "sh", str(log), *map(str, arguments))
    child = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **(environment or {})},
    )
    async with asyncio.timeout(LAUNCH_TIMEOUT_S):
        printed, _ = await child.communicate()
    process = Process.of(int(printed)) if printed.strip().isdigit() else None
    if process is None:
        raise OperationFailed(f"{arguments[0]} ended at once", why=tail(log) or "it said nothing")
    return process


def tail(log: Path, lines: int = 8) -> str:
    """The last lines of a log, for an error message."""
    try:
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    except FileNotFoundError:
        return ""
