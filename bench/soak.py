"""Does it hold for long? ``python bench/soak.py [--minutes 30] [--seed N] [--report FILE]`` as root.

A lab of three nodes with six guests under HA. One fault after another is drawn by the seed: power cuts, freezes,
isolated nodes, all nodes isolated, daemons and the store's members killed or halted, everything restarted, and live
migrations between. After each, all is mended, and every guest has to write again within the time allowed. At the end
each guest's journal, which nothing of Racimo writes, says whether a write was lost or two wrote at once.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import RacimoError
from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import api, make_datacenter
from racimo.lab.demo import BOOT_TIMEOUT_S, IMAGE, create_guest, put_under_ha
from racimo.lab.image import guest_image
from racimo.lab.journal import read_journal
from racimo.lab.lab import make_nodes, plan_nodes
from racimo.lab.place import LabPlace
from racimo.lab.together import together
from racimo.lab.watch import await_write, guest_processes, last_acknowledgement

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.lab.lab import Lab
    from racimo.lab.node import LabNode

VMIDS = tuple(range(101, 107))
WRITES_WITHIN_S = 150.0
"""After all is mended: boots of nodes, elections, leases and the boots of six guests under TCG on two cores."""
MIGRATED_WITHIN_S = 60.0
"""After all guests write, a migration that was under way has ended, one way or the other."""
LOOK_S = 0.2
CALM_S = (1.0, 8.0)
"""Between two faults."""
DAEMONS = ("racimo-node", "racimo-ha", "racimo-guard", "racimo-etcd")


@dataclass
class Soak:
    """One run: what was done, and how long each mending took until all guests wrote again."""

    lab: Lab
    chance: random.Random
    began: float = field(default_factory=time.monotonic)
    faults: Counter[str] = field(default_factory=Counter)
    mended_s: list[float] = field(default_factory=list)
    events: list[str] = field(default_factory=list)

    def say(self, what: str) -> None:
        """Note what happens, and when."""
        self.events.append(f"{time.monotonic() - self.began:7.1f} s  {what}")
        print(self.events[-1], flush=True)

    def any_node(self) -> LabNode:
        """One of the nodes."""
        return self.chance.choice(self.lab.nodes)

    # the faults, each of which leaves the mending to ``mend``

    async def power_cut(self) -> None:
        """One node loses its power, for up to 40 s."""
        node, seconds = self.any_node(), self.chance.uniform(1, 40)
        self.say(f"power cut of {node.name} for {seconds:.0f} s")
        await node.power_cut()
        await asyncio.sleep(seconds)

    async def freeze(self) -> None:
        """One node halts as a whole, shorter or longer than its lease; its watchdog may reset it meanwhile."""
        node, seconds = self.any_node(), self.chance.uniform(0.5, 20)
        self.say(f"freeze of {node.name} for {seconds:.0f} s")
        await node.freeze()
        await asyncio.sleep(seconds)

    async def isolate(self) -> None:
        """One node hears nobody."""
        node, seconds = self.any_node(), self.chance.uniform(1, 30)
        self.say(f"{node.name} isolated for {seconds:.0f} s")
        others = [other.name for other in self.lab.nodes if other.name != node.name]
        await self.lab.network.partition([others, [node.name]])
        await asyncio.sleep(seconds)

    async def isolate_all(self) -> None:
        """Nobody hears anybody."""
        seconds = self.chance.uniform(1, 20)
        self.say(f"every node isolated for {seconds:.0f} s")
        await self.lab.network.partition([[node.name] for node in self.lab.nodes])
        await asyncio.sleep(seconds)

    async def kill_daemon(self) -> None:
        """One daemon of one node dies at once."""
        node, daemon = self.any_node(), self.chance.choice(DAEMONS)
        self.say(f"kill -9 of {daemon} on {node.name}")
        await node.execute("systemctl", "kill", "--signal=SIGKILL", daemon)

    async def halt_daemon(self) -> None:
        """One daemon of one node is stopped in the middle of what it does, and goes on later."""
        node, daemon, seconds = self.any_node(), self.chance.choice(DAEMONS), self.chance.uniform(1, 15)
        self.say(f"{daemon} on {node.name} halted for {seconds:.0f} s")
        await node.execute("systemctl", "kill", "--signal=SIGSTOP", daemon)
        await asyncio.sleep(seconds)
        if node.leader is not None:
            await node.execute("systemctl", "kill", "--signal=SIGCONT", daemon)

    async def restart_all(self) -> None:
        """Every daemon on all nodes is restarted at once."""
        self.say("all daemons restarted on all nodes")
        await together(*(node.execute("systemctl", "restart", *DAEMONS) for node in self.lab.nodes))

    async def migrate(self) -> None:
        """HA is asked to move a guest live."""
        vmid, target = self.chance.choice(VMIDS), self.any_node()
        self.say(f"vm:{vmid} asked to move to {target.name}")
        async with api(target) as client:
            await client.post(f"/cluster/ha/resources/vm:{vmid}/migrate", node=target.name)

    # what holds it together

    async def mend(self) -> None:
        """Heal everything and wait until each guest writes."""
        await self.lab.network.heal()
        for node in self.lab.nodes:
            if node.cgroup.frozen:
                await node.thaw()
        await together(*(node.boot(ready=False) for node in self.lab.nodes if node.container is None))
        began = time.monotonic()
        newest = {vmid: self.newest(vmid) for vmid in VMIDS}
        await together(*(await_write(self.lab, vmid, newest[vmid] + 2, timeout_s=WRITES_WITHIN_S) for vmid in VMIDS))
        self.mended_s.append(time.monotonic() - began)
        await together(*(self.one_process(vmid) for vmid in VMIDS))

    async def one_process(self, vmid: int) -> None:
        """Wait until a live migration that goes on has ended: it has a process at both ends."""
        deadline = time.monotonic() + MIGRATED_WITHIN_S
        while len(processes := guest_processes(self.lab, vmid)) != 1:
            if time.monotonic() > deadline:
                raise AssertionError(f"guest {vmid} runs as {processes}")
            await asyncio.sleep(LOOK_S)

    def newest(self, vmid: int) -> int:
        """The highest number that the guest has acknowledged."""
        return max((entry.seq for node in self.lab.nodes if (entry := last_acknowledgement(node, vmid))), default=0)

    async def play(self, seconds: float) -> None:
        """Fault after fault, until the time is over."""
        faults: list[Callable[[], Awaitable[None]]] = [
            self.power_cut,
            self.freeze,
            self.isolate,
            self.isolate_all,
            self.kill_daemon,
            self.halt_daemon,
            self.restart_all,
            self.migrate,
        ]
        while time.monotonic() - self.began < seconds:
            fault = self.chance.choice(faults)
            self.faults[fault.__name__] += 1
            try:
                await fault()
            except (
                RacimoError
            ) as error:  # a request to a node that is in trouble may be refused; the guests may not suffer
                self.say(f"refused: {error}")
            await self.mend()
            await asyncio.sleep(self.chance.uniform(*CALM_S))


async def verdict(soak: Soak) -> dict[str, object]:
    """What the journals prove."""
    disks = [node.disk.upper for node in soak.lab.nodes]
    reports = {vmid: await read_journal(vmid, soak.lab.place.shared, disks) for vmid in VMIDS}
    return {
        "minutes": round((time.monotonic() - soak.began) / 60, 1),
        "faults": dict(sorted(soak.faults.items())),
        "mended_s": {"median": round(statistics.median(soak.mended_s), 1), "worst": round(max(soak.mended_s), 1)},
        "writes": sum(report.writes for report in reports.values()),
        "acknowledged": sum(report.acknowledged for report in reports.values()),
        "writes_lost": sum(
            len(report.lost) + sum(last - first + 1 for first, last in report.gaps) for report in reports.values()
        ),
        "writers_at_once": max(report.writers_at_once for report in reports.values()),
        "boots": sum(len(report.writers) for report in reports.values()),
        "sound": all(report.sound for report in reports.values()),
    }


async def run(place: LabPlace, minutes: float, seed: int, report: Path | None) -> bool:
    """On a lab of its own; the nodes' logs are printed when a guest did not come back."""
    try:
        lab = await make_nodes(place, plan_nodes(3, witness=False), bare=False, tell=lambda what, took: None)
        await make_datacenter(lab, lambda what, took: None)
        image = await asyncio.to_thread(guest_image, place.cache)
        await asyncio.to_thread(shutil.copyfile, image, place.shared / IMAGE)
        for index, vmid in enumerate(VMIDS):
            node = lab.nodes[index % len(lab.nodes)]
            await create_guest(node, vmid, lab)
            await put_under_ha(node, vmid)
        for vmid in VMIDS:
            await await_write(lab, vmid, 0, timeout_s=BOOT_TIMEOUT_S)
        soak = Soak(lab, random.Random(seed))  # noqa: S311 - a history that can be played again
        print(f"seed {seed}, {minutes:g} minutes", flush=True)
        try:
            await soak.play(minutes * 60)
        except BaseException:
            for node in lab.nodes:
                command = node.journalctl("-u", "racimo-ha", "-u", "racimo-node", "-u", "racimo-guard", "-n", "300")
                process = await asyncio.create_subprocess_exec(*command)
                await process.wait()
            raise
        found = {"seed": seed, **await verdict(soak)}
        print(json.dumps(found, indent=1))
        if report is not None:
            lines = [json.dumps(found, indent=1), "", *soak.events, ""]
            await asyncio.to_thread(report.write_text, "\n".join(lines))
        return bool(found["sound"])
    finally:
        await clean_up(place)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--report", type=Path)
    options = parser.parse_args()
    state = Path(tempfile.mkdtemp(prefix="racimo-soak-", dir="/var/tmp"))
    place = LabPlace(f"soak{os.getpid()}", state / "state", LabPlace.from_environment().cache)
    try:
        sound = asyncio.run(run(place, options.minutes, options.seed, options.report))
    finally:
        shutil.rmtree(state, ignore_errors=True)
    raise SystemExit(0 if sound else 1)


if __name__ == "__main__":
    main()
