"""How fast is the simulation? Simulated seconds per second of CPU, five nodes with fifty guests at rest and in trouble.

Run: python bench/simulate.py
"""

from __future__ import annotations

import time
from dataclasses import replace

from racimo.ha.simulate import world
from racimo.ha.simulate.generate import draw
from racimo.ha.simulate.history import play
from racimo.ha.simulate.setup import GuestSetup, NodeSetup, Setup

SECONDS = 1200.0
SEEDS = 20


def datacenter() -> Setup:
    nodes = {f"n{number}": NodeSetup(on=True) for number in range(1, 6)}
    guests = {
        f"vm:{100 + number}": GuestSetup(f"vm:{100 + number}", f"n{number % 5 + 1}", state="started")
        for number in range(50)
    }
    return Setup("five nodes, fifty guests", nodes, guests, end=SECONDS, healed=True)


def rate(setups: list[Setup]) -> float:
    began = time.process_time()
    simulated = sum(play(setup).seconds for setup in setups)
    return simulated / (time.process_time() - began)


def main() -> None:
    print(f"five nodes, fifty guests, quiet stretches skipped: {rate([datacenter()]):,.0f} simulated s per CPU s")
    seeds = [draw(seed) for seed in range(SEEDS)]
    print(f"{SEEDS} random histories:                           {rate(seeds):,.0f} simulated s per CPU s")
    world.QUIET_S = float("inf")
    print(f"five nodes, fifty guests, every second played:     {rate([datacenter()]):,.0f} simulated s per CPU s")
    trouble = replace(draw(3), guests=datacenter().guests, nodes=datacenter().nodes)
    print(f"the same with the faults of seed 3:                {rate([trouble]):,.0f} simulated s per CPU s")


if __name__ == "__main__":
    main()
