"""``racimo cluster recover``: when the quorum is lost for good, go on from one survivor. Offline, and asked twice."""

from __future__ import annotations

import asyncio
import dataclasses
from functools import partial
from typing import TYPE_CHECKING

from racimo.datacenter.backup import read_backup
from racimo.datacenter.copy import write_records
from racimo.datacenter.etcd_member import EtcdMember, Membership, member_name
from racimo.datacenter.host import CLIENT_PORT, PEER_PORT, url
from racimo.datacenter.identity import Identity, read_identity, write_identity
from racimo.datacenter.open_store import open_etcd
from racimo.datacenter.services import ETCD_UNIT
from racimo.errors import Conflict, NotClustered, Refused, StoreError
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.datacenter.host import Host
    from racimo.store.base import Store
    from racimo.task.operation import Report

ASK_S = 15.0
CONSEQUENCES = (
    "this node becomes the only voter; changes that only the lost voters had are gone; the other voters of old must "
    "not come back with their old data as long as this is not done: a majority of them would go on as a second, older "
    "cluster. See that all other nodes are switched off, or that their guests are stopped: a guest that was moved "
    "after the records recovered here were written could run twice"
)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class RecoverRequest:
    """``backup``: begin from this file instead of the data of this node's member. ``confirmed``: --yes was given."""

    confirmed: bool = False
    backup: Path | None = None


async def recover(host: Host, request: RecoverRequest, report: Report) -> Identity:
    """Make this node's member the only one. The daemons of this node must be stopped, and be started afterwards.

    Raises ``Refused`` while there is a quorum, without confirmation, or when this node has no data and no backup was
    named. Can be run again after it broke off.
    """
    identity = read_identity(host.paths)
    if not identity.clustered:
        raise NotClustered(
            f"The node '{identity.name}' stands alone",
            why="only a cluster has a quorum to recover",
            todo="Run it on a node that survived of the cluster",
        )
    member = EtcdMember(host, identity)
    backup = read_backup(request.backup) if request.backup else None
    if backup is None and not member.has_data:
        raise Refused(
            "This node has no data of the store",
            why="it was not a voter, or its data is lost",
            todo="Run this on a node that was a voter, or name a backup with --backup FILE",
        )
    report.progress(0.1, "asking whether there is a quorum")
    if await _has_quorum(host, identity):
        raise Refused(
            "The cluster has a quorum",
            why="the store answers; nothing needs to be recovered",
            todo="Remove dead nodes with: racimo cluster remove NODE",
        )
    if not request.confirmed:
        raise Conflict("Recovering needs a confirmation", why=CONSEQUENCES, todo="Say --yes when that is what you want")
    report.progress(0.3, "starting this node's member alone")
    peers = {member_name(identity): url(identity.address, PEER_PORT)}
    alone = Membership(peers=peers, existing=False, token=f"recovered-{int(host.now())}")
    identity = dataclasses.replace(identity, endpoints=(url(identity.address, CLIENT_PORT),))
    store = open_etcd(host.paths, identity.endpoints)
    try:
        await _start_alone(host, identity, alone, store, fresh=backup is not None)
        report.progress(0.7, "correcting the records")
        if backup is not None:
            await write_records(store, backup.records)
            report.log(f"Restored {len(backup.records)} records of revision {backup.header.revision}")
        await _only_voter(Layout(store), identity)
    finally:
        await store.close()
    write_identity(host.paths, identity)
    report.log(f"{identity.name} is the only voter now. Others join in again by themselves as they come back")
    report.progress(1.0)
    return identity


async def rejoin(host: Host, address: str, report: Report) -> Identity:
    """On another node, after a recovery: put this member's old data aside and follow the store at ``address``.

    Raises ``Refused`` when that store does not know this node. Its daemons must be restarted afterwards.
    """
    identity = read_identity(host.paths)
    following = dataclasses.replace(identity, endpoints=(url(address, CLIENT_PORT),))
    store = open_etcd(host.paths, following.endpoints)
    try:
        held = await Layout(store).nodes.find(identity.name)
        if held is None or held.record.id != identity.id:
            raise Refused(
                f"The store at {address} does not know this node",
                why="it was removed, or never joined",
                todo="Run: racimo cluster leave --force; then join again",
            )
        report.progress(0.5, "putting the old data aside")
        if not held.record.voter:
            await EtcdMember(host, identity).end()
    finally:
        await store.close()
    write_identity(host.paths, following)
    report.progress(1.0)
    return following


async def _has_quorum(host: Host, identity: Identity) -> bool:
    store = open_etcd(host.paths, identity.endpoints)
    try:
        async with asyncio.timeout(ASK_S):
            await store.revision()
    except (StoreError, TimeoutError):
        return False
    finally:
        await store.close()
    return True


async def _start_alone(host: Host, identity: Identity, alone: Membership, store: Store, *, fresh: bool) -> None:
    """Start the member as the only one; twice when it keeps its data, for forcing it must happen only once."""
    member = EtcdMember(host, identity)

    async def serving() -> bool:
        return await store.revision() > 0

    if fresh:
        await member.begin(alone)
        await member.wait_until(serving)
        return
    for membership in (dataclasses.replace(alone, force_new=True), alone):
        await host.services.stop(ETCD_UNIT)
        member.configure(membership)
        await member.resume()
        await member.wait_until(serving)


async def _only_voter(layout: Layout, identity: Identity) -> None:
    for node in await layout.nodes.records():
        own = node.name == identity.name
        await layout.nodes.update(node.name, partial(dataclasses.replace, voter=own))
