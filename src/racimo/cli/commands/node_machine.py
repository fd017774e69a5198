"""``racimo node network``, ``disks``, ``services`` and so on: a node's machine."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import row, rows
from racimo.cli.command import command
from racimo.cli.commands import node as nodes
from racimo.cli.parameters import NodeName
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.cli.units import size
from racimo.cli.view import Column, Done, Facts, Table

Service = Annotated[str, typer.Argument(metavar="SERVICE", help="As racimo node services shows it, such as chrony.")]


@command(nodes.app, "network", example="racimo node network n1", then="racimo node status n1")
async def network(session: Session, node: NodeName) -> Table:
    """List a node's network interfaces as they are now."""
    columns = (
        Column("Interface", lambda each: each.text("iface")),
        Column("Type", lambda each: each.text("type")),
        Column("State", lambda each: "up" if each.flag("active") else "down"),
        Column("Address", lambda each: each.text("cidr") or each.text("cidr6", "-")),
        Column("Gateway", lambda each: each.text("gateway", "-")),
        Column("Ports", lambda each: each.text("bridge_ports") or each.text("slaves", "-")),
    )
    return Table(columns, rows(await session.get(f"/nodes/{part(node)}/network")), "The node has no interfaces.")


@command(nodes.app, "disks", example="racimo node disks n1", then="racimo storage list --node n1")
async def disks(session: Session, node: NodeName) -> Table:
    """List a node's disks, and what they are used for."""
    columns = (
        Column("Disk", lambda each: each.text("devpath")),
        Column("Type", lambda each: each.text("type")),
        Column("Size", lambda each: size(each.number("size")), number=True),
        Column("Used", lambda each: each.text("used") or "no"),
        Column("Model", lambda each: each.text("model")),
        Column("Serial", lambda each: each.text("serial")),
    )
    return Table(columns, rows(await session.get(f"/nodes/{part(node)}/disks/list")), "The node shows no disks.")


@command(nodes.app, "services", example="racimo node services n1", then="racimo node service n1 chrony restart")
async def services(session: Session, node: NodeName) -> Table:
    """List the services of a node that can be seen from afar."""
    columns = (
        Column("Service", lambda each: each.text("service")),
        Column("State", lambda each: each.text("active-state")),
        Column("At boot", lambda each: each.text("unit-state")),
        Column("Description", lambda each: each.text("desc")),
    )
    return Table(columns, rows(await session.get(f"/nodes/{part(node)}/services")), "The node shows no services.")


@command(
    nodes.app, "service", task=True, example="racimo node service n1 chrony restart", then="racimo node services n1"
)
async def service(
    session: Session,
    node: NodeName,
    name: Service,
    action: Annotated[str, typer.Argument(metavar="ACTION", help="start, stop, restart or reload.")],
) -> Started:
    """Start, stop, restart or reload a service; refused for what would take the node out of reach."""
    answer = await session.post(f"/nodes/{part(node)}/services/{part(name)}/{part(action)}")
    return Started(answer, f"{name} on {node}: {action} is done.", f"racimo node services {node}")


@command(nodes.app, "show", example="racimo node show n1", then="racimo node set n1 --description 'rack 3'")
async def show(session: Session, node: NodeName) -> Facts:
    """Show the notes about a node."""
    answer = row(await session.get(f"/nodes/{part(node)}/config"))
    return Facts([(key, answer.text(key)) for key in sorted(answer) if key != "digest"], answer.fields)


@command(nodes.app, "set", example="racimo node set n2 --wakeonlan 52:54:00:12:34:56", then="racimo node wake n2")
async def set_notes(
    session: Session,
    node: NodeName,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="For people.")] = None,
    wakeonlan: Annotated[str | None, typer.Option("--wakeonlan", metavar="MAC", help="What wakes the machine.")] = None,
) -> Done:
    """Change the notes about a node; what is not given stays."""
    answer = await session.put(f"/nodes/{part(node)}/config", description=description, wakeonlan=wakeonlan)
    return Done(f"The notes about {node} are changed.", answer, f"racimo node show {node}")


@command(nodes.app, "wake", example="racimo node wake n2", then="racimo node list")
async def wake(session: Session, node: NodeName) -> Done:
    """Send the packet that wakes a node's machine, from the node asked."""
    answer = await session.post(f"/nodes/{part(node)}/wakeonlan")
    return Done(f"The packet for {node} is sent; it is up when it shows as online.", answer, "racimo node list")
