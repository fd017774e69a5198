"""What Ganeti's ``hail`` does, by our placement: reads an IAllocator request for one guest, prints the answer.

    python bench/answer.py FILE

``bench/decide.py`` runs it beside ``hail``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from racimo.placement.fleet import Demand, Fleet, Machine, Scoring
from racimo.placement.pick import pick

MIB = 1 << 20


def main() -> None:
    """Print the node."""
    asked = json.loads(Path(sys.argv[1]).read_text())
    machines = {
        name: Machine(
            cpus=one["total_cpus"], memory=one["total_memory"] * MIB, other_memory=one["reserved_memory"] * MIB
        )
        for name, one in asked["nodes"].items()
    }
    demands = {name: Demand(one["vcpus"], one["memory"] * MIB) for name, one in asked["instances"].items()}
    wanted = asked["request"]
    demands[wanted["name"]] = Demand(wanted["vcpus"], wanted["memory"] * MIB)
    places = {name: one["nodes"] for name, one in asked["instances"].items()}
    choice = pick(Fleet(machines, demands, places, scoring=Scoring.STATIC), wanted["name"])
    node = getattr(choice, "node", "")
    print(json.dumps({"success": bool(node), "info": choice.why, "result": [node] if node else []}))


if __name__ == "__main__":
    main()
