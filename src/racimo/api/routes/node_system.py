"""A node's machine: interfaces, disks, services, power."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import LOGGED_IN, Answers, Routes, privilege
from racimo.api.parameters import OfNode
from racimo.api.routes.node_settings import find_node
from racimo.errors import NotFound, Refused
from racimo.machine.disks import read_disks
from racimo.machine.interfaces import read_interfaces
from racimo.machine.operations import STEERING, EndNode
from racimo.machine.programs import Programs
from racimo.machine.units import ACTIONS, demand_harmless, read_unit, read_units, service_name
from racimo.machine.wake import wake

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.machine.interfaces import Interface
    from racimo.machine.units import Unit
    from racimo.task.upid import Upid

AUDIT = privilege("/nodes/{node}", "Sys.Audit")
MODIFY = privilege("/nodes/{node}", "Sys.Modify")
POWER = privilege("/nodes/{node}", "Sys.PowerMgmt")
_BRIDGES = ("bridge", "any_bridge", "any_local_bridge")

routes = Routes()


class ListInterfaces(OfNode):
    """Which interfaces."""

    type: Annotated[
        Literal["bridge", "bond", "eth", "vlan", "any_bridge", "any_local_bridge", "include_sdn"] | None,
        Field(description="Only this kind."),
    ] = None


class OfInterface(OfNode):
    """One interface."""

    iface: Annotated[str, Field(description="Its name, such as vmbr0.")]


class ListDisks(OfNode):
    """Which disks."""

    include_partitions: Annotated[bool, Field(alias="include-partitions", description="Has no effect here.")] = False
    skipsmart: Annotated[bool, Field(description="Has no effect here: SMART is not asked.")] = False
    type: Annotated[Literal["unused", "journal_disks"] | None, Field(description="Only free ones.")] = None


class OfService(OfNode):
    """One service."""

    service: Annotated[str, Field(description="Its name, such as racimo-node or chrony.")]


class Command(OfNode):
    """What becomes of the machine."""

    command: Annotated[Literal["reboot", "shutdown"], Field(description="Start it anew, or switch it off.")]


class Wake(OfNode):
    """Whom to wake."""

    node_name: Annotated[str, Field(description="The same node again, as some clients send it.")] = ""


@routes.add(
    "GET", "/nodes/{node}/network", permission=LOGGED_IN, answers=Answers.NODE, parameters=ListInterfaces,
    summary="A node's network interfaces",
)  # fmt: skip
async def list_interfaces(context: Context, parameters: ListInterfaces) -> list[dict[str, JsonValue]]:
    """As the kernel has them now; guests' taps and loopback are left out."""
    wanted = "bridge" if parameters.type in _BRIDGES else parameters.type
    found = await read_interfaces(context.services.need(Programs))
    return [_interface(each) for each in found if wanted in (None, "include_sdn", each.kind)]


@routes.add(
    "GET", "/nodes/{node}/network/{iface}", permission=AUDIT, answers=Answers.NODE, parameters=OfInterface,
    summary="One network interface",
)  # fmt: skip
async def get_interface(context: Context, parameters: OfInterface) -> dict[str, JsonValue]:
    """As in the list."""
    for each in await read_interfaces(context.services.need(Programs)):
        if each.name == parameters.iface:
            return _interface(each)
    raise NotFound(
        f"interface '{parameters.iface}' does not exist", todo=f"See: racimo api GET /nodes/{parameters.node}/network"
    )


@routes.add(
    "GET", "/nodes/{node}/disks/list", permission=AUDIT, answers=Answers.NODE, parameters=ListDisks,
    summary="A node's disks",
)  # fmt: skip
async def list_disks(context: Context, parameters: ListDisks) -> list[dict[str, JsonValue]]:
    """Whole disks. Their health is not asked for and shown as unknown."""
    found = await read_disks(context.services.need(Programs))
    return [
        {
            "devpath": disk.path, "size": disk.size, "type": disk.kind, "model": disk.model, "serial": disk.serial,
            "vendor": disk.vendor, "wwn": disk.wwn, "used": disk.used, "mounted": int(disk.mounted),
            "gpt": int(disk.gpt), "health": "UNKNOWN", "wearout": "N/A",
        }
        for disk in found if parameters.type is None or not disk.used
    ]  # fmt: skip


