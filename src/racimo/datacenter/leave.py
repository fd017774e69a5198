"""``racimo cluster leave``: this node leaves, and stands alone again. The last one takes the records with it."""

from __future__ import annotations

import asyncio
import dataclasses
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from racimo.datacenter.atomic_file import remove_file, replace_file
from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.copy import write_records
from racimo.datacenter.etcd_member import EtcdMember
from racimo.datacenter.forget import forget_node, guests_of
from racimo.datacenter.identity import Identity, read_identity, write_identity
from racimo.datacenter.open_store import follower, open_etcd, open_sqlite, sqlite_path
from racimo.datacenter.standalone import SETTINGS, InitRequest, certify, write_first_records
from racimo.datacenter.voter_keeper import VoterKeeper, assign_members
from racimo.errors import NotClustered, OperationFailed, RacimoError, Refused
from racimo.model.node import NodeFacts
from racimo.store.layout import HA, ROOT, Layout

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.datacenter.host import Host
    from racimo.datacenter.quorum import Quorum
    from racimo.model.node import Node
    from racimo.model.paths import NodePaths
    from racimo.store.base import Store
    from racimo.task.operation import Report

log = structlog.get_logger()

HANDOVER_S = 180.0
"""How long the others may take to take over this node's vote."""
POLL_S = 0.3
LEFT_BEHIND = (HA, ROOT + "locks/", ROOT + "join-tokens/")
"""Records that mean nothing outside the cluster."""


async def leave(host: Host, store: Store, quorum: Quorum, report: Report, *, force: bool = False) -> Store:
    """Leave; returns the store of the node that now stands alone. The caller goes over to it.

    ``force`` for a node that was removed while it was away: it looks after itself only and asks nobody.
    Raises ``NotClustered``, ``Refused`` while guests are here, ``OperationFailed`` when no other takes over its vote in
    time; the node is a member as before then.
    """
    identity = read_identity(host.paths)
    if not identity.clustered:
        raise NotClustered(
            f"The node '{identity.name}' stands alone already",
            why="it is in no cluster that it could leave",
            todo="Nothing is to be done; to join one: racimo cluster join TEXT",
        )
    layout = Layout(store)
    if force:
        report.log("Leaving without asking the others")
        return await _stand_alone(host, store, identity, None)
    node = await layout.nodes.get(identity.name)
    others = [other for other in await layout.nodes.records() if other.name != node.name]
    if not others:
        return await _leave_as_last(host, store, identity, report)
    if all(other.witness for other in others):
        raise Refused(
            "The last node cannot leave its witness behind",
            why=", ".join(other.name for other in others),
            todo=f"Run first: racimo cluster remove {others[0].name}",
        )
    await _refuse_guests(layout, node.name)
    async with AsyncExitStack() as undo:
        undo.push_async_callback(_mark_leaving, layout, node.name, leaving=False)
        await _mark_leaving(layout, node.name, leaving=True)
        await _refuse_guests(layout, node.name)  # whose move was committed before the mark; none comes after it
        report.progress(0.2, "handing its vote over")
        await hand_over_vote(host, store, quorum, node, report)
        report.progress(0.7, "leaving")
        replace_file(leave_marker(host.paths), b"")
        undo.callback(remove_file, leave_marker(host.paths))
        await forget_node(layout, node.name)
        undo.pop_all()
    report.log(f"{node.name} is a node of the cluster no more")
    return await _stand_alone(host, store, identity, node)


async def finish_leave(host: Host) -> None:
    """After a crash in the middle of a leave: go on if the records say that this node has left. At each start."""
    identity = read_identity(host.paths)
    if not leave_marker(host.paths).exists():
        return
    if identity.clustered:
        store = open_etcd(host.paths, identity.endpoints)
        try:
            held = await Layout(store).nodes.find(identity.name)
            if held is None or held.record.id != identity.id:
                await (await _stand_alone(host, store, identity, None)).close()
        except RacimoError as error:
            log.warning("Cannot see yet whether this node has left its cluster", why=str(error))
            return
        finally:
            await store.close()
    else:
        await EtcdMember(host, identity).end()
    remove_file(leave_marker(host.paths))


