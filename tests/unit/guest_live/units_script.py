"""Run inside a container with systemd as PID 1: prints what became of a few guests, as JSON."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from guest_parts import HALT, POWER_OFF, boot_disk, qemu

from racimo.errors import RacimoError
from racimo.guest.host import GuestHost, GuestLaunch
from racimo.guest.network import Tap
from racimo.guest.program import run_program
from racimo.guest.units import SystemdUnits, unit_name
from racimo.model.paths import NodePaths

TAP = ("-netdev", "tap,id=net0,ifname=tap100i0,script=no,downscript=no", "-device", "virtio-net-pci,netdev=net0")
WILD = ("-fw_cfg", "name=opt/x,string=$HOME 100%n $$")


async def end_of(host: GuestHost) -> str:
    async with asyncio.timeout(20):
        return (await host.exits.get()).reason


async def main() -> dict[str, object]:
    paths, told = NodePaths(), {}
    host = GuestHost(paths, SystemdUnits())
    await run_program("ip", "link", "add", "vmbr0", "type", "bridge")
    off, halt = boot_disk(Path("/root/off.raw"), POWER_OFF), boot_disk(Path("/root/halt.raw"), HALT)

    def launch(disk: Path, *more: str, **settings: object) -> GuestLaunch:
        return GuestLaunch(vmid=100, epoch=1, argv=qemu(paths, 100, disk, *more), **settings)  # type: ignore[arg-type]

    await host.launch(launch(off, *TAP, *WILD, taps=(Tap("tap100i0", "vmbr0"),)))
    status = await host.status(100)
    assert status is not None
    told["slice"] = await run_program("systemctl", "show", "--value", "--property=Slice", unit_name(100))
    told["argv"] = WILD[1] in Path(f"/proc/{status.pid}/cmdline").read_text().split("\0")
    told["bridge"] = Path("/sys/class/net/tap100i0/master").resolve().name
    await host.cont(100)
    told["shut down"] = await end_of(host)
    told["tap left"] = Path("/sys/class/net/tap100i0").exists()
    try:
        await host.launch(launch(halt, "-device", "nonsense"))
    except RacimoError as error:
        told["refused"] = str(error)
    await host.launch(launch(halt))
    killed = await host.status(100)
    assert killed is not None
    await host.close()
    host = GuestHost(paths, SystemdUnits())
    told["adopted"] = sorted(await host.adopt())
    await host.close()
    os.kill(killed.pid, signal.SIGKILL)
    host = GuestHost(paths, SystemdUnits())
    told["died alone"] = await host.bury(100)
    told["units left"] = await run_program("systemctl", "list-units", "--all", "--no-legend", "racimo-guest-*")
    await host.close()
    return told


print(json.dumps(asyncio.run(main())))  # noqa: T201 - the test reads it
