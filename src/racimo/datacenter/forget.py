"""Taking a node out of the records, whole: nothing of it is left behind."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from racimo.errors import Conflict
from racimo.model.guest import RunState, Runtime
from racimo.store.destination import taking_guests

if TYPE_CHECKING:
    from racimo.model.guest import Guest
    from racimo.store.base import Compare, Put
    from racimo.store.collection import Held
    from racimo.store.layout import Layout

ATTEMPTS = 8
CHUNK = 50


async def guests_of(layout: Layout, node: str) -> list[Held[Guest]]:
    """The guests that belong to ``node``."""
    return [held for held in (await layout.guests.all()).values() if held.record.node == node]


async def forget_node(layout: Layout, name: str) -> None:
    """Delete the node's record and all that is kept of it, and its name in the storages, in one transaction.

    Its guests must be gone: it is marked as leaving first, so that none can come any more. Raises ``Conflict`` when one
    came before that. Nothing happens if the node is not there.
    """
    locks = [held.key for held in (await layout.locks.all()).values() if held.record.node == name]
    for start in range(0, len(locks), CHUNK):
        await layout.store.txn(deletes=locks[start : start + CHUNK])
    for _ in range(ATTEMPTS):
        node = await layout.nodes.find(name)
        if node is not None and not node.record.leaving:
            await layout.nodes.update(name, lambda n: dataclasses.replace(n, leaving=True))
            continue
        compares: list[Compare] = [node.compare] if node else []
        puts: list[Put] = []
        deletes = [node.key] if node else []
        own = (
            await layout.heartbeats.find(name),
            await layout.node_statuses.find(name),
            await layout.daemons.find(name),
            await layout.maintenance.find(name),
        )
        deletes += [one.key for one in own if one is not None]
        deletes += await _fence_records(layout, name)
        term = await layout.manager.find("term")
        if term is not None and term.record.node == name:
            compares.append(term.compare)
        for key, held in (await layout.storages.all()).items():
            if name in held.record.nodes:
                compares.append(held.compare)
                rest = tuple(other for other in held.record.nodes if other != name)
                if rest:
                    puts.append(layout.storages.put(key, dataclasses.replace(held.record, nodes=rest), held))
                else:
                    deletes.append(held.key)
        guests = await guests_of(layout, name)
        if guests:
            raise Conflict(
                f"The node '{name}' has guests again",
                why=", ".join(str(held.record.vmid) for held in guests),
                todo="Move them and try again",
            )
        if not deletes or await layout.store.txn(compares, puts, deletes) is not None:
            return
    raise Conflict(f"The node '{name}' could not be removed", why="its records keep changing", todo="Try again")


async def _fence_records(layout: Layout, name: str) -> list[str]:
    """The keys of the fence devices that cut the power of ``name``, with their checks, and of its last fencing."""
    fencing = await layout.fencings.find(name)
    keys = [fencing.key] if fencing else []
    checks = await layout.fence_checks.all()
    for device, held in (await layout.fence_devices.all()).items():
        if held.record.node == name:
            keys += [held.key, *([checks[device].key] if device in checks else [])]
    return keys


def seen_stopped(guest: Guest, runtime: Held[Runtime] | None) -> bool:
    """Proof C: the owner itself wrote that the guest is stopped, for its present epoch; or it never ran."""
    if runtime is None:
        return True
    record = runtime.record
    return (record.state, record.node, record.epoch) == (RunState.STOPPED, guest.node, guest.epoch)


async def hand_over_guests(layout: Layout, name: str, target: str, *, powered_off: bool) -> list[int]:
    """Give the guests of ``name`` to ``target``, each by one transaction that ends what ``name`` may do with it.

    ``powered_off``: an administrator vouches that ``name`` runs none of them. Without, ``Conflict`` for a guest that
    was started since it was last looked at; always for one that came under HA. Returns their vmids.
    """
    moved: list[int] = []
    for held in await guests_of(layout, name):
        guest = dataclasses.replace(held.record, node=target, epoch=held.record.epoch + 1)
        stopped = Runtime(
            vmid=guest.vmid, node=target, epoch=guest.epoch, state=RunState.STOPPED, reason=f"taken over from {name}"
        )
        compares, runtime = await _still_stopped(layout, held, powered_off=powered_off)
        compares.append(await taking_guests(layout, target))
        puts = [layout.guests.put(guest.vmid, guest, held), layout.runtimes.put(guest.vmid, stopped, runtime)]
        if await layout.store.txn(compares, puts) is None:
            raise Conflict(f"Guest {guest.vmid} was changed while it was handed over", todo="Try again")
        moved.append(guest.vmid)
    return moved


async def _still_stopped(
    layout: Layout, held: Held[Guest], *, powered_off: bool
) -> tuple[list[Compare], Held[Runtime] | None]:
    """What to compare so that the guest is not taken from an owner that has just started it; its ``Runtime``."""
    guest = held.record
    runtime = await layout.runtimes.find(guest.vmid)
    if not powered_off and not seen_stopped(guest, runtime):
        raise Conflict(
            f"Guest {guest.vmid} was started meanwhile",
            why=f"{guest.node} lives, or did a moment ago",
            todo="See that it is switched off, then say so with --powered-off",
        )
    unchanged = runtime.compare if runtime else layout.runtimes.absent(guest.vmid)
    return [held.compare, unchanged, layout.resources.absent(guest.sid)], runtime


async def forget_guests(layout: Layout, name: str, *, powered_off: bool) -> list[int]:
    """Delete the records of the guests of ``name``, as when their disks are lost with it. Returns their vmids."""
    gone: list[int] = []
    for held in await guests_of(layout, name):
        vmid, sid = held.record.vmid, held.record.sid
        compares, runtime = await _still_stopped(layout, held, powered_off=powered_off)
        deletes = [held.key, *([runtime.key] if runtime else [])]
        deletes += [layout.outcomes.key(sid), layout.services.key(sid)]
        if await layout.store.txn(compares, deletes=deletes) is None:
            raise Conflict(f"Guest {vmid} was changed while it was deleted", todo="Try again")
        gone.append(vmid)
    return gone


async def sweep_ghosts(layout: Layout) -> list[str]:
    """Delete heartbeats, statuses and daemons of nodes that are no more, written as they were removed."""
    nodes = await layout.nodes.all()
    kept: dict[str, list[str]] = {}
    for name, beat in (await layout.heartbeats.all()).items():
        kept.setdefault(name, []).append(beat.key)
    for name, status in (await layout.node_statuses.all()).items():
        kept.setdefault(name, []).append(status.key)
    for name, daemon in (await layout.daemons.all()).items():
        kept.setdefault(name, []).append(daemon.key)
    return [
        name
        for name in sorted(kept.keys() - nodes.keys())
        if await layout.store.txn([layout.nodes.absent(name)], deletes=kept[name]) is not None
    ]