@routes.add(
    "GET", "/nodes/{node}/services", permission=AUDIT, answers=Answers.NODE, parameters=OfNode,
    summary="Services of a node that can be seen from afar",
)  # fmt: skip
async def list_services(context: Context, parameters: OfNode) -> list[dict[str, JsonValue]]:
    """Racimo's own, and those of the system that it leans on."""
    return [_unit(unit) for unit in await read_units(context.services.need(Programs))]


@routes.add(
    "GET", "/nodes/{node}/services/{service}/state", permission=AUDIT, answers=Answers.NODE, parameters=OfService,
    summary="State of a service",
)  # fmt: skip
async def service_state(context: Context, parameters: OfService) -> dict[str, JsonValue]:
    """By systemd's words."""
    return _unit(await read_unit(context.services.need(Programs), service_name(parameters.service)))


def _steer(action: str) -> Callable[[Context, OfService], Awaitable[Upid]]:
    async def steer(context: Context, parameters: OfService) -> Upid:
        """A task; refused for what would take the node out of reach."""
        service = service_name(parameters.service)
        demand_harmless(service, action)
        return context.submit(STEERING[action](service, action), context.services.need(Programs))

    return steer


for _action in ACTIONS:
    routes.add(
        "POST", f"/nodes/{{node}}/services/{{service}}/{_action}", permission=MODIFY, answers=Answers.NODE,
        parameters=OfService, summary=f"{_action.capitalize()} a service", task=True,
    )(_steer(_action))  # fmt: skip


@routes.add(
    "POST", "/nodes/{node}/status", permission=POWER, answers=Answers.NODE, parameters=Command,
    summary="Shut a node down, or start it anew", task=True,
)  # fmt: skip
async def end_node(context: Context, parameters: Command) -> Upid:
    """In order: HA's shutdown policy says what becomes of its guests, the others are shut down."""
    return context.submit(EndNode(parameters.node, parameters.command), context.services.need(Programs))


@routes.add("POST", "/nodes/{node}/wakeonlan", permission=POWER, parameters=Wake, summary="Wake a node")
async def wake_node(context: Context, parameters: Wake) -> str:
    """By the node that is asked. Answers the MAC address; nobody says whether the machine wakes."""
    node = find_node(context, parameters.node)
    if node.name == context.services.node_name:
        raise Refused(f"Node '{node.name}' is not woken", why="it is the one that answers")
    if not node.wakeonlan:
        raise Refused(
            f"Node '{node.name}' cannot be woken", why="no MAC address is set for it",
            todo=f"Set it: racimo node set {node.name} --wakeonlan MAC",
        )  # fmt: skip
    await asyncio.to_thread(wake, node.wakeonlan)
    return node.wakeonlan


def _interface(each: Interface) -> dict[str, JsonValue]:
    first, first6 = each.first, each.first6
    fields: dict[str, JsonValue] = {
        "iface": each.name, "type": each.kind, "active": int(each.up), "exists": 1, "autostart": 1,
        "method": "static" if first else "manual", "method6": "static" if first6 else "manual",
        "families": ["inet", "inet6"] if first6 else ["inet"], "mtu": str(each.mtu),
        "altnames": list(each.altnames), "priority": 1,
    }  # fmt: skip
    if first:
        fields |= {"address": str(first.ip), "netmask": str(first.network.prefixlen), "cidr": str(first)}
    if first6:
        fields |= {"address6": str(first6.ip), "netmask6": first6.network.prefixlen, "cidr6": str(first6)}
    if each.gateway:
        fields["gateway"] = each.gateway
    if each.gateway6:
        fields["gateway6"] = each.gateway6
    if each.kind == "bridge":
        fields |= {"bridge_ports": " ".join(each.ports), "bridge_vlan_aware": int(each.vlan_aware)}
    if each.kind == "bond":
        fields["slaves"] = " ".join(each.ports)
    if each.vlan is not None:
        fields |= {"vlan-id": str(each.vlan), "vlan-raw-device": each.below}
    return fields


def _unit(unit: Unit) -> dict[str, JsonValue]:
    return {
        "service": unit.name, "name": unit.name, "desc": unit.description, "state": unit.sub,
        "active-state": unit.active, "unit-state": unit.file or unit.load,
    }  # fmt: skip
