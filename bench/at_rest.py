"""What do the daemons of a node cost at rest? ``python bench/at_rest.py [SECONDS]`` as root; 30 s unless told.

A lab of three nodes with one guest under HA; when all is quiet, the resident memory of each daemon and the processor
time of all of them over the seconds, in percent of one core. Prints one JSON object; ``etcd`` is Debian's, for
comparison, and does not count towards the promise.
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import make_datacenter
from racimo.lab.demo import BOOT_TIMEOUT_S, IMAGE, VMID, create_guest, put_under_ha
from racimo.lab.image import guest_image
from racimo.lab.lab import make_nodes, plan_nodes
from racimo.lab.place import LabPlace
from racimo.lab.watch import await_write

if TYPE_CHECKING:
    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

SECONDS = 30.0
SETTLE_S = 15.0
PROMISE_MB = {"node": 120.0, "ha": 60.0, "guard": 20.0}
PROMISE_PERCENT = 3.0
PROGRAMS = {"node": "racimo.node.main", "ha": "racimo.ha.main", "guard": "racimo.ha.guard", "etcd": "/usr/bin/etcd"}


@dataclass(frozen=True)
class Daemon:
    """One daemon's process as the host sees it."""

    node: str
    name: str
    pid: int

    @property
    def resident_mb(self) -> float:
        fields = (Path(f"/proc/{self.pid}/statm")).read_text().split()
        return int(fields[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    @property
    def used_s(self) -> float:
        fields = (Path(f"/proc/{self.pid}/stat")).read_text().rpartition(")")[2].split()
        return sum(int(fields[place]) for place in (11, 12, 13, 14)) / os.sysconf("SC_CLK_TCK")


def daemons(node: LabNode) -> list[Daemon]:
    """Those that run on a node."""
    found = []
    for process in node.cgroup.processes():
        words = Path(f"/proc/{process.pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        found += [Daemon(node.name, name, process.pid) for name, word in PROGRAMS.items() if word in words[:3]]
    return found


async def measure(lab: Lab, seconds: float) -> dict[str, object]:
    """Each node's figures, the worst of each, and whether the promise holds."""
    present = [daemon for node in lab.nodes for daemon in daemons(node)]
    before, began = {daemon: daemon.used_s for daemon in present}, time.monotonic()
    await asyncio.sleep(seconds)
    elapsed = time.monotonic() - began
    percent = {daemon: 100 * (daemon.used_s - used) / elapsed for daemon, used in before.items()}
    nodes: dict[str, dict[str, float]] = {}
    for daemon in present:
        figures = nodes.setdefault(daemon.node, {"all_percent": 0.0})
        figures[f"{daemon.name}_mb"] = round(daemon.resident_mb, 1)
        figures[f"{daemon.name}_percent"] = round(percent[daemon], 2)
        if daemon.name in PROMISE_MB:
            figures["all_percent"] = round(figures["all_percent"] + percent[daemon], 2)
    worst = {name: max(figures[name] for figures in nodes.values()) for name in next(iter(nodes.values()))}
    kept = worst["all_percent"] <= PROMISE_PERCENT and all(worst[f"{n}_mb"] <= mb for n, mb in PROMISE_MB.items())
    return {"seconds": round(elapsed, 1), "kept": kept, "worst": worst, "nodes": nodes}


async def run(place: LabPlace, seconds: float) -> dict[str, object]:
    """On a lab of its own."""
    try:
        lab = await make_nodes(place, plan_nodes(3, witness=False), bare=False, tell=lambda what, took: None)
        await make_datacenter(lab, lambda what, took: None)
        image = await asyncio.to_thread(guest_image, place.cache)
        await asyncio.to_thread(shutil.copyfile, image, place.shared / IMAGE)
        await create_guest(lab.nodes[0], VMID, lab)
        await put_under_ha(lab.nodes[0], VMID)
        await await_write(lab, VMID, 0, timeout_s=BOOT_TIMEOUT_S)
        await asyncio.sleep(SETTLE_S)
        return await measure(lab, seconds)
    finally:
        await clean_up(place)


def main() -> None:
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    state = Path(tempfile.mkdtemp(prefix="racimo-bench-", dir="/var/tmp"))
    place = LabPlace(f"bench{os.getpid()}", state / "state", LabPlace.from_environment().cache)
    try:
        print(json.dumps(asyncio.run(run(place, seconds)), indent=1))
    finally:
        shutil.rmtree(state, ignore_errors=True)


if __name__ == "__main__":
    main()
