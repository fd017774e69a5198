"""Guests as units of a real systemd: a container that boots it over an overlay of this machine."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).with_name("units_script.py")


@contextmanager
def overlay() -> Iterator[Path]:
    """This machine's root with nothing to start but systemd itself."""
    with tempfile.TemporaryDirectory(prefix="gu-") as base:
        subprocess.run(["mount", "-t", "tmpfs", "guest-units", base], check=True)
        try:
            upper, work, root = (Path(base) / name for name in ("upper", "work", "root"))
            for directory in (upper, work, root):
                directory.mkdir()
            options = f"lowerdir=/,upperdir={upper},workdir={work}"
            subprocess.run(["mount", "-t", "overlay", "guest-units", "-o", options, root], check=True)
            try:
                units = root / "etc/systemd/system"
                subprocess.run(["rm", "-rf", units], check=True)
                units.mkdir(parents=True)
                (units / "default.target").symlink_to("/lib/systemd/system/basic.target")
                yield root
            finally:
                subprocess.run(["umount", root], check=True)
        finally:
            subprocess.run(["umount", base], check=True)


async def leader_of(container: asyncio.subprocess.Process) -> int:
    """The container's systemd, once it is up."""
    async with asyncio.timeout(30):
        while True:
            children = Path(f"/proc/{container.pid}/task/{container.pid}/children").read_text().split()
            if children:
                asked = await asyncio.create_subprocess_exec(
                    "nsenter", "-t", children[0], "-a", "systemctl", "is-system-running", "--wait",
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                )  # fmt: skip
                if await asked.wait() == 0:
                    return int(children[0])
            await asyncio.sleep(0.1)  # nspawn without a register tells nobody that systemd is up


@pytest.mark.root
async def test_guests_are_units_of_systemd_that_outlive_the_daemon() -> None:
    cgroups = [] if Path("/sys/fs/cgroup/cgroup.controllers").exists() else ["systemd.unified_cgroup_hierarchy=0"]
    with overlay() as root:
        container = await asyncio.create_subprocess_exec(
            "systemd-nspawn", "--quiet", "-D", str(root), "--register=no", "--keep-unit", "--private-network",
            "--capability=all", "--link-journal=no", "--console=pipe", "--bind=/dev/net/tun", "--boot", *cgroups,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        leader = 0
        try:
            leader = await leader_of(container)
            inside = await asyncio.create_subprocess_exec(
                "nsenter", "-t", str(leader), "-a", sys.executable, str(SCRIPT), stdout=subprocess.PIPE
            )
            async with asyncio.timeout(90):
                out, _ = await inside.communicate()
        finally:
            os.kill(leader or container.pid, signal.SIGKILL)
            await container.wait()
    told = json.loads(out.splitlines()[-1])
    assert told.pop("refused").partition(". ")[0].endswith("'nonsense' is not a valid device model name")
    assert told == {
        "slice": "racimo-guests.slice\n",
        "argv": True,
        "bridge": "vmbr0",
        "shut down": "The guest shut itself down",
        "tap left": False,
        "adopted": [100],
        "died alone": "QEMU was killed by signal 9",
        "units left": "",
    }
