"""``racimo cluster join``: the joining machine's side.

What the member granted is written to ``joining.json`` before anything is changed here: from then on the join is
finished, if need be at the next start (``finish_join``). A lost answer is asked for again, with the same text.
"""

from __future__ import annotations

import dataclasses
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter

from racimo.datacenter.atomic_file import PRIVATE, remove_file, replace_file
from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.create import retire_sqlite
from racimo.datacenter.host import check_address, check_ports_free
from racimo.datacenter.identity import Identity, new_id, read_identity, write_identity
from racimo.datacenter.join_message import JoinGrant, JoinRequest
from racimo.datacenter.join_text import JoinText, check_fresh, digest, read_text
from racimo.datacenter.open_store import open_etcd
from racimo.errors import AlreadyExists, Refused, Unreachable
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from racimo.datacenter.host import Host
    from racimo.datacenter.join_client import JoinClient
    from racimo.model.guest import Guest
    from racimo.model.node import NodeFacts
    from racimo.model.paths import NodePaths
    from racimo.store.base import Put, Store
    from racimo.task.operation import Report

    Renumber = Callable[[Guest, int], Awaitable[Guest]]
    """Rename the volumes of a stopped guest for another vmid; the guest's record as it is to be then."""

log = structlog.get_logger()

COMMIT_ATTEMPTS = 5


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JoinOrder:
    """What ``racimo cluster join`` is told, and the facts of this machine."""

    text: str
    address: str
    facts: NodeFacts
    renumber: bool = False


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Joining:
    """A join that was begun: ``joining.json``. ``token`` is the digest of its secret."""

    token: str
    address: str
    node_id: str
    grant: JoinGrant | None = None


_ADAPTER = TypeAdapter(Joining)


async def join(
    host: Host,
    old: Store,
    order: JoinOrder,
    connect: Callable[[JoinText], JoinClient],
    renumber: Renumber,
    report: Report,
) -> Store:
    """Join the cluster of the text with this node's guests; returns the cluster's store.

    The caller must see that nothing else writes ``old`` meanwhile, and go over to the new store when this returns; the
    node's ``VoterKeeper`` then starts its member if it is to vote. Raises what the member refused with, and the node
    stands alone as before; ``Unreachable`` with ``may_have_acted`` when that is not known: join again with the text.
    """
    text = read_text(order.text)
    identity = read_identity(host.paths)
    if identity.clustered:
        raise already_member(identity, text)
    address = check_address(host, order.address)
    check_ports_free(address)
    joining = find_joining(host.paths)
    if joining is None or joining.token != digest(text.secret):
        check_fresh(text, host.now())
        joining = Joining(token=digest(text.secret), address=address, node_id=new_id())
    request = await _request(host, old, order, identity, joining, text)
    client = connect(text)
    report.progress(0.1, "asking a member")
    checked = await client.check(request)
    if checked.datacenter != text.datacenter:
        raise Refused("The join text is for another cluster", why=f"the member that answered is of '{checked.name}'")
    for warning in checked.warnings:
        report.warn(warning)
    async with AsyncExitStack() as undo:
        if checked.renumbered:
            report.progress(0.3, "renumbering guests")
            await _renumber(old, checked.renumbered, renumber, report, undo)
            request = await _request(host, old, order, identity, joining, text)
        write_joining(host.paths, joining)
        undo.callback(remove_file, joining_file(host.paths))
        report.progress(0.5, "joining")
        try:
            grant = await commit_join(client, request, report)
        except Unreachable as error:
            if error.may_have_acted:
                undo.pop_all()
            raise
        write_joining(host.paths, dataclasses.replace(joining, grant=grant))
        undo.pop_all()
    report.progress(0.8, "going over to the cluster's store")
    await old.close()
    finish_join(host)
    report.log(f"{identity.name} is a node of '{grant.name}'" + (" and is to vote" if grant.voter else ""))
    report.progress(1.0)
    return open_etcd(host.paths, grant.endpoints)


