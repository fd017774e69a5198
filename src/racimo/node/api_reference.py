"""Writes docs/reference/api.md from the table of endpoints: ``python -m racimo.node.api_reference``."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.node.table import build_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.api.endpoint import Endpoint

TARGET = Path("docs/reference/api.md")

_HEAD = """# The API

<!-- Made by `python -m racimo.node.api_reference`; edit the endpoints, not this page. -->

All paths stand below `/api2/json`, on port 8006 (TLS) of each node and on its socket `/run/racimo/node.sock`; any node
forwards what another one answers. `https://NODE:8006/api2/openapi.json` says the same for programs, with types. Paths
that begin with `/racimo` are Racimo's own; the others are those of the Proxmox VE API. From the command line:
`racimo api GET /version`.

Who comes through the socket is root and may do everything. *task*: the answer is the UPID of a task.
"""


def reference() -> str:
    """The page."""
    rows = sorted(build_table(), key=lambda row: (row.path, row.method))
    sections = itertools.groupby(rows, key=_section)
    return _HEAD + "".join(f"\n## `{name}`\n\n" + "\n".join(_lines(group)) + "\n" for name, group in sections)


def _section(row: Endpoint) -> str:
    """What rows with the same beginning stand under: two words of their path, three of a guest's."""
    words = row.path.strip("/").split("/")
    return "/" + "/".join(words[: 3 if words[0] == "nodes" else 2 if words[0] in ("cluster", "racimo") else 1])


def _lines(rows: Iterator[Endpoint]) -> Iterator[str]:
    yield "| call | | parameters |"
    yield "|---|---|---|"
    for row in rows:
        in_path = set(re.findall(r"\{([a-z0-9_]+)\*?\}", row.path))
        names = [f"`{name}`" for name in sorted(row.parameters.names() - in_path)]
        names += [f"`{name}N`" for name in sorted(row.parameters.indexed)]
        summary = f"{row.summary} (*task*)" if row.task else row.summary
        yield f"| `{row.method} {row.path}` | {summary} | {', '.join(names)} |".replace("|  |", "| |")


def main() -> int:
    """Write the page, below the current directory."""
    TARGET.write_text(reference(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
