"""``racimo cluster remove NODE``: take out a node that is dead (or a witness), with quorum, leaving no ghost."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from racimo.datacenter.forget import forget_guests, forget_node, guests_of, hand_over_guests, seen_stopped
from racimo.datacenter.liveness import sign_of_life
from racimo.datacenter.voter_keeper import assign_members
from racimo.errors import BadParameter, Conflict, NotFound, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.datacenter.quorum import Quorum
    from racimo.model.node import Node
    from racimo.store.layout import Layout
    from racimo.task.operation import Report

    SignOfLife = Callable[[Layout, Node], Awaitable[str]]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RemoveRequest:
    """Guests of the node go to ``guests_to``, or are deleted from the records with ``forget_guests``.

    ``powered_off``: an administrator vouches that the node is off and stays so. Needed for guests that were not seen to
    stop: one that still ran there would run twice.
    """

    node: str
    guests_to: str = ""
    forget_guests: bool = False
    powered_off: bool = False


async def remove(
    layout: Layout, quorum: Quorum, own: str, request: RemoveRequest, report: Report, alive: SignOfLife = sign_of_life
) -> None:
    """Remove the node. ``own`` is the name of the node that does it.

    Raises ``NotFound``, ``Refused`` for one that lives or for guests without a place to go, ``StoreUnavailable``
    without quorum. Broken off half-way, it can be run again.
    """
    node = await _find(layout, request.node)
    if node.name == own:
        raise Refused(
            f"The node '{own}' cannot remove itself",
            why="remove is for dead nodes",
            todo="Run there: racimo cluster leave",
        )
    report.progress(0.1, "looking for signs of life")
    sign = "" if node.witness else await alive(layout, node)
    if sign:
        raise Refused(
            f"The node '{node.name}' is alive",
            why=sign,
            todo=f"Run on {node.name}: racimo cluster leave. Or power it off first",
        )
    await _check_guests(layout, request)
    await layout.nodes.update(node.name, lambda n: dataclasses.replace(n, leaving=True, voter=False))
    report.progress(0.4, "dropping its vote")
    by_node, _ = assign_members(await layout.nodes.records(), await quorum.members())
    if node.name in by_node:
        await quorum.remove(by_node[node.name].id)
        report.log(f"Dropped the vote of {node.name}")
    report.progress(0.6, "its guests")
    if request.guests_to:
        for vmid in await hand_over_guests(layout, node.name, request.guests_to, powered_off=request.powered_off):
            report.log(f"Guest {vmid} belongs to {request.guests_to} now")
    elif request.forget_guests:
        for vmid in await forget_guests(layout, node.name, powered_off=request.powered_off):
            report.log(f"Deleted guest {vmid} from the records; its disks were not touched")
    await forget_node(layout, node.name)
    report.log(f"Removed the node {node.name}; its certificate is refused from now on")
    report.progress(1.0)


async def _find(layout: Layout, name: str) -> Node:
    held = await layout.nodes.find(name)
    if held is None:
        known = ", ".join(sorted(node.name for node in await layout.nodes.records()))
        raise NotFound(
            f"Node '{name}' does not exist",
            why=f"the datacenter has {known}",
            todo="See its nodes with: racimo cluster status",
        )
    return held.record


async def _check_guests(layout: Layout, request: RemoveRequest) -> None:
    guests = [held.record for held in await guests_of(layout, request.node)]
    if not guests:
        return
    names = ", ".join(f"{guest.vmid} ('{guest.name}')" for guest in guests)
    if not request.guests_to and not request.forget_guests:
        raise Refused(
            f"The node '{request.node}' still has guests",
            why=names,
            todo="Give them to another node with --guests-to NODE, or delete their records with --forget-guests",
        )
    if request.guests_to:
        target = await layout.nodes.find(request.guests_to)
        if target is None or target.record.witness or target.record.name == request.node:
            raise BadParameter(
                {"guests-to": f"'{request.guests_to}' is not another node that runs guests"},
                todo="See: racimo node list",
            )
    resources = await layout.resources.all()
    under_ha = [guest.sid for guest in guests if guest.sid in resources]
    if under_ha:
        raise Conflict(
            "Guests of the node are under HA",
            why=", ".join(under_ha),
            todo="Wait until HA has recovered them elsewhere, or first: racimo ha remove " + under_ha[0],
        )
    unsure = [guest for guest in guests if not seen_stopped(guest, await layout.runtimes.find(guest.vmid))]
    if unsure and not request.powered_off:
        raise Refused(
            f"Nobody knows that the guests of '{request.node}' have stopped",
            why=f"{', '.join(str(guest.vmid) for guest in unsure)} ran when it was last heard of",
            todo="See that it is switched off, then say so with --powered-off",
        )
