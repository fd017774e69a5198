"""``racimo cluster create``: a node that stands alone becomes the first of a cluster.

The replacement of ``node.json`` is the commit point. Before it the node stands alone, whatever is half done beside;
after it the node is clustered, whatever is left to tidy up. ``tidy_up`` does both kinds of clean-up at the next start.
"""

from __future__ import annotations

import dataclasses
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

from racimo.datacenter.atomic_file import remove_file, replace_file, sync_folder
from racimo.datacenter.copy import copy_records
from racimo.datacenter.etcd_member import EtcdMember, Membership, member_name
from racimo.datacenter.host import CLIENT_PORT, PEER_PORT, check_address, check_ports_free, url
from racimo.datacenter.identity import Identity, check_cluster_name, find_identity, read_identity, write_identity
from racimo.datacenter.open_store import open_etcd, sqlite_path
from racimo.datacenter.standalone import SETTINGS, certify
from racimo.errors import Conflict
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.datacenter.host import Host
    from racimo.model.paths import NodePaths
    from racimo.store.base import Store
    from racimo.task.operation import Report


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class CreateRequest:
    """``name`` of the cluster; ``address`` of this node on the network that its peers will use."""

    name: str
    address: str


def marker(paths: NodePaths) -> Path:
    """The file that says: a create was begun, and what it left must be tidied up."""
    return paths.etc / "create.begun"


def check_create(host: Host, request: CreateRequest) -> Identity:
    """Refuse what cannot be, before anything is changed; returns the identity that the node will have."""
    check_cluster_name(request.name)
    identity = read_identity(host.paths)
    if identity.clustered:
        raise Conflict(
            f"The node '{identity.name}' belongs to a cluster already",
            why="a node is a member of one cluster at a time",
            todo="See 'racimo cluster status'; leave it with 'racimo cluster leave'",
        )
    address = check_address(host, request.address)
    if not marker(host.paths).exists():
        check_ports_free(address)
    return dataclasses.replace(identity, address=address, clustered=True, endpoints=(url(address, CLIENT_PORT),))


async def create(host: Host, old: Store, request: CreateRequest, report: Report) -> Store:
    """Move the records of ``old`` (this node's SQLite store) into a new cluster of one; returns the cluster's store.

    The caller must see that nothing else writes ``old`` meanwhile, and go over to the new store when this returns.
    When it raises, the node stands alone as before and ``old`` is as it was.
    """
    identity = check_create(host, request)
    await tidy_up(host)
    before = read_identity(host.paths)
    async with AsyncExitStack() as undo:
        replace_file(marker(host.paths), b"")
        undo.push_async_callback(_undo, host, old, before)
        report.progress(0.1, "issuing the node's certificate")
        await certify(host, old, identity)
        report.progress(0.2, "starting the quorum store")
        new = open_etcd(host.paths, identity.endpoints)
        undo.push_async_callback(new.close)
        await _start_first_member(host, identity, request.name, new)
        report.progress(0.5, "copying the records")
        await _copy(old, new, identity, request.name)
        write_identity(host.paths, identity)
        undo.pop_all()
    await _copy(old, new, identity, request.name)  # what was written while the first copy ran
    report.log(f"The cluster '{request.name}' has its first node, {identity.name} at {identity.address}")
    await old.close()
    retire_sqlite(host.paths)
    report.progress(1.0)
    return new


async def tidy_up(host: Host) -> None:
    """After a crash in the middle of a create: undo it if the node stands alone, finish it if it is clustered.

    To be called at each start of the daemon, before the store is opened.
    """
    if not marker(host.paths).exists():
        return
    identity = find_identity(host.paths)
    if identity is not None and identity.clustered:
        retire_sqlite(host.paths)
    elif identity is not None:
        await EtcdMember(host, identity).end(keep_data=False)
        remove_file(marker(host.paths))


async def _start_first_member(host: Host, identity: Identity, name: str, store: Store) -> None:
    member = EtcdMember(host, identity)
    peers = {member_name(identity): url(identity.address, PEER_PORT)}
    await member.begin(Membership(peers=peers, existing=False, token=f"{name}-{identity.id}"))

    async def serving() -> bool:
        return await store.revision() > 0

    await member.wait_until(serving)


async def _copy(old: Store, new: Store, identity: Identity, name: str) -> None:
    """All records, with those of the datacenter and of the node as they are to be."""
    layout = Layout(old)
    datacenter, node = await layout.datacenter.hold(SETTINGS), await layout.nodes.hold(identity.name)
    puts = (
        layout.datacenter.put(SETTINGS, dataclasses.replace(datacenter.record, name=name, clustered=True), datacenter),
        layout.nodes.put(identity.name, dataclasses.replace(node.record, address=identity.address, voter=True), node),
    )
    await copy_records(old, new, {put.key: put.value for put in puts})


async def _undo(host: Host, old: Store, before: Identity) -> None:
    await EtcdMember(host, before).end(keep_data=False)
    await certify(host, old, before)
    remove_file(marker(host.paths))


def retire_sqlite(paths: NodePaths) -> None:
    """Keep the old store under another name: nobody may take it for the truth."""
    path = sqlite_path(paths)
    if path.exists():
        for suffix in ("-wal", "-shm"):
            path.with_name(path.name + suffix).unlink(missing_ok=True)
        path.rename(path.with_name("store.before-cluster.sqlite"))
        sync_folder(path.parent)
    remove_file(marker(paths))
