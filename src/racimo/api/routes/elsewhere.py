"""What clients of the Proxmox VE API ask for and a Racimo datacenter does not have: told as such, in their shapes.

Containers, subscriptions, HA groups, the QDevice, corosync's settings and replication jobs. Lists are empty, single
ones do not exist, and what would make one is refused with the reason.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import structlog
from pydantic import Field

from racimo.api.endpoint import LOGGED_IN, Answers, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import OfNode, Parameters
from racimo.api.routes.certificates import OWN, shown_certificates
from racimo.errors import NotClustered, NotFound, RacimoError, Refused
from racimo.model.guest import MAX_VMID, MIN_VMID

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.datacenter import Datacenter
    from racimo.model.node import Node

AUDIT = privilege("/", "Sys.Audit")
CONSOLE = privilege("/", "Sys.Console")
NODE_MODIFY = privilege("/nodes/{node}", "Sys.Modify")
SEE_CONTAINER = privilege("/vms/{vmid}", "VM.Audit")
PEER_TIMEOUT = 3.0
"""Seconds that a node may take to show its certificate."""

routes = Routes()
_log = structlog.get_logger()


class OfContainer(OfNode):
    """One container."""

    vmid: Annotated[int, Field(ge=MIN_VMID, le=MAX_VMID, description="Its number.")]


class Key(OfNode):
    """A subscription's key."""

    key: Annotated[str, Field(max_length=200, description="It is not kept.")] = ""


class HaGroup(Parameters):
    """One HA group."""

    group: Annotated[str, Field(description="Its name.")]


class HaGroupFields(HaGroup):
    """What a group has."""

    nodes: Annotated[str, Field(description="Nodes, with priorities.")] = ""
    comment: Annotated[str, Field(description="For people.")] = ""
    nofailback: bool = False
    restricted: bool = False
    type: Annotated[str, Field(description="group.")] = "group"
    delete: Annotated[tuple[str, ...], Field(description="Fields to take away.")] = ()
    digest: Annotated[str, Field(description="Only if it still has this digest.")] = ""


class OfReplication(OfNode):
    """One replication job."""

    id: Annotated[str, Field(description="The job's id, such as 100-0.")]


class OfJob(Parameters):
    """One replication job."""

    id: Annotated[str, Field(description="The job's id, such as 100-0.")]


class JoinInfo(Parameters):
    """Whom to ask."""

    node: Annotated[str, Field(description="The node that a new one would join at; else the one that answers.")] = ""


class ListReplication(OfNode):
    """Which jobs."""

    guest: Annotated[int | None, Field(description="Only of this guest.")] = None


@routes.add(
    "GET", "/nodes/{node}/lxc", permission=LOGGED_IN, answers=Answers.NODE, parameters=OfNode,
    summary="Containers: none, Racimo runs virtual machines",
)  # fmt: skip
async def list_containers(context: Context, parameters: OfNode) -> list[dict[str, JsonValue]]:
    """Empty, since clients list them before anything else."""
    return []


async def _no_container(context: Context, parameters: OfContainer) -> None:
    raise NotFound(
        f"Configuration file 'nodes/{parameters.node}/lxc/{parameters.vmid}.conf' does not exist",
        why="this datacenter runs virtual machines, no containers",
    )


for _last in ("config", "status/current", "snapshot", "interfaces"):
    routes.add(
        "GET", f"/nodes/{{node}}/lxc/{{vmid}}/{_last}", permission=SEE_CONTAINER, answers=Answers.NODE,
        parameters=OfContainer, summary="A container: there is none",
    )(_no_container)  # fmt: skip


@routes.add(
    "GET", "/nodes/{node}/subscription", permission=LOGGED_IN, answers=Answers.NODE, parameters=OfNode,
    summary="A node's subscription: none is needed",
)  # fmt: skip
async def get_subscription(context: Context, parameters: OfNode) -> dict[str, JsonValue]:
    """``notfound``, as clients know it."""
    return {"status": "notfound", "level": "", "message": "There is no subscription: Racimo needs none"}


@routes.add(
    "PUT", "/nodes/{node}/subscription", permission=NODE_MODIFY, answers=Answers.NODE, parameters=Key,
    summary="Set a subscription's key: refused",
)  # fmt: skip
async def set_subscription(context: Context, parameters: Key) -> None:
    """The key is not looked at."""
    raise Refused("The subscription was not set", why="Racimo needs none and keeps no keys", todo="Leave it out")


@routes.add(
    "DELETE", "/nodes/{node}/subscription", permission=NODE_MODIFY, answers=Answers.NODE, parameters=OfNode,
    summary="Remove a subscription: there is none",
)  # fmt: skip
async def remove_subscription(context: Context, parameters: OfNode) -> None:
    """Nothing to remove."""
    raise Refused("The subscription was not removed", why="there is none: Racimo needs none")


