"""How long is a guest away when its node loses its power? ``python bench/failover.py [--rounds N] [--json]`` as root.

Per profile and proof (the lease; a fence device's confirmation), in a lab of three nodes: seconds from the power cut
to the start command, by the log of who is commanded, and to the guest's first write, by its own journal. Beside it,
with the same guest, the same machine and the same fence devices: corosync and pacemaker from Debian's packages
(``--install`` fetches them and unpacks them for the lab's nodes alone), and the constants of Proxmox VE, which is not
run here.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import signal
import statistics
import sys
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests/lab/ha"))

from ha_lab import HaLab, until, with_guest

from pacemaker_lab import SETTINGS, PacemakerLab, packages
from racimo.errors import RacimoError
from racimo.ha.timing import PROFILES
from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import add_fence_devices, api, make_datacenter
from racimo.lab.lab import Lab, make_nodes, plan_nodes
from racimo.lab.place import LabPlace
from racimo.lab.watch import boot_clock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

PROXMOX = {
    "lock_s": 120, "fence_delay_s": 60, "median_in_its_simulator_s": 123,
    "how": "constants of its HA manager and the median of its own simulator; Proxmox VE was not run here",
}  # fmt: skip
LEASE, DEVICE = "lease", "fence device"
TAKEN_WITHIN_S = 120.0
"""Nodes that were just switched on have to measure their heartbeats first, before ``fast`` is taken."""
Times = list[tuple[float, float]]


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@asynccontextmanager
async def a_lab(name: str, *, bare: bool) -> AsyncIterator[Lab]:
    """Three nodes, gone afterwards."""
    state = Path(tempfile.mkdtemp(prefix="racimo-bench-", dir="/var/tmp"))
    place = LabPlace(f"{name}{os.getpid()}", state / "state", LabPlace.from_environment().cache)
    try:
        yield await make_nodes(place, plan_nodes(3, witness=False), bare=bare, tell=lambda what, took: None)
    finally:
        await clean_up(place)
        shutil.rmtree(state, ignore_errors=True)


def summary(times: Times) -> dict[str, object]:
    """Median and worst, and each round."""
    commanded, wrote = [one for one, _ in times], [other for _, other in times]
    return {
        "rounds": len(times),
        "commanded_s": round(statistics.median(commanded), 2), "commanded_worst_s": round(max(commanded), 2),
        "first_write_s": round(statistics.median(wrote), 2), "first_write_worst_s": round(max(wrote), 2),
        "each": [[round(one, 2), round(other, 2)] for one, other in times],
    }  # fmt: skip


async def set_profile(ha: HaLab, profile: str) -> str:
    """From now on, on all nodes: their heartbeats say so. Why not, where the nodes' heartbeats are too slow for it."""

    async def taken() -> bool | None:
        async with api(ha.nodes[0]) as client:
            await client.put("/cluster/options", ha_profile=profile)
        return True

    async def in_force() -> bool | None:
        return True if {(await ha.ha(node))["profile"] for node in ha.nodes} == {profile} else None

    try:
        await until(f"profile {profile} is taken", taken, TAKEN_WITHIN_S)
    except AssertionError as refused:
        say(str(refused))
        return str(refused)
    await until(f"profile {profile} in force", in_force, 60)
    return ""


async def rounds_of(ha: HaLab, rounds: int, what: str) -> Times:
    """Cut the power of the guest's node again and again."""
    times: Times = []
    for number in range(1, rounds + 1):
        await ha.at_rest()
        old, at = ha.running(), boot_clock()
        await ha.node(old.node).power_cut()
        failover = await ha.failover(old, at)
        times.append((failover.commanded_s, failover.wrote_s))
        say(f"{what}, round {number}: {failover}")
    return times


