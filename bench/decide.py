"""How long decisions take and how good they are, beside Ganeti's htools on the same data.

    python bench/decide.py [turn] [choose] [balance] [--full] [--json]

* ``turn``: one turn of the HA manager, all well and right after a node was lost.
* ``choose``: placing guests one after the other, beside ``hail``: a process for each placement on both sides, and many
  placements in one process on both sides (its ``multi-allocate``). ``hail`` by default also makes sure that each node's
  guests could all start elsewhere, which ours does not: so it runs without (``--no-capacity-checks``), and with
  ``--full`` both ways. Both read the same IAllocator request. CPUs and memory as configured count for both.
* ``balance``: from the same crowded start, beside ``hbal`` with and without its guess that all guests are equally busy
  (``--ignore-dynu``). Judged by one formula, population deviation over mean of the nodes' (CPU share + memory share)
  / 2, and by the score that ``hbal --ignore-dynu`` prints for the start and for both ends.

Needs Debian's ganeti-htools but for ``turn``. Times by the clock, and of a processor, since the machine may be busy.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import htools
from racimo.ha.decide import decide
from racimo.ha.states import Move, Sighting, Snapshot
from racimo.model.datacenter import Datacenter
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Heartbeat, NodeHealth, NodeStatus, Resource, Service, ServiceState
from racimo.model.node import Node, NodeFacts
from racimo.model.rule import Affinity, Rule, RuleKind
from racimo.placement.pick import Picked, pick
from racimo.placement.rebalance import Goal, imbalance, rebalance
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from collections.abc import Callable

GIB = 1 << 30
NOW = 100.0
TURNS = ((16, 480), (64, 2_000), (150, 4_500), (1_000, 20_000))
SITES = ((16, 480), (64, 2_000), (150, 4_500))
BALANCES = ((16, 480, None), (16, 480, 40))
"""Nodes, guests, and how many may move (None: as many as it takes)."""
LONG_BALANCES = ((64, 2_000, 20),)
PLACEMENTS = 400
ANSWER = Path(__file__).with_name("answer.py")
BATCH = 20

Row = dict[str, object]


def best(work: Callable[[], object], times: int = 5) -> tuple[float, float]:
    """The least seconds by the clock and of the processor."""
    walls, cpus = [], []
    for _ in range(times):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return min(walls), min(cpus)


# one turn of the manager


def datacenter(nodes: int, guests: int, crs: str) -> Snapshot:
    """All well; the guests spread evenly; with the scores by load, every twentieth is kept apart from its neighbour."""
    names = [f"n{number}" for number in range(nodes)]
    owners = {f"vm:{100 + number}": names[number % nodes] for number in range(guests)}
    config = {"memory": "2048", "cores": "2"}
    return Snapshot(
        term=1,
        options=Datacenter(id="bench", name="bench", crs=crs),
        nodes={
            name: Node(name=name, id=name, address=name, facts=NodeFacts(cpus=64, memory=512 * GIB)) for name in names
        },
        heartbeats={name: Heartbeat(node=name, incarnation="a", sequence=1) for name in names},
        sightings={name: Sighting(since=99.5, suspect=102.5, revision=1, expires=110.5) for name in names},
        statuses={name: NodeStatus(node=name, health=NodeHealth.ONLINE) for name in names},
        resources={sid: Resource(sid=sid) for sid in owners},
        services={
            sid: Service(sid=sid, state=ServiceState.STARTED, node=node, epoch=1, guarded=True)
            for sid, node in owners.items()
        },
        guests={sid: Guest(vmid=int(sid[3:]), node=node, config=config) for sid, node in owners.items()},
        runtimes={
            sid: Runtime(vmid=int(sid[3:]), node=node, epoch=1, state=RunState.RUNNING) for sid, node in owners.items()
        },
        rules=compile_rules([] if crs == "basic" else _apart(guests), names),
    )


def _apart(guests: int) -> list[Rule]:
    return [
        Rule(
            name=f"r{number}", kind=RuleKind.RESOURCES, affinity=Affinity.NEGATIVE,
            resources=(f"vm:{100 + number}", f"vm:{101 + number}"),
        )
        for number in range(0, guests - 1, 20)
    ]  # fmt: skip


def lost(snapshot: Snapshot, node: str) -> Snapshot:
    """``node`` was fenced just now."""
    status = NodeStatus(node=node, health=NodeHealth.FENCE, why=f"{node}'s lease ran out", proof="lease")
    heartbeats = {name: beat for name, beat in snapshot.heartbeats.items() if name != node}
    return replace(snapshot, heartbeats=heartbeats, statuses={**snapshot.statuses, node: status})


def turns() -> list[Row]:
    found: list[Row] = []
    for nodes, guests in TURNS:
        for crs in ("basic", "static"):
            well = datacenter(nodes, guests, crs)
            gone = lost(well, "n0")
            quiet, busy = best(partial(decide, well, NOW)), best(partial(decide, gone, NOW))
            found.append(
                {
                    "nodes": nodes, "guests": guests, "crs": crs,
                    "moves": sum(isinstance(decision, Move) for decision in decide(gone, NOW).decisions),
                    "all_well_ms": round(quiet[0] * 1000, 1), "node_lost_ms": round(busy[0] * 1000, 1),
                    "node_lost_cpu_ms": round(busy[1] * 1000, 1),
                }
            )  # fmt: skip
    return found


# placing guests


def place_all(at: htools.Site, names: list[str]) -> dict[str, str]:
    """One after the other, each counting for the next."""
    fleet, found = at.fleet(), {}
    for name in names:
        choice = pick(fleet, name)
        assert isinstance(choice, Picked)
        fleet.place(name, choice.node)
        found[name] = choice.node
    return found


def _time_ours(at: htools.Site) -> tuple[float, float]:
    """Placements per second, by the clock and of the processor; counting the fleet is left out, as parsing is."""
    names = list(htools.new_guests(PLACEMENTS))
    many, few = best(partial(place_all, at, names)), best(partial(place_all, at, names[:1]))
    return (PLACEMENTS - 1) / (many[0] - few[0]), (PLACEMENTS - 1) / (many[1] - few[1])


def _time_hail(one: Path, batch: Path, *options: str) -> tuple[Row, str]:
    """Seconds of a process for one placement, and placements per second within one process."""
    single = min((htools.run(htools.HAIL, *options, one) for _ in range(3)), key=lambda ran: ran.cpu)
    many = min((htools.run(htools.HAIL, *options, batch) for _ in range(3)), key=lambda ran: ran.cpu)
    spent = max(1e-3, many.cpu - single.cpu)
    row: Row = {"process_s": round(single.wall, 3), "process_cpu_s": round(single.cpu, 3)}
    return {**row, "per_cpu_s": round((BATCH - 1) / spent, 1)}, many.printed


def choose(folder: Path, *, full: bool) -> list[Row]:
    found: list[Row] = []
    one, batch = folder / "one.json", folder / "batch.json"
    for nodes, guests in SITES:
        start, wanted = htools.site(nodes, guests, skew=1.0), htools.new_guests(BATCH)
        one.write_text(htools.request(start, htools.new_guests(1)))
        batch.write_text(htools.request(start, wanted))
        at = start.with_guests(htools.new_guests(PLACEMENTS))
        wall, cpu = _time_ours(at)
        own = [htools.run(sys.executable, ANSWER, one) for _ in range(3)]
        hail, printed = _time_hail(one, batch, "--no-capacity-checks")
        row: Row = {
            "nodes": nodes, "guests": guests, "ours_per_s": round(wall), "ours_per_cpu_s": round(cpu),
            "ours_process_s": round(min(ran.wall for ran in own), 3),
            "ours_process_cpu_s": round(min(ran.cpu for ran in own), 3),
            **{f"hail_{key}": value for key, value in hail.items()},
            "imbalance_before": round(imbalance(start.fleet()), 4),
            "ours_imbalance": round(imbalance(at.fleet({**at.places, **place_all(at, list(wanted))})), 4),
            "hail_imbalance": round(imbalance(at.fleet({**at.places, **htools.placed(printed)})), 4),
        }  # fmt: skip
        if full:
            checked = htools.run(htools.HAIL, one)
            row |= {"hail_checked_process_s": round(checked.wall, 2), "hail_checked_cpu_s": round(checked.cpu, 2)}
        found.append(row)
    return found


# balance


def balance(folder: Path, *, full: bool) -> list[Row]:
    found: list[Row] = []
    for nodes, guests, limit in (*BALANCES, *(LONG_BALANCES if full else ())):
        start = htools.site(nodes, guests, skew=1.6)
        before = {"imbalance": round(imbalance(start.fleet()), 4), "hbal_score": _score(folder, start)}
        found.append({"nodes": nodes, "guests": guests, "limit": limit, "who": "start", "moves": 0, **before})
        for options in ((), ("--ignore-dynu",)):
            (folder / "start.data").write_text(htools.text(start))
            length = () if limit is None else ("-l", str(limit))
            ran = htools.run(htools.HBAL, "-t", folder / "start.data", *options, *length)
            done = htools.moves(ran.printed)
            who = " ".join(("hbal", *options))
            found.append(_judged(folder, start, limit, who, [(g, to) for g, _, to in done], ran.wall, ran.cpu))
        for moves in sorted({limit or len(done), limit or guests}):
            goal = Goal(threshold=0, margin=0, moves=moves)
            fleet, wall, cpu = start.fleet(), time.perf_counter(), time.process_time()
            plan = rebalance(fleet, start.guests, goal)
            spent = time.perf_counter() - wall, time.process_time() - cpu
            steps = [(move.sid, move.target) for move in plan.moves]
            found.append(_judged(folder, start, limit, "racimo", steps, *spent))
    return found


def _judged(
    folder: Path, start: htools.Site, limit: int | None, who: str, steps: list[tuple[str, str]], wall: float, cpu: float
) -> Row:
    end = replace(start, places={**start.places, **dict(steps)})
    return {
        "nodes": len(start.nodes), "guests": len(start.guests), "limit": limit, "who": who, "moves": len(steps),
        "imbalance": round(imbalance(end.fleet()), 4), "hbal_score": _score(folder, end),
        "seconds": round(wall, 2), "cpu_s": round(cpu, 3),
    }  # fmt: skip


def _score(folder: Path, at: htools.Site) -> float:
    path = folder / "judge.data"
    path.write_text(htools.text(at))
    return htools.score(htools.run(htools.HBAL, "-t", path, "-l", "0", "--ignore-dynu").printed)


def table(rows: list[Row]) -> str:
    """Columns as wide as they must be."""
    names = list({name: None for row in rows for name in row})
    lines = [names, *([str(row.get(name, "")) for name in names] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["turn", "choose", "balance", []], help="without it: all")
    parser.add_argument(
        "--full", action="store_true", help="hail with its capacity checks too, and hbal on 2,000 guests: minutes"
    )
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    parts = options.parts or ["turn", "choose", "balance"]
    if parts != ["turn"] and not htools.HAIL.exists():
        parser.error("choose and balance need hail and hbal; install them: apt-get install ganeti-htools")
    with tempfile.TemporaryDirectory() as folder:
        kinds: dict[str, Callable[[], list[Row]]] = {
            "turn": turns,
            "choose": partial(choose, Path(folder), full=options.full),
            "balance": partial(balance, Path(folder), full=options.full),
        }
        found = {part: kinds[part]() for part in parts}
    print(json.dumps(found) if options.json else "\n\n".join(f"{part}\n{table(rows)}" for part, rows in found.items()))


if __name__ == "__main__":
    main()