@routes.add("GET", "/cluster/ha/groups", permission=AUDIT, summary="HA groups: none, rules took their place")
async def list_groups(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """Empty."""
    return []


@routes.add("GET", "/cluster/ha/groups/{group}", permission=AUDIT, parameters=HaGroup, summary="An HA group: none")
async def get_group(context: Context, parameters: HaGroup) -> None:
    """There is none."""
    raise NotFound(f"no such ha group '{parameters.group}'", why="groups have been migrated to rules", todo=_RULES)


_RULES = "Use a node affinity rule: racimo ha rule add, or POST /cluster/ha/rules"


async def _no_groups(context: Context, parameters: HaGroup) -> None:
    raise Refused(
        f"HA group '{parameters.group}' was not changed", why="ha groups have been migrated to rules", todo=_RULES
    )


routes.add("POST", "/cluster/ha/groups", permission=CONSOLE, parameters=HaGroupFields,
           summary="Make an HA group: refused, rules took their place")(_no_groups)  # fmt: skip
routes.add("PUT", "/cluster/ha/groups/{group}", permission=CONSOLE, parameters=HaGroupFields,
           summary="Change an HA group: refused, rules took their place")(_no_groups)  # fmt: skip
routes.add("DELETE", "/cluster/ha/groups/{group}", permission=CONSOLE, parameters=HaGroup,
           summary="Remove an HA group: refused, there are none")(_no_groups)  # fmt: skip


@routes.add("GET", "/cluster/config/qdevice", permission=AUDIT, summary="The QDevice: none")
async def qdevice(context: Context, parameters: Parameters) -> dict[str, JsonValue]:
    """Empty: a third vote comes from a witness, which is a member like others (see ``/cluster/status``)."""
    return {}


@routes.add("GET", "/cluster/config/totem", permission=AUDIT, summary="The cluster's name and transport")
async def totem(context: Context, parameters: Parameters) -> dict[str, JsonValue]:
    """Empty on a node that stands alone: so clients see whether there is a cluster."""
    return _totem(context.services.need(Inventory).datacenter())


def _totem(datacenter: Datacenter) -> dict[str, JsonValue]:
    if not datacenter.clustered:
        return {}
    return {"cluster_name": datacenter.name, "config_version": "1", "transport": "etcd", "version": "2"}


@routes.add(
    "GET", "/cluster/config/join", permission=AUDIT, parameters=JoinInfo, summary="What a node that joins must know"
)
async def join_information(context: Context, parameters: JoinInfo) -> dict[str, JsonValue]:
    """The nodes with their certificates' fingerprints. The text to join with: ``racimo cluster join-info``."""
    inventory, own = context.services.need(Inventory), context.services.node_name
    datacenter = inventory.datacenter()
    if not datacenter.clustered:
        raise NotClustered(
            "node is not in a cluster, no join info available", why=f"'{own}' stands alone",
            todo="Make a cluster first: racimo cluster create",
        )  # fmt: skip
    nodes = [node for _, node in sorted(inventory.nodes().items()) if not node.witness]
    shown: list[JsonValue] = list(await asyncio.gather(*(_joinable(context, number, node)
                                                         for number, node in enumerate(nodes, 1))))  # fmt: skip
    return {
        "nodelist": shown, "preferred_node": parameters.node or own, "config_digest": datacenter.id,
        "totem": _totem(datacenter),
    }  # fmt: skip


async def _joinable(context: Context, number: int, node: Node) -> JsonValue:
    return {
        "name": node.name, "nodeid": str(number), "pve_addr": node.address, "ring0_addr": node.address,
        "quorum_votes": str(int(node.voter)), "pve_fp": await _fingerprint(context, node.name),
    }  # fmt: skip


async def _fingerprint(context: Context, node: str) -> str:
    services = context.services
    shown: JsonValue
    try:
        if node == services.node_name:
            shown = list(await asyncio.to_thread(shown_certificates, services.paths))
        else:
            shown = await services.peers.call(node, "GET", f"/nodes/{node}/certificates/info", timeout=PEER_TIMEOUT)
    except RacimoError as error:
        _log.info("a node's fingerprint is left out", node=node, error=str(error))
        return ""
    for each in shown if isinstance(shown, list) else []:
        if isinstance(each, dict) and each.get("filename") == OWN:
            return str(each.get("fingerprint"))
    return ""


@routes.add(
    "GET", "/nodes/{node}/replication", permission=LOGGED_IN, answers=Answers.NODE, parameters=ListReplication,
    summary="Replication jobs of a node: none yet",
)  # fmt: skip
async def list_replication(context: Context, parameters: ListReplication) -> list[dict[str, JsonValue]]:
    """Empty."""
    return []


async def _no_job(context: Context, parameters: OfReplication | OfJob) -> None:
    raise NotFound(f"no such replication job '{parameters.id}'", why="this version replicates no disks")


for _last in ("status", "log"):
    routes.add(
        "GET", f"/nodes/{{node}}/replication/{{id}}/{_last}", permission=LOGGED_IN, answers=Answers.NODE,
        parameters=OfReplication, summary="A replication job: there is none yet",
    )(_no_job)  # fmt: skip


@routes.add("GET", "/cluster/replication", permission=LOGGED_IN, summary="Replication jobs: none yet")
async def list_jobs(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """Empty."""
    return []


routes.add("GET", "/cluster/replication/{id}", permission=LOGGED_IN, parameters=OfJob,
           summary="A replication job: there is none yet")(_no_job)  # fmt: skip