async def measure_racimo(rounds: int, profiles: list[str], proofs: list[str]) -> dict[str, object]:
    """All profiles by the lease, then by a fence device."""
    found: dict[str, object] = {}
    async with a_lab("fr", bare=False) as lab:
        await make_datacenter(lab, lambda what, took: None)
        ha = await with_guest(lab)
        for proof in proofs:
            if proof == DEVICE:
                await add_fence_devices(lab, lambda what, took: None)
            for profile in profiles:
                await ha.at_rest()
                name = f"{profile}, {proof}"
                refused = await set_profile(ha, profile)
                found[name] = {"refused": refused} if refused else summary(await rounds_of(ha, rounds, name))
        await ha.at_rest()
        report = await ha.assert_sound()
        found["journal"] = {
            "writes": report.writes,
            "lost": len(report.lost),
            "writers_at_once": report.writers_at_once,
        }
    return found


async def measure_pacemaker(rounds: int, *, install: bool) -> dict[str, object]:
    """The rival."""
    tree = await packages(LabPlace.from_environment().cache, install=install)
    async with a_lab("fp", bare=True) as lab:
        rival = PacemakerLab(lab)
        await rival.begin(tree)
        versions = await rival.versions()
        times: Times = []
        for number in range(1, rounds + 1):
            await rival.at_rest()
            failover = await rival.cut_power()
            times.append((failover.commanded_s, failover.wrote_s))
            say(f"pacemaker, round {number}: {failover}")
        return {**summary(times), "settings": SETTINGS, "versions": versions}


async def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Everything that was asked for."""
    found: dict[str, Any] = {"proxmox_ve": PROXMOX}
    if options.only in ("all", "racimo"):
        profiles = options.profiles.split(",")
        proofs = [LEASE, DEVICE] if options.proof == "all" else [DEVICE if options.proof == "device" else LEASE]
        found["racimo"] = await measure_racimo(options.rounds, profiles, proofs)
        found["racimo"]["settings"] = {
            name: f"beat {PROFILES[name].beat:g} s, lease {PROFILES[name].lease:g} s" for name in profiles
        }
    if options.only in ("all", "pacemaker"):
        found["pacemaker"] = await measure_pacemaker(options.rounds, install=options.install)
    return found


async def guarded(options: argparse.Namespace) -> dict[str, Any]:
    """Who is told to end ends the lab first."""
    work = asyncio.create_task(measure(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, work.cancel)
    return await work


def show(found: dict[str, Any]) -> None:
    """For people: medians, the worst in brackets."""
    lines = [(name, each) for name, each in found.get("racimo", {}).items() if "commanded_s" in each]
    lines += [("corosync + pacemaker", found["pacemaker"])] if "pacemaker" in found else []
    print(f"{'':26} {'start command (s)':>20} {'first write (s)':>20}")
    for name, each in lines:
        command = f"{each['commanded_s']} ({each['commanded_worst_s']})"
        print(f"{name:26} {command:>20} {each['first_write_s']} ({each['first_write_worst_s']})")
    print(f"Proxmox VE: lock {PROXMOX['lock_s']} s, fence delay {PROXMOX['fence_delay_s']} s; "
          f"median {PROXMOX['median_in_its_simulator_s']} s in its own simulator")  # fmt: skip
    for key, value in found.get("racimo", {}).get("journal", {}).items():
        print(f"racimo, the guest's journal, {key.replace('_', ' ')}: {value}")
    for name in ("racimo", "pacemaker"):
        for part in ("settings", "versions"):
            for key, value in found.get(name, {}).get(part, {}).items():
                print(f"{name}, {key}: {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--profiles", default="default,fast,patient")
    parser.add_argument("--proof", choices=("all", "lease", "device"), default="all")
    parser.add_argument("--only", choices=("all", "racimo", "pacemaker"), default="all")
    parser.add_argument("--install", action="store_true", help="fetch pacemaker's packages for the lab's nodes")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    try:
        found = asyncio.run(guarded(options))
    except RacimoError as error:
        sys.exit(str(error))
    except asyncio.CancelledError:
        sys.exit("Ended before it was done; the lab is gone")
    if options.json:
        print(json.dumps(found))
    else:
        show(found)


if __name__ == "__main__":
    main()
