"""``racimo cluster join``: the joining machine's side.

What the member granted is written to ``joining.json`` before anything is changed here: from then on the join is
finished, if need be at the next start (``finish_join``). A lost answer is asked for again, with the same text.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import structlog

from racimo.datacenter.atomic_file import remove_file
from racimo.datacenter.candidate import Candidate
from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.create import retire_sqlite
from racimo.datacenter.identity import Identity, read_identity, write_identity
from racimo.datacenter.join_text import JoinText, read_text
from racimo.datacenter.joining import find_joining, joining_file
from racimo.datacenter.open_store import open_etcd

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.datacenter.candidate import JoinOrder, Renumber
    from racimo.datacenter.host import Host
    from racimo.datacenter.join_client import JoinClient
    from racimo.store.base import Store
    from racimo.task.operation import Report

log = structlog.get_logger()


async def join(
    host: Host,
    old: Store,
    order: JoinOrder,
    connect: Callable[[JoinText], JoinClient],
    rename: Renumber,
    report: Report,
) -> Store:
    """Join the cluster of the text with this node's guests; returns the cluster's store.

    The caller must see that nothing else writes ``old`` meanwhile, and go over to the new store when this returns; the
    node's ``VoterKeeper`` then starts its member if it is to vote. Raises what the member refused with, and the node
    stands alone as before; ``Unreachable`` with ``may_have_acted`` when that is not known: join again with the text.
    """
    text = read_text(order.text)
    candidate, client = Candidate.prepare(host, old, order, text), connect(text)
    report.progress(0.1, "asking a member")
    checked = await candidate.check(client, report)
    async with AsyncExitStack() as undo:
        if checked.renumbered:
            report.progress(0.3, "renumbering guests")
            await candidate.renumber(checked.renumbered, rename, report, undo)
        report.progress(0.5, "joining")
        grant = await candidate.commit(client, report, undo)
        undo.pop_all()
    report.progress(0.8, "going over to the cluster's store")
    await old.close()
    finish_join(host)
    report.log(f"{candidate.identity.name} is a node of '{grant.name}'" + (" and is to vote" if grant.voter else ""))
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