def finish_join(host: Host) -> bool:
    """Carry out what a member granted, if that was not done yet: at each start, before the store is opened."""
    joining = find_joining(host.paths)
    if joining is None:
        return False
    if joining.grant is None:
        log.warning("A join was begun here and its outcome is not known", todo="Join again with the same text")
        return False
    identity = read_identity(host.paths)
    if not identity.clustered:
        CertificateFiles.of(host.paths).install(joining.grant.ca, joining.grant.certificate)
        write_identity(
            host.paths,
            Identity(
                name=identity.name,
                id=joining.node_id,
                address=joining.address,
                clustered=True,
                endpoints=joining.grant.endpoints,
            ),
        )
    retire_sqlite(host.paths)
    remove_file(joining_file(host.paths))
    return True


def joining_file(paths: NodePaths) -> Path:
    """Where a join that was begun is remembered."""
    return paths.etc / "joining.json"


def find_joining(paths: NodePaths) -> Joining | None:
    """The join that was begun here and is not finished."""
    path = joining_file(paths)
    return _ADAPTER.validate_json(path.read_bytes()) if path.exists() else None


def already_member(identity: Identity, text: JoinText) -> AlreadyExists:
    """The refusal for a node that is in a cluster."""
    return AlreadyExists(
        f"The node '{identity.name}' cannot join '{text.name}'",
        why="it is already a member of a cluster",
        todo="See 'racimo cluster status'; leave that one first with 'racimo cluster leave'",
    )


def write_joining(paths: NodePaths, joining: Joining) -> None:
    replace_file(joining_file(paths), _ADAPTER.dump_json(joining), PRIVATE)


async def _request(
    host: Host, old: Store, order: JoinOrder, identity: Identity, joining: Joining, text: JoinText
) -> JoinRequest:
    layout = Layout(old)
    node = await layout.nodes.get(identity.name)
    return JoinRequest(
        secret=text.secret,
        name=identity.name,
        node_id=joining.node_id,
        address=joining.address,
        facts=order.facts,
        clock=host.now(),
        guests=tuple(await layout.guests.records()),
        runtimes=tuple(await layout.runtimes.records()),
        storages=tuple(await layout.storages.records()),
        networks=node.networks,
        renumber=order.renumber,
        csr=CertificateFiles.of(host.paths).request(identity.name),
    )


async def commit_join(client: JoinClient, request: JoinRequest, report: Report) -> JoinGrant:
    """Ask until the answer comes: the same request has the same effect. A few times, so that it ends."""
    lost: Unreachable | None = None
    for _ in range(COMMIT_ATTEMPTS):
        try:
            return await client.commit(request)
        except Unreachable as error:
            report.log(f"Asking again: {error}")
            lost = lost if lost is not None and lost.may_have_acted else error
    assert lost is not None  # noqa: S101 - the loop ran
    raise lost


async def _renumber(
    old: Store, renumbered: dict[int, int], renumber: Renumber, report: Report, undo: AsyncExitStack
) -> None:
    """Give this node's guests new ids in its own store, one at a time; back again when the join fails."""
    for before, after in sorted(renumbered.items()):
        await _renumber_one(Layout(old), before, after, renumber)
        undo.push_async_callback(_renumber_one, Layout(old), after, before, renumber)
        report.log(f"Guest {before} is now guest {after}")


async def _renumber_one(layout: Layout, before: int, after: int, renumber: Renumber) -> None:
    held, runtime = await layout.guests.hold(before), await layout.runtimes.find(before)
    guest = dataclasses.replace(await renumber(held.record, after), vmid=after)
    compares, deletes = [held.compare, layout.guests.absent(after)], [held.key]
    puts: list[Put] = [layout.guests.put(after, guest, held)]
    if runtime is not None:
        compares.append(runtime.compare)
        deletes.append(runtime.key)
        puts.append(layout.runtimes.put(after, dataclasses.replace(runtime.record, vmid=after), runtime))
    if await layout.store.txn(compares, puts, deletes) is None:
        await renumber(guest, before)
        raise Refused(f"Guest {before} was changed while it was renumbered", todo="Join again")
