"""Real parts for the tests of live guests: plain child processes for units, boot sectors for guests."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

from racimo.guest.units import UnitEnd, UnitStart, launch_environment, wrapped

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.model.paths import NodePaths

HALT = bytes.fromhex("fa f4 eb fd")
"""cli; hlt; jmp: a guest that does nothing."""
POWER_OFF = bytes.fromhex("ba0406 b80020 ef f4 ebfd")
"""Writes S5 to the power management register (port 0x604): a guest that shuts itself down at once."""
OBEY_BUTTON = bytes.fromhex("fa ba0206 b80001 ef ba0006 ed f6c401 74fa ba0406 b80020 ef f4 ebfd")
"""Enables the power button (port 0x602), polls for it (0x600), then shuts down."""
DIRTY_MEMORY = bytes.fromhex("fa b80010 8ec0 31ff b90080 fc f3ab 40 8cc3 81c30010 8ec3 81fb0090 72ed b90010 8ec1 ebe6")
"""Writes 512 KiB over and over."""


def boot_disk(path: Path, code: bytes) -> Path:
    """A disk image that boots ``code`` (16-bit, at 0x7c00)."""
    path.write_bytes(code.ljust(510, b"\x90") + b"\x55\xaa" + bytes(1 << 20))
    return path


def qemu(paths: NodePaths, vmid: int, disk: Path, *more: str) -> tuple[str, ...]:
    """The argv of a small guest under TCG, started paused."""
    run = paths.guest_run(vmid)
    return (
        "qemu-system-x86_64", "-name", f"racimo-guest-{vmid}", "-S", "-nodefaults", "-display", "none",
        "-machine", "pc-i440fx-7.2,accel=tcg", "-m", "32", "-no-user-config",
        "-chardev", f"socket,id=qmp,path={run}/qmp.sock,server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-drive", f"file={disk},format=raw,if=virtio",
        *more,
    )  # fmt: skip


class ChildUnits:
    """``Units`` as children of the test: the same wrapper and QEMU, without systemd."""

    def __init__(self) -> None:
        self.children: dict[int, asyncio.subprocess.Process] = {}

    async def start(self, start: UnitStart) -> None:
        with start.log.open("ab") as log:
            self.children[start.vmid] = await asyncio.create_subprocess_exec(
                *wrapped(start),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **launch_environment()},
            )

    async def kill(self, vmid: int) -> None:
        child = self.children.get(vmid)
        if child is not None and child.returncode is None:
            child.kill()

    async def end(self, vmid: int) -> UnitEnd:
        child = self.children.pop(vmid, None)
        if child is None:
            return UnitEnd(True, "QEMU ended")
        async with asyncio.timeout(10):
            status = await child.wait()
        if status < 0:
            return UnitEnd(False, f"QEMU was killed by signal {-status}")
        return UnitEnd(status == 0, f"QEMU ended with status {status}")

    async def close(self) -> None:
        """End every guest that a test left."""
        for vmid, child in list(self.children.items()):
            if child.returncode is None:
                child.send_signal(signal.SIGKILL)
            await self.end(vmid)


class Lines:
    """A report that keeps its lines."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    warn = log

    def progress(self, fraction: float, text: str = "") -> None:
        del fraction, text
