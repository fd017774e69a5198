"""Sees from outside, without Racimo's word for it, what a guest of the lab does: its processes and its writes."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import Unreachable
from racimo.lab.journal import Entry, read_acknowledgements

if TYPE_CHECKING:
    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

POLL_S = 0.05
TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class GuestProcess:
    """A guest's QEMU on a node; ``began``: seconds on the host's CLOCK_BOOTTIME, to a hundredth."""

    node: str
    pid: int
    began: float


def guest_processes(lab: Lab, vmid: int) -> list[GuestProcess]:
    """All QEMUs of the guest, on all nodes that run."""
    wanted, found = f"racimo-guest-{vmid}".encode(), []
    ticks = os.sysconf("SC_CLK_TCK")
    for node in lab.nodes:
        for process in node.cgroup.processes():
            try:
                words = Path(f"/proc/{process.pid}/cmdline").read_bytes().split(b"\0")
            except (FileNotFoundError, ProcessLookupError):
                continue
            if words[0].rpartition(b"/")[2].startswith(b"qemu-system") and wanted in words:
                found.append(GuestProcess(node.name, process.pid, process.started / ticks))
    return found


def boot_clock() -> float:
    """The host's CLOCK_BOOTTIME in seconds, which a process's start time is measured by."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def last_acknowledgement(node: LabNode, vmid: int) -> Entry | None:
    """The newest write that a guest acknowledged on this node's console; None when there is none."""
    log = node.disk.upper / f"var/log/racimo/guests/{vmid}/serial.log"
    try:
        with log.open("rb") as console:
            console.seek(max(0, console.seek(0, os.SEEK_END) - TAIL_BYTES))
            lines = read_acknowledgements(console.read())
    except FileNotFoundError:
        return None
    return lines[-1] if lines else None


async def await_write(lab: Lab, vmid: int, after: int, *, timeout_s: float, off: str = "") -> tuple[LabNode, Entry]:
    """Wait until the guest acknowledges a write with a number above ``after``, on any node but ``off``.

    Raises ``Unreachable`` with what was seen when there is none within ``timeout_s``.
    """
    nodes = [node for node in lab.nodes if node.name != off]
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                for node in nodes:
                    entry = last_acknowledgement(node, vmid)
                    if entry is not None and entry.seq > after:
                        return node, entry
                await asyncio.sleep(POLL_S)  # the consoles are on other mount namespaces' disks: no event reaches us
    except TimeoutError:
        running = ", ".join(f"{each.node} (pid {each.pid})" for each in guest_processes(lab, vmid)) or "no node"
        what = f"Guest {vmid} wrote nothing for {timeout_s:.0f} s"
        raise Unreachable(what, why=f"its QEMU runs on {running}; its last write was {after}") from None
