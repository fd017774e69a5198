"""The datacenter as a whole: who is a member, what there is, its settings."""

from __future__ import annotations

import ipaddress
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import LOGGED_IN, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import Parameters
from racimo.api.resources import guest_entries, node_entries, pool_entries, storage_entries
from racimo.datacenter.service import DatacenterService
from racimo.errors import AlreadyExists, BadParameter
from racimo.ha.profiles import demand_quick
from racimo.model.guest import MAX_VMID, MIN_VMID
from racimo.model.ha import NodeHealth

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.datacenter.status import MemberState
    from racimo.model.datacenter import Datacenter

SETTINGS = "settings"

routes = Routes()


class Resources(Parameters):
    """Which kinds of resources."""

    type: Annotated[Literal["vm", "node", "storage"] | None, Field(description="Only this kind.")] = None


class NextId(Parameters):
    """A number to test."""

    vmid: Annotated[int | None, Field(ge=MIN_VMID, le=MAX_VMID, description="Is this one free?")] = None


class Options(Parameters):
    """Settings of the datacenter; what is not given stays as it is."""

    ha_profile: Annotated[Literal["default", "fast", "patient"] | None, Field(description="How fast HA reacts.")] = None
    ha_shutdown_policy: Annotated[
        Literal["conditional", "freeze", "failover", "migrate"] | None,
        Field(description="What becomes of a node's HA guests when it is shut down in order."),
    ] = None
    ha_migrate_wait: Annotated[
        int | None, Field(ge=1, le=86400, description="Seconds that policy migrate waits before it gives up.")
    ] = None
    crs: Annotated[
        Literal["basic", "static", "dynamic"] | None, Field(description="How a node is chosen for an HA guest.")
    ] = None
    crs_rebalance_on_start: Annotated[bool | None, Field(description="Choose a guest's node at each start.")] = None
    crs_auto_rebalance: Annotated[bool | None, Field(description="Move guests when nodes are used too unlike.")] = None
    crs_threshold: Annotated[float | None, Field(gt=0, le=10, description="Imbalance above which they move.")] = None
    crs_margin: Annotated[float | None, Field(ge=0, le=1, description="What a plan has to take away of it.")] = None
    crs_hold: Annotated[int | None, Field(ge=1, le=1000, description="Rounds of 10 s above it in a row, first.")] = None
    crs_method: Annotated[Literal["bruteforce", "topsis"] | None, Field(description="How moves are found.")] = None
    crs_moves_per_hour: Annotated[int | None, Field(ge=0, le=1000, description="At most so many.")] = None
    migration_network: Annotated[
        str | None, Field(description="CIDR of the network for live migrations; empty: the cluster network.")
    ] = None
    migration_bandwidth: Annotated[int | None, Field(ge=0, description="Bytes per second; 0: no limit.")] = None


