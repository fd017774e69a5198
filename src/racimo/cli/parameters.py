"""Arguments and options that several commands share, with their completion."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.completion import complete_guests, complete_nodes, complete_sids, complete_storages, complete_tasks
from racimo.errors import BadParameter

VMID_RANGE = "100 to 999999999"

Vmid = Annotated[int, typer.Argument(metavar="VMID", help="The guest's number.", min=1, autocompletion=complete_guests)]
NodeName = Annotated[str, typer.Argument(metavar="NODE", help="A node's name.", autocompletion=complete_nodes)]
OnNode = Annotated[
    str | None,
    typer.Option("--node", metavar="NODE", help="The node; without it the one asked.", autocompletion=complete_nodes),
]
StorageId = Annotated[
    str, typer.Argument(metavar="STORAGE", help="A storage's name.", autocompletion=complete_storages)
]
Sid = Annotated[
    str,
    typer.Argument(
        metavar="SID", help="The guest as an HA resource: vm:100, or just 100.", autocompletion=complete_sids
    ),
]
TaskId = Annotated[str, typer.Argument(metavar="UPID", help="The task's name.", autocompletion=complete_tasks)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C or the end.")]


def sid_of(text: str) -> str:
    """``vm:100`` for ``100``; anything else as it is."""
    return f"vm:{text}" if text.isdecimal() else text


def vmid_of(sid: str) -> int | None:
    """100 for ``vm:100``; None for what is not a guest."""
    kind, _, number = sid.partition(":")
    return int(number) if kind == "vm" and number.isdecimal() else None


def assignments(pairs: list[str]) -> dict[str, str]:
    """``key=value`` texts as a mapping. Raises ``BadParameter`` naming each that is none, or doubled."""
    values: dict[str, str] = {}
    problems: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            problems[pair] = "is not of the form key=value"
        elif key in values:
            problems[key] = "was given twice"
        else:
            values[key] = value
    if problems:
        raise BadParameter(problems, todo="Write each as key=value, such as memory=512")
    return values
