"""``racimo node``: the servers and how they are."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.completion import complete_nodes
from racimo.cli.session import Session, part
from racimo.cli.units import percent, size, span
from racimo.cli.view import Column, Facts, Table

app = group("node", "The servers of the datacenter.")


def _share(entry: Row, used: str, of: str) -> str:
    part_used, whole = entry.number(used), entry.number(of)
    return "-" if part_used is None or not whole else f"{size(part_used)} of {size(whole)}"


_COLUMNS = (
    Column("Node", lambda node: node.text("node")),
    Column("State", lambda node: node.text("status")),
    Column("CPU", lambda node: percent(node.number("cpu")), number=True),
    Column("CPUs", lambda node: node.text("maxcpu", "-"), number=True),
    Column("Memory", lambda node: _share(node, "mem", "maxmem"), number=True),
    Column("Up for", lambda node: span(node.number("uptime")), number=True),
)


@command(app, "list", example="racimo node list", then="racimo node status NODE")
async def list_nodes(session: Session) -> Table:
    """List the nodes, with what they use."""
    nodes = sorted(rows(await session.get("/nodes")), key=lambda node: node.text("node"))
    return Table(_COLUMNS, nodes, "There are no nodes. Make this machine one: racimo init")


@command(app, "status", example="racimo node status\nracimo node status n2", then="racimo guest list")
async def status(
    session: Session,
    node: Annotated[
        str | None,
        typer.Argument(metavar="NODE", help="Without it the node asked.", autocompletion=complete_nodes),
    ] = None,
) -> Facts:
    """Show one node: load, memory, versions, and how its guests are accelerated."""
    node = node or await session.local_node()
    answer = row(await session.get(f"/nodes/{part(node)}/status"))
    return Facts(_lines(node, answer), answer.fields)


def _lines(node: str, answer: Row) -> list[tuple[str, str]]:
    memory, cpu, disk = answer.row("memory"), answer.row("cpuinfo"), answer.row("rootfs")
    load = answer.fields.get("loadavg")
    acceleration = answer.row("racimo") if answer.row("racimo").fields else answer
    lines = [
        ("Node", node),
        ("Up for", span(answer.number("uptime"))),
        ("CPU", f"{percent(answer.number('cpu'))} of {cpu.text('cpus', '-')}, {cpu.text('model', 'unknown model')}"),
        ("Load", " ".join(str(value) for value in load) if isinstance(load, list) else "-"),
        ("Memory", _share(memory, "used", "total")),
        ("Disk (/)", _share(disk, "used", "total")),
        ("Kernel", answer.text("kversion", "-")),
        ("Racimo", answer.text("pveversion") or answer.text("version", "-")),
    ]
    word, why = acceleration.text("acceleration"), acceleration.text("acceleration_reason")
    return [*lines, ("Guests run by", f"{word} ({why})" if why else word)] if word else lines
