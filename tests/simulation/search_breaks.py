"""Searches anew, for each deliberate break, the first seed that shows it: ``python tests/simulation/search_breaks.py``.

Writes ``break_seeds.json``, from which the tests begin. An argument names one break alone.
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from racimo.ha.simulate.mutations import MUTATIONS, Mutation, first_seed

FILE = Path(__file__).with_name("break_seeds.json")
WITHIN = 1000


def search(mutation: Mutation) -> int | None:
    return first_seed(mutation, range(WITHIN))


def main() -> None:
    wanted = [mutation for mutation in MUTATIONS if mutation.name in sys.argv[1:] or not sys.argv[1:]]
    found: dict[str, int | None] = json.loads(FILE.read_text()) if FILE.exists() else {}
    with ProcessPoolExecutor() as pool:
        for mutation, seed in zip(wanted, pool.map(search, wanted), strict=True):
            sys.stdout.write(f"{mutation.name}: {'not found' if seed is None else seed}\n")
            sys.stdout.flush()
            found[mutation.name] = seed
    FILE.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
