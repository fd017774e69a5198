"""A datacenter in the words of Ganeti's htools (Debian's ganeti-htools): what ``hail`` and ``hbal`` read and answer.

Guests are on storage that all nodes see (disk template ``ext``), so that they can go anywhere, as ours can.
"""

from __future__ import annotations

import json
import random
import re
import resource
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from racimo.placement.fleet import Demand, Fleet, Machine, Scoring

HAIL, HBAL = Path("/usr/lib/ganeti/iallocators/hail"), Path("/usr/bin/hbal")
MIB = 1 << 20
DISK, ROOM = 10_240, 10_000_000
"""MiB of a guest's disk, and of a node's: so much that disks decide nothing."""
OWN = 1024
"""MiB that a node takes for itself."""
GROUP = "11111111-1111-1111-1111-111111111111"
TIME_LIMIT = 1800.0
_MOVE = re.compile(r"^\s*\d+\. (\S+)\s+(\S+)\s+=> (\S+)\s", re.MULTILINE)
_SCORE = re.compile(r"^Initial score: ([0-9.]+)", re.MULTILINE)


@dataclass(frozen=True)
class Site:
    """Nodes as (CPUs, MiB), guests likewise, and where each guest is."""

    nodes: dict[str, tuple[int, int]]
    guests: dict[str, tuple[int, int]]
    places: dict[str, str]

    def fleet(self, places: dict[str, str] | None = None) -> Fleet:
        """The same for our own placement."""
        machines = {
            name: Machine(cpus=cpus, memory=memory * MIB, other_memory=OWN * MIB)
            for name, (cpus, memory) in self.nodes.items()
        }
        demands = {name: Demand(cpus=cpus, memory=memory * MIB) for name, (cpus, memory) in self.guests.items()}
        where = {name: (node,) for name, node in (places or self.places).items()}
        return Fleet(machines, demands, where, scoring=Scoring.STATIC)

    def with_guests(self, more: dict[str, tuple[int, int]]) -> Site:
        """With guests that are nowhere yet."""
        return Site(self.nodes, {**self.guests, **more}, self.places)


def site(nodes: int, guests: int, *, skew: float, seed: int = 1) -> Site:
    """Nodes of two sizes, guests of many; ``skew`` 1 spreads them evenly by chance, more crowds the first nodes."""
    dice = random.Random(seed)  # noqa: S311
    names = [f"n{number:04d}" for number in range(nodes)]
    sizes = {name: ((64, 524_288) if number % 2 else (32, 262_144)) for number, name in enumerate(names)}
    free = {name: memory - OWN for name, (_, memory) in sizes.items()}
    demands, places = {}, {}
    for number in range(guests):
        cpus, memory = dice.choice((1, 2, 4)), dice.choice((1024, 2048, 4096, 8192))
        node = names[int(dice.random() ** skew * nodes)]
        if free[node] < memory:
            node = max(names, key=lambda name: (free[name], name))
        free[node] -= memory
        demands[f"vm{number}"], places[f"vm{number}"] = (cpus, memory), node
    return Site(sizes, demands, places)


def new_guests(count: int) -> dict[str, tuple[int, int]]:
    """Guests to be placed."""
    return {f"new{number}": ((1, 2, 4)[number % 3], (2048, 4096, 8192)[number % 3]) for number in range(count)}


def request(at: Site, wanted: dict[str, tuple[int, int]]) -> str:
    """An IAllocator request (version 2) to place ``wanted``: one guest by ``allocate``, more by ``multi-allocate``."""
    taken = _taken(at)
    nodes = {name: _node_entry(cpus, memory, taken[name]) for name, (cpus, memory) in at.nodes.items()}
    instances = {
        name: {**_guest_entry(*at.guests[name]), "nodes": [node], "admin_state": "up", "admin_state_source": "admin"}
        for name, node in at.places.items()
    }
    asked = [
        {**_guest_entry(*size), "type": "allocate", "name": name, "required_nodes": 1} for name, size in wanted.items()
    ]
    group = {"name": "default", "alloc_policy": "preferred", "networks": [], "ipolicy": _policy(), "tags": []}
    return json.dumps(
        {
            "version": 2, "cluster_name": "bench", "cluster_tags": [], "enabled_hypervisors": ["kvm"],
            "ipolicy": _policy(), "nodegroups": {GROUP: group}, "nodes": nodes, "instances": instances,
            "request": asked[0] if len(asked) == 1 else {"type": "multi-allocate", "instances": asked},
        }
    )  # fmt: skip


