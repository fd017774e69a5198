"""How long does a whole datacenter take to stand? ``python bench/lab_up.py [--rounds N] [--json]`` as root.

``racimo lab up`` of three nodes, to the third vote, beside the raw limit: the same three nodes booted bare, without
anything of Racimo, in turns. The goal is 20 s. Seconds; median and worst of the rounds.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import make_datacenter
from racimo.lab.lab import make_nodes, plan_nodes
from racimo.lab.place import LabPlace

GOAL_S = 20.0


async def stand(number: int, *, bare: bool) -> float:
    """Seconds until three nodes are up; with ``bare`` until their systemd is, else until all votes are there."""
    state = Path(tempfile.mkdtemp(prefix="racimo-bench-", dir="/var/tmp"))
    place = LabPlace(f"up{os.getpid()}x{number}", state / "state", LabPlace.from_environment().cache)
    try:
        began = time.monotonic()
        lab = await make_nodes(place, plan_nodes(3, witness=False), bare=bare, tell=lambda what, took: None)
        if not bare:
            await make_datacenter(lab, lambda what, took: None)
        return time.monotonic() - began
    finally:
        await clean_up(place)
        shutil.rmtree(state, ignore_errors=True)


async def measure(rounds: int) -> dict[str, object]:
    """Both, in turns."""
    whole, bare = [], []
    for number in range(rounds):
        bare.append(await stand(2 * number, bare=True))
        whole.append(await stand(2 * number + 1, bare=False))
    figures: dict[str, object] = {"rounds": rounds, "goal_s": GOAL_S, "kept": max(whole) <= GOAL_S}
    for name, seconds in (("lab_up", whole), ("bare_boot", bare)):
        figures[f"{name}_s"] = round(statistics.median(seconds), 2)
        figures[f"{name}_worst_s"] = round(max(seconds), 2)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    figures = asyncio.run(measure(options.rounds))
    if options.json:
        print(json.dumps(figures))
        return
    for name, value in figures.items():
        print(f"{name:20} {value}")


if __name__ == "__main__":
    main()
