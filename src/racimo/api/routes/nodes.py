"""Nodes: which there are, and what each is doing."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Protocol

import structlog
from pydantic import TypeAdapter, ValidationError

from racimo import __version__
from racimo.api.endpoint import LOGGED_IN, Answers, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import OfNode, Parameters
from racimo.api.resources import sees_node
from racimo.errors import RacimoError

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.node import Node

PEER_TIMEOUT = 3.0
"""Seconds that a node may take to say what it is doing; one that does not is listed without figures."""

routes = Routes()
_log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Usage:
    """What a node is doing. Sizes in bytes, ``cpu`` as a share of all processors from 0 to 1, ``uptime`` in seconds."""

    cpu: float
    cpus: int
    memory_total: int
    memory_used: int
    swap_total: int
    swap_used: int
    root_total: int
    root_used: int
    load: tuple[float, float, float]
    uptime: int
    kernel: str


_USAGE = TypeAdapter(Usage)


class Meter(Protocol):
    """Reads what this node is doing."""

    async def read(self) -> Usage:
        """The usage now."""


class UsageMeter:
    """The meter that the daemon provides."""

    def __init__(self, meter: Meter) -> None:
        self._meter = meter

    async def read(self) -> Usage:
        """The usage now."""
        return await self._meter.read()


@routes.add("GET", "/nodes", permission=LOGGED_IN, summary="The nodes, and what those that answer are doing")
async def list_nodes(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """Witnesses run no guests and are left out, as clients expect."""
    inventory = context.services.need(Inventory)
    nodes = [node for _, node in sorted(inventory.nodes().items()) if not node.witness]
    return list(await asyncio.gather(*(_listed(context, node) for node in nodes)))


@routes.add(
    "GET", "/nodes/{node}/status", permission=privilege("/nodes/{node}", "Sys.Audit"), answers=Answers.NODE,
    parameters=OfNode, summary="What a node is doing, and what it is made of",
)  # fmt: skip
async def node_status(context: Context, parameters: OfNode) -> dict[str, JsonValue]:
    """Figures of this moment."""
    usage = await context.services.need(UsageMeter).read()
    node = context.services.need(Inventory).nodes()[parameters.node]
    facts = node.facts
    return {
        "cpu": usage.cpu,
        "cpuinfo": {"cpus": usage.cpus, "model": facts.cpu_model, "flags": " ".join(facts.cpu_flags)},
        "memory": {
            "total": usage.memory_total,
            "used": usage.memory_used,
            "free": usage.memory_total - usage.memory_used,
        },
        "swap": {"total": usage.swap_total, "used": usage.swap_used, "free": usage.swap_total - usage.swap_used},
        "rootfs": {
            "total": usage.root_total,
            "used": usage.root_used,
            "free": usage.root_total - usage.root_used,
            "avail": usage.root_total - usage.root_used,
        },
        "loadavg": [f"{load:.2f}" for load in usage.load],
        "uptime": usage.uptime,
        "kversion": f"Linux {usage.kernel}",
        "pveversion": f"racimo/{__version__}",
        "racimo": {
            "address": node.address,
            "voter": node.voter,
            "qemu": facts.qemu,
            "operating_system": facts.operating_system,
            "acceleration": facts.acceleration,
            "acceleration_reason": facts.acceleration_reason,
        },
    }


async def _listed(context: Context, node: Node) -> dict[str, JsonValue]:
    services = context.services
    online = services.need(Inventory).online(node.name)
    entry: dict[str, JsonValue] = {
        "node": node.name, "id": f"node/{node.name}", "type": "node", "level": "",
        "status": "online" if online else "offline",
    }  # fmt: skip
    figures = await _figures(context, node.name) if online and sees_node(context, node.name) else None
    if figures is None:
        return entry
    return {
        **entry, "cpu": figures.cpu, "maxcpu": figures.cpus, "mem": figures.memory_used, "maxmem": figures.memory_total,
        "disk": figures.root_used, "maxdisk": figures.root_total, "uptime": figures.uptime,
    }  # fmt: skip


async def _figures(context: Context, node: str) -> Usage | None:
    services = context.services
    if node == services.node_name:
        return await services.need(UsageMeter).read()
    try:
        answer = await services.peers.call(node, "GET", f"/racimo/nodes/{node}/usage", timeout=PEER_TIMEOUT)
    except RacimoError as error:
        _log.info("a node's figures are left out of the list", node=node, error=str(error))
        return None
    if not isinstance(answer, dict):
        return None
    try:
        return _USAGE.validate_python(answer)
    except ValidationError as error:
        _log.info("a node's figures are left out of the list", node=node, error=str(error))
        return None


@routes.add(
    "GET", "/racimo/nodes/{node}/usage", permission=privilege("/nodes/{node}", "Sys.Audit"), answers=Answers.NODE,
    parameters=OfNode, summary="A node's figures, bare", result=Usage,
)  # fmt: skip
async def node_usage(context: Context, parameters: OfNode) -> dict[str, JsonValue]:
    """What ``GET /nodes`` gathers from every node."""
    return asdict(await context.services.need(UsageMeter).read())