@routes.add("GET", "/cluster/status", permission=privilege("/", "Sys.Audit"), summary="Quorum and members")
async def cluster_status(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """First the cluster (of a node that stands alone there is none), then the nodes."""
    status = await context.services.need(DatacenterService).status()
    inventory = context.services.need(Inventory)
    name = status.name or (inventory.datacenter().name if inventory.known else "")
    cluster: dict[str, JsonValue] = {
        "type": "cluster", "id": "cluster", "name": name,
        "nodes": len(status.members),
        "quorate": int(status.quorum), "version": 1, "votes_expected": status.votes_expected,
        "votes_needed": status.votes_needed, "votes_present": status.votes_present, "why": status.why,
        "stale_s": inventory.staleness(), "removed": status.removed,
    }  # fmt: skip
    nodes = [_member(member, inventory, status.own) for member in status.members]
    return [cluster, *nodes] if status.clustered else nodes


@routes.add(
    "GET", "/cluster/resources", permission=LOGGED_IN, parameters=Resources, summary="Guests, nodes and storages"
)
async def cluster_resources(context: Context, parameters: Resources) -> list[dict[str, JsonValue]]:
    """From the watched copy: told without quorum too, and costs the store nothing."""
    shown: list[dict[str, JsonValue]] = []
    if parameters.type in (None, "vm"):
        shown += guest_entries(context)
    if parameters.type in (None, "node"):
        shown += node_entries(context)
    if parameters.type in (None, "storage"):
        shown += storage_entries(context)
    if parameters.type is None:
        shown += pool_entries(context)
    return shown


@routes.add("GET", "/cluster/nextid", permission=LOGGED_IN, parameters=NextId, summary="A free guest number")
async def next_id(context: Context, parameters: NextId) -> str:
    """The lowest; or the one asked for, which is refused when it is taken."""
    taken = context.services.need(Inventory).guests()
    if parameters.vmid is None:
        return str(next(vmid for vmid in range(MIN_VMID, MAX_VMID + 1) if vmid not in taken))
    guest = taken.get(parameters.vmid)
    if guest is not None:
        raise AlreadyExists(f"VM {guest.vmid} already exists", why=f"it is '{guest.name}' on node {guest.node}")
    return str(parameters.vmid)


@routes.add("GET", "/cluster/options", permission=privilege("/", "Sys.Audit"), summary="Settings of the datacenter")
async def get_options(context: Context, parameters: Parameters) -> dict[str, JsonValue]:
    """As they are in force."""
    return _settings(context.services.need(Inventory).datacenter())


@routes.add(
    "PUT", "/cluster/options", permission=privilege("/", "Sys.Modify"), parameters=Options, summary="Change settings"
)
async def change_options(context: Context, parameters: Options) -> None:
    """They are in force at once."""
    network = parameters.migration_network
    if network:
        try:
            ipaddress.ip_network(network)
        except ValueError as error:
            raise BadParameter({"migration_network": f"{error}; write a CIDR such as 10.0.0.0/24"}) from error
    if parameters.ha_profile is not None:
        beats = await context.services.layout.heartbeats.all()
        demand_quick(parameters.ha_profile, {name: held.record for name, held in beats.items()})

    given = parameters.model_dump(include=set(Options.model_fields), exclude_none=True)

    def change(old: Datacenter) -> Datacenter:
        return replace(old, **given)

    await context.services.layout.datacenter.update(SETTINGS, change)


def _member(member: MemberState, inventory: Inventory, own: str) -> dict[str, JsonValue]:
    status = inventory.node_statuses().get(member.name)
    fenced = status is not None and status.health in (NodeHealth.FENCE, NodeHealth.GONE)
    online = member.reachable if member.witness else inventory.online(member.name) and not fenced
    return {
        "type": "node", "id": f"node/{member.name}", "name": member.name, "ip": member.address, "online": int(online),
        "local": int(member.name == own), "level": "", "nodeid": 0, "voter": int(member.voter),
        "learner": int(member.learner), "leader": int(member.leader), "witness": int(member.witness),
        "reachable": int(member.reachable), "why": member.why, "ha": str(status.health) if status else "",
    }  # fmt: skip


def _settings(datacenter: Datacenter) -> dict[str, JsonValue]:
    return {
        "name": datacenter.name, "clustered": int(datacenter.clustered), "ha_profile": datacenter.ha_profile,
        "ha_shutdown_policy": datacenter.ha_shutdown_policy, "ha_migrate_wait": datacenter.ha_migrate_wait,
        "crs": datacenter.crs, "crs_rebalance_on_start": int(datacenter.crs_rebalance_on_start),
        "crs_auto_rebalance": int(datacenter.crs_auto_rebalance), "crs_threshold": datacenter.crs_threshold,
        "crs_margin": datacenter.crs_margin, "crs_hold": datacenter.crs_hold, "crs_method": datacenter.crs_method,
        "crs_moves_per_hour": datacenter.crs_moves_per_hour,
        "migration_network": datacenter.migration_network, "migration_bandwidth": datacenter.migration_bandwidth,
    }  # fmt: skip
