"""Pools: guests and storages whose permissions are given together. Both forms of the Proxmox VE API, old and new."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.access.control import AccessControl
from racimo.api.endpoint import LOGGED_IN, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import Parameters
from racimo.api.resources import (
    guest_entry,
    pools,
    sees_guest,
    sees_pool,
    sees_storage,
    storage_entry,
)
from racimo.errors import NotFound

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.access import Pool

SEE = privilege("/pool/{poolid*}", "Pool.Audit", "Pool.Allocate")
CHANGE = privilege("/pool/{poolid*}", "Pool.Allocate")

routes = Routes()


class ListPools(Parameters):
    """Which pools."""

    poolid: Annotated[str | None, Field(description="Only this one, with its members.")] = None
    type: Annotated[Literal["qemu", "lxc", "storage"] | None, Field(description="Only members of this kind.")] = None


class OfPool(Parameters):
    """One pool."""

    poolid: str


class ShowPool(OfPool):
    """One pool with its members."""

    type: Annotated[Literal["qemu", "lxc", "storage"] | None, Field(description="Only members of this kind.")] = None


class NewPool(OfPool):
    """A pool to be made."""

    comment: str = ""


class ChangePool(OfPool):
    """Changes of a pool."""

    comment: str | None = None
    vms: Annotated[tuple[int, ...], Field(description="Guests to add, or to take out.")] = ()
    storage: Annotated[tuple[str, ...], Field(description="Storages to add, or to take out.")] = ()
    delete: Annotated[bool, Field(description="Take out instead of adding.")] = False
    move: Annotated[bool, Field(alias="allow-move", description="Take guests from the pool they are in.")] = False


@routes.add("GET", "/pools", permission=LOGGED_IN, parameters=ListPools, summary="The pools")
async def list_pools(context: Context, parameters: ListPools) -> list[dict[str, JsonValue]]:
    """Those that you have Pool.Audit or Pool.Allocate on; with ``poolid`` that one, members included."""
    if parameters.poolid is not None:
        context.demand(f"/pool/{parameters.poolid}", "Pool.Audit", "Pool.Allocate")
        pool = await context.services.need(AccessControl).pools.get(parameters.poolid)
        return [{"poolid": pool.name, **_shown(context, pool, parameters.type)}]
    return [
        {"poolid": name, **({"comment": pool.comment} if pool.comment else {})}
        for name, pool in sorted(pools(context).items())
        if sees_pool(context, name)
    ]


@routes.add("POST", "/pools", permission=CHANGE, parameters=NewPool, summary="Make a pool")
async def create_pool(context: Context, parameters: NewPool) -> None:
    """``a/b`` is a pool inside ``a``: what is given on ``/pool/a`` holds there too."""
    await context.services.need(AccessControl).pools.create(parameters.poolid, parameters.comment)


@routes.add("GET", "/pools/{poolid}", permission=SEE, parameters=ShowPool, summary="A pool and its members")
async def get_pool(context: Context, parameters: ShowPool) -> dict[str, JsonValue]:
    """Of the members those that you may see."""
    pool = await context.services.need(AccessControl).pools.get(parameters.poolid)
    return _shown(context, pool, parameters.type)


@routes.add("PUT", "/pools", permission=CHANGE, parameters=ChangePool, summary="Change a pool")
@routes.add("PUT", "/pools/{poolid}", permission=CHANGE, parameters=ChangePool, summary="Change a pool, old form")
async def change_pool(context: Context, parameters: ChangePool) -> None:
    """Each member that comes or goes takes VM.Allocate, Datastore.Allocate or Permissions.Modify over it."""
    kept = context.services.need(AccessControl).pools
    for vmid in parameters.vms:
        context.demand(f"/vms/{vmid}", "VM.Allocate", "Permissions.Modify")
    for storage in parameters.storage:
        context.demand(f"/storage/{storage}", "Datastore.Allocate", "Permissions.Modify")
    if parameters.vms or parameters.storage:
        if parameters.delete:
            await kept.take_out(parameters.poolid, parameters.vms, parameters.storage)
        else:
            for other in pools(context).values():
                if parameters.move and other.name != parameters.poolid and set(other.guests) & set(parameters.vms):
                    context.demand(f"/pool/{other.name}", "Pool.Allocate")
            await kept.add(parameters.poolid, parameters.vms, parameters.storage, move=parameters.move)
    if parameters.comment is not None:
        await kept.comment(parameters.poolid, parameters.comment)


@routes.add("DELETE", "/pools", permission=CHANGE, parameters=OfPool, summary="Remove a pool")
@routes.add("DELETE", "/pools/{poolid}", permission=CHANGE, parameters=OfPool, summary="Remove a pool, old form")
async def remove_pool(context: Context, parameters: OfPool) -> None:
    """It must be empty."""
    await context.services.need(AccessControl).pools.remove(parameters.poolid)


def _shown(context: Context, pool: Pool, kind: str | None) -> dict[str, JsonValue]:
    members: list[JsonValue] = [*_guests(context, pool)] if kind in (None, "qemu") else []
    members += _storages(context, pool) if kind in (None, "storage") else []
    return {"members": members, "comment": pool.comment}


def _guests(context: Context, pool: Pool) -> list[dict[str, JsonValue]]:
    inventory = context.services.need(Inventory)
    found = inventory.guests()
    return [guest_entry(inventory, found[v]) for v in pool.guests if v in found and sees_guest(context, v)]


def _storages(context: Context, pool: Pool) -> list[dict[str, JsonValue]]:
    """Each once, as the first of its nodes sees it."""
    inventory = context.services.need(Inventory)
    found, nodes = inventory.storages(), sorted(n.name for n in inventory.nodes().values() if not n.witness)
    if pool.storages and not nodes:
        raise NotFound("The datacenter has no node")
    return [
        storage_entry(inventory, found[name], sorted(found[name].nodes or nodes)[0])
        for name in pool.storages
        if name in found and sees_storage(context, name)
    ]
