"""How long does a live migration take beside the bare QEMU one? Same machine, same guest, same run.

Run: python bench/migration.py [--rounds N] [--memory MIB]. Prints one JSON object; times in seconds, medians.

``racimo`` is the whole operation: checks, the target's QEMU, TLS, commit in a store in memory, hand-over, end of the
source. ``qmp`` is bare: a target's QEMU, ``migrate`` over plain TCP, ``cont`` there.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests/unit/guest_live"))

import structlog
from guest_nodes import Datacenter, GuestNode, datacenter
from guest_parts import DIRTY_MEMORY

from racimo.guest.host import GuestHost
from racimo.guest.migration_status import migration_status
from racimo.guest.operations import CreateGuest, MigrateGuest
from racimo.model.paths import NodePaths

PLAIN = {"tls-creds": "", "tls-hostname": ""}
"""A guest that came by Racimo has certificates set."""


async def by_racimo(source: GuestNode, target: GuestNode) -> tuple[float, float, float]:
    """The whole operation: seconds in all, those that it reports as total, and the downtime."""
    begun = time.perf_counter()
    log = await source.run(MigrateGuest(vmid=100, target=target.name))
    whole = time.perf_counter() - begun
    told = next(match for line in log if (match := re.search(r"total ([\d.]+) s, downtime (\d+) ms", line)))
    return whole, float(told[1]), float(told[2]) / 1000


async def by_qmp(place: Datacenter, source: GuestNode, number: int) -> tuple[float, float, float]:
    """The same guest between two QEMUs by hand: seconds in all, of the sending, and QEMU's own downtime."""
    config = dict((await source.layout.guests.get(100)).config)
    guest = replace(await source.layout.guests.get(100), config=config)
    plan = await source.life.assembly.plan(guest, incoming=True)
    paths = NodePaths(place.root / f"bare{number}")
    old, new = str(source.paths.root), str(paths.root)
    argv = tuple(part.replace(f"{old}/run", f"{new}/run").replace(f"{old}/var", f"{new}/var") for part in plan.argv)
    other = GuestHost(paths, type(source.units)())
    begun = time.perf_counter()
    await other.launch(replace(plan, argv=argv))
    here, there = await source.host.monitor(100), await other.monitor(100)
    await there.execute("migrate-incoming", {"uri": "tcp:127.0.0.1:0"})
    port = (await there.query("query-migrate"))["socket-address"][0]["port"]
    capabilities = {"capabilities": [{"capability": "events", "state": True}]}
    await here.execute("migrate-set-capabilities", capabilities)
    await here.execute("migrate-set-parameters", {**PLAIN, "max-bandwidth": 1 << 40, "downtime-limit": 100})
    sending = time.perf_counter()
    with here.events("MIGRATION") as events:
        await here.execute("migrate", {"uri": f"tcp:127.0.0.1:{port}"})
        while (status := await migration_status(here)).status != "completed":
            if not status.active:
                raise RuntimeError(status)
            await asyncio.wait_for(events.get(), 60)
    await other.cont(100)
    sent = time.perf_counter() - sending
    downtime = (await migration_status(here)).downtime
    whole = time.perf_counter() - begun
    await other.kill(100)
    await here.execute("cont")
    await other.close()
    return whole, sent, downtime


async def measure(rounds: int, memory: int) -> dict[str, dict[str, float]]:
    """Alternate both ways over the same pair of nodes."""
    racimo, qmp = [], []
    async with datacenter() as place:
        nodes = [await place.add("n1"), await place.add("n2")]
        config = {"memory": str(memory), "vga": "none", "balloon": "0", "virtio0": place.boot_disk(DIRTY_MEMORY)}
        await nodes[0].run(CreateGuest(vmid=100, config=config, start=True))
        for number in range(rounds):
            source, target = nodes[number % 2], nodes[(number + 1) % 2]
            qmp.append(await by_qmp(place, source, number))
            racimo.append(await by_racimo(source, target))
    names = ("whole", "sending", "downtime")
    return {
        kind: {name: round(statistics.median(run[place] for run in runs), 3) for place, name in enumerate(names)}
        for kind, runs in (("racimo", racimo), ("qmp", qmp))
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="As ever: it prints JSON alone.")
    parser.add_argument("--memory", type=int, default=256, help="MiB")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    print(json.dumps(asyncio.run(measure(options.rounds, options.memory))))


if __name__ == "__main__":
    main()