async def hand_over_vote(host: Host, store: Store, quorum: Quorum, node: Node, report: Report) -> None:
    """Act as manager of the voters until this node's member is dropped. The others add themselves meanwhile."""
    keeper = VoterKeeper(host, store, quorum, is_manager=lambda: True, on_endpoints=follower(store))
    said = ""
    try:
        async with asyncio.timeout(HANDOVER_S):
            while True:
                all_members = await quorum.members()
                keeper.refresh_endpoints(all_members)
                if not assign_members([node], all_members)[0]:
                    return
                try:
                    sentence = await keeper.manage() or "waiting for the other nodes to take over its vote"
                except RacimoError as error:
                    sentence = f"trying again: {error}"
                if sentence != said:
                    report.log(sentence)
                    said = sentence
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise OperationFailed(
            f"The vote of '{node.name}' was not taken over",
            why=f"waited {HANDOVER_S:.0f} s; last: {said}",
            todo="See with 'racimo cluster status' that the other nodes are up, and leave again",
        ) from None


def leave_marker(paths: NodePaths) -> Path:
    """The file that says: a leave was begun."""
    return paths.etc / "leave.begun"


async def _refuse_guests(layout: Layout, name: str) -> None:
    guests = [held.record for held in await guests_of(layout, name)]
    if guests:
        raise Refused(
            f"The node '{name}' still has guests",
            why=", ".join(f"{guest.vmid} ('{guest.name}')" for guest in guests),
            todo="Migrate them to another node, or destroy them, and leave then",
        )


async def _mark_leaving(layout: Layout, name: str, *, leaving: bool) -> None:
    await layout.nodes.update(name, lambda node: dataclasses.replace(node, leaving=leaving))


async def _leave_as_last(host: Host, store: Store, identity: Identity, report: Report) -> Store:
    """Take all records, guests included, back to SQLite."""
    layout = Layout(store)
    protected = await layout.resources.all()
    if protected:
        raise Refused(
            f"The node '{identity.name}' cannot stand alone yet",
            why=f"{', '.join(sorted(protected))} are under HA, which a node that stands alone does not have",
            todo=f"First: racimo ha remove {min(protected)}",
        )
    report.progress(0.2, "copying the records")
    datacenter, node = await layout.datacenter.hold(SETTINGS), await layout.nodes.hold(identity.name)
    listing = await store.list(ROOT)
    records = {r.key: r.value for r in listing.records if not r.key.startswith(LEFT_BEHIND)}
    for put in (
        layout.datacenter.put(SETTINGS, dataclasses.replace(datacenter.record, clustered=False), datacenter),
        layout.nodes.put(identity.name, dataclasses.replace(node.record, voter=False, leaving=False), node),
    ):
        records[put.key] = put.value
    new = _fresh_sqlite(host)
    try:
        await write_records(new, records)
        _forget_marks(host.paths)
        replace_file(leave_marker(host.paths), b"")
        write_identity(host.paths, dataclasses.replace(identity, clustered=False, endpoints=()))
    except BaseException:
        await new.close()
        raise
    await store.close()
    await EtcdMember(host, identity).end()
    _forget_marks(host.paths)
    remove_file(leave_marker(host.paths))
    report.log(f"{identity.name} stands alone, with all records")
    report.progress(1.0)
    return new


def _forget_marks(paths: NodePaths) -> None:
    """No guest here is under HA: none may be killed for want of a lease. ``racimo-ha`` sees to other stale marks."""
    if paths.ha_marks.is_dir():
        for mark in paths.ha_marks.iterdir():
            mark.unlink(missing_ok=True)


async def _stand_alone(host: Host, store: Store, identity: Identity, node: Node | None) -> Store:
    """Begin anew as a node that stands alone: fresh records, authority and certificate."""
    await store.close()
    new = _fresh_sqlite(host)
    try:
        request = InitRequest(name=identity.name, address=identity.address, facts=node.facts if node else NodeFacts())
        alone = await write_first_records(host, new, request, identity.address)
        write_identity(host.paths, alone)
        await EtcdMember(host, identity).end()
        CertificateFiles.of(host.paths).remove()
        await certify(host, new, alone)
        if node is not None:
            _forget_marks(host.paths)
    except BaseException:
        await new.close()
        raise
    remove_file(leave_marker(host.paths))
    return new


def _fresh_sqlite(host: Host) -> Store:
    path = sqlite_path(host.paths)
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return open_sqlite(host.paths)