def _guest_entry(cpus: int, memory: int) -> dict[str, object]:
    return {
        "memory": memory, "vcpus": cpus, "disk_space_total": DISK, "disks": [{"size": DISK, "mode": "rw"}],
        "disk_template": "ext", "nics": [], "os": "-", "tags": [], "hypervisor": "kvm", "spindle_use": 1,
    }  # fmt: skip


def _node_entry(cpus: int, memory: int, taken: int) -> dict[str, object]:
    return {
        "total_memory": memory, "reserved_memory": OWN, "free_memory": memory - OWN - taken, "total_disk": ROOM,
        "free_disk": ROOM, "total_cpus": cpus, "reserved_cpus": 0, "offline": False, "drained": False,
        "vm_capable": True, "group": GROUP, "total_spindles": 1, "free_spindles": 1, "tags": [],
        "primary_ip": "127.0.0.1", "secondary_ip": "127.0.0.1", "i_pri_memory": taken, "i_pri_up_memory": taken,
        "ndparams": {"spindle_count": 1, "exclusive_storage": False, "cpu_speed": 1.0},
    }  # fmt: skip


def _policy() -> dict[str, object]:
    names = ("memory-size", "cpu-count", "disk-size", "disk-count", "nic-count", "spindle-use")
    least, most = dict.fromkeys(names, 0), dict.fromkeys(names, 1 << 20)
    return {
        "minmax": [{"min": least, "max": most}], "std": {**dict.fromkeys(names, 1), "memory-size": 1024},
        "disk-templates": ["ext"], "vcpu-ratio": 100.0, "spindle-ratio": 100_000.0,
    }  # fmt: skip


def _taken(at: Site) -> dict[str, int]:
    taken = dict.fromkeys(at.nodes, 0)
    for name, node in at.places.items():
        taken[node] += at.guests[name][1]
    return taken


def text(at: Site) -> str:
    """The file of htools' text backend: groups, nodes, instances, tags, policies."""
    taken = _taken(at)
    nodes = [
        f"{name}|{memory}|{OWN}|{memory - OWN - taken[name]}|{ROOM}|{ROOM}|{cpus}|N|{GROUP}|1||N|1|0|1.0"
        for name, (cpus, memory) in at.nodes.items()
    ]
    guests = [
        f"{name}|{at.guests[name][1]}|{DISK}|{at.guests[name][0]}|running|Y|{node}||ext||1|-"
        for name, node in at.places.items()
    ]
    policy = "1024,1,1024,1,1,1|0,0,0,0,0,0;1048576,1048576,1048576,1048576,1048576,1048576|ext|100.0|100000.0"
    sections = ([f"default|{GROUP}|preferred||"], nodes, guests, [], [f"|{policy}", f"default|{policy}"])
    return "".join("".join(f"{line}\n" for line in section) + "\n" for section in sections)


@dataclass(frozen=True)
class Ran:
    """What a program printed, and the seconds it took: by the clock, and of a processor."""

    printed: str
    wall: float
    cpu: float


def run(*argv: str | Path) -> Ran:
    """Run a program to its end."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(argv, capture_output=True, text=True, timeout=TIME_LIMIT, check=True)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Ran(done.stdout, wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def placed(printed: str) -> dict[str, str]:
    """Where ``hail`` put the guests of a ``multi-allocate``."""
    answer = json.loads(printed)
    assert answer["success"], answer["info"]
    return {name: nodes[0] for name, nodes in answer["result"][0]}


def moves(printed: str) -> list[tuple[str, str, str]]:
    """The moves that ``hbal`` lists: guest, from, to."""
    return [(guest, source, target) for guest, source, target in _MOVE.findall(printed)]


def score(printed: str) -> float:
    """The score that ``hbal`` gives to what it was handed."""
    match = _SCORE.search(printed)
    assert match is not None, printed
    return float(match[1])
