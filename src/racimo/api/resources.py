"""Guests, nodes, storages and pools as lists show them: of each only what who asks may see."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.access.control import AccessControl
from racimo.api.inventory import Inventory
from racimo.guest.config import parse_config

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.access import Pool
    from racimo.model.guest import Guest
    from racimo.model.storage import Storage

Entry = dict[str, "JsonValue"]
SEE_STORAGE = ("Datastore.Audit", "Datastore.AllocateSpace", "Datastore.Allocate")


def sees_guest(context: Context, vmid: int) -> bool:
    """Whether who asks may know of a guest."""
    return context.may(f"/vms/{vmid}", "VM.Audit")


def sees_storage(context: Context, storage: str) -> bool:
    """Whether who asks may know of a storage."""
    return context.may(f"/storage/{storage}", *SEE_STORAGE)


def sees_node(context: Context, node: str) -> bool:
    """Whether who asks may see more of a node than that it is there."""
    return context.may(f"/nodes/{node}", "Sys.Audit")


def sees_pool(context: Context, pool: str) -> bool:
    """Whether who asks may know of a pool."""
    return context.may(f"/pool/{pool}", "Pool.Audit", "Pool.Allocate")


def guest_entries(context: Context) -> list[Entry]:
    """The guests that who asks may see."""
    inventory = context.services.need(Inventory)
    services, resources, pools = inventory.services(), inventory.resources(), _pool_of_guests(context)
    entries: list[Entry] = []
    for guest in inventory.guests().values():
        if not sees_guest(context, guest.vmid):
            continue
        entry = guest_entry(inventory, guest)
        if guest.sid in resources:
            service = services.get(guest.sid)
            entry["hastate"] = str(service.state) if service else "queued"
        if guest.vmid in pools:
            entry["pool"] = pools[guest.vmid]
        entries.append(entry)
    return entries


def guest_entry(inventory: Inventory, guest: Guest) -> Entry:
    """One guest."""
    config = parse_config(guest.config)
    return {
        "id": f"qemu/{guest.vmid}", "type": "qemu", "vmid": guest.vmid, "name": guest.name, "node": guest.node,
        "status": inventory.state(guest), "template": int(config.template), "maxcpu": config.cpus,
        "maxmem": config.memory_bytes, "maxdisk": sum(drive.size or 0 for drive in config.disks.values()),
        "tags": ";".join(config.tags or ()),
    }  # fmt: skip


def node_entries(context: Context) -> list[Entry]:
    """All nodes; of those that who asks may not look into only that they are there, and whether they are up."""
    inventory = context.services.need(Inventory)
    entries: list[Entry] = []
    for _, node in sorted(inventory.nodes().items()):
        if node.witness:
            continue
        entry: Entry = {
            "id": f"node/{node.name}", "type": "node", "node": node.name, "level": "",
            "status": "online" if inventory.online(node.name) else "offline",
        }  # fmt: skip
        if sees_node(context, node.name):
            entry |= {"maxcpu": node.facts.cpus, "maxmem": node.facts.memory}
        entries.append(entry)
    return entries


def storage_entries(context: Context) -> list[Entry]:
    """The storages that who asks may see, once for each of their nodes."""
    inventory = context.services.need(Inventory)
    nodes = [node.name for node in inventory.nodes().values() if not node.witness]
    return [
        storage_entry(inventory, storage, node)
        for _, storage in sorted(inventory.storages().items())
        if sees_storage(context, storage.id)
        for node in sorted(storage.nodes or nodes)
    ]


def storage_entry(inventory: Inventory, storage: Storage, node: str) -> Entry:
    """One storage as it is on one node."""
    return {
        "id": f"storage/{node}/{storage.id}", "type": "storage", "storage": storage.id, "node": node,
        "plugintype": storage.type, "content": ",".join(storage.content), "shared": int(storage.shared),
        "status": "available" if inventory.online(node) and not storage.disabled else "unknown",
    }  # fmt: skip


def pool_entries(context: Context) -> list[Entry]:
    """The pools that who asks may see."""
    return [
        {"id": f"/pool/{name}", "type": "pool", "pool": name}
        for name in sorted(pools(context))
        if sees_pool(context, name)
    ]


def pools(context: Context) -> dict[str, Pool]:
    """All pools by name; none on a node without access control."""
    access = context.services.rooms.get(AccessControl)
    return dict(access.roster.policy().pools) if isinstance(access, AccessControl) else {}


def _pool_of_guests(context: Context) -> dict[int, str]:
    return {vmid: pool.name for pool in pools(context).values() for vmid in pool.guests}
