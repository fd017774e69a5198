"""``racimo cluster witness``: a small box that votes and does nothing else. With it, two nodes may lose either one.

It runs etcd, and once a day a timer that renews its certificate and looks after its member. No guests, no daemons.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from racimo.datacenter.atomic_file import remove_file
from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.etcd_member import EtcdMember
from racimo.datacenter.host import check_address, check_ports_free
from racimo.datacenter.identity import (
    Identity,
    check_node_name,
    find_identity,
    identity_path,
    new_id,
    read_identity,
    write_identity,
)
from racimo.datacenter.join_message import JoinRequest
from racimo.datacenter.join_text import JoinText, check_fresh, digest, read_text
from racimo.datacenter.joining import Joining, find_joining, joining_file, obtain_grant
from racimo.datacenter.open_store import open_etcd
from racimo.datacenter.quorum import EtcdQuorum
from racimo.datacenter.services import WITNESS_TIMER
from racimo.datacenter.standalone import certify
from racimo.datacenter.voter_keeper import SETTLED, VoterKeeper
from racimo.errors import AlreadyExists, NotFound, OperationFailed, RacimoError, Refused
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.datacenter.host import Host
    from racimo.datacenter.join_client import JoinClient
    from racimo.datacenter.join_message import JoinGrant
    from racimo.task.operation import Report

VOTE_S = 120.0
POLL_S = 0.3


async def become_witness(
    host: Host, pasted: str, name: str, address: str, connect: Callable[[JoinText], JoinClient], report: Report
) -> Identity:
    """Make this machine the witness of the text's cluster; returns when it votes. Can be run again after a failure.

    Raises ``AlreadyExists`` on a machine that is a node, and what the member refused with.
    """
    text = read_text(pasted)
    check_node_name(name)
    present = find_identity(host.paths)
    if present is not None and not _is_resumed(host, text):
        raise AlreadyExists(
            f"This machine is already '{present.name}'",
            why=f"{identity_path(host.paths)} exists",
            todo="Use another machine; or give up an earlier witness with: racimo cluster witness --stop",
        )
    address = check_address(host, address)
    joining = find_joining(host.paths)
    if joining is None or joining.token != digest(text.secret):
        check_fresh(text, host.now())
        check_ports_free(address)
        joining = Joining(token=digest(text.secret), address=address, node_id=new_id())
    grant = await _granted(host, text, joining, name, connect, report)
    identity = Identity(
        name=name, id=joining.node_id, address=joining.address, clustered=True, endpoints=grant.endpoints
    )
    CertificateFiles.of(host.paths).install(grant.ca, grant.certificate)
    write_identity(host.paths, identity)
    report.progress(0.5, "catching up")
    await tend(host, VOTE_S, report)
    remove_file(joining_file(host.paths))
    await host.services.start(WITNESS_TIMER)
    report.log(f"{name} votes in '{grant.name}'")
    report.progress(1.0)
    return identity


async def tend(host: Host, seconds: float, report: Report) -> None:
    """What the timer does: renew the certificate when due, and bring this machine's member to what it is to be.

    Raises ``OperationFailed`` when that takes longer than ``seconds``, ``NotFound`` when the witness was removed.
    """
    identity = read_identity(host.paths)
    store, quorum = open_etcd(host.paths, identity.endpoints), EtcdQuorum(host.paths)
    keeper = VoterKeeper(host, store, quorum, is_manager=lambda: False, on_endpoints=store.set_endpoints)
    said = ""
    try:
        async with asyncio.timeout(seconds):
            while said != SETTLED:
                try:
                    held = await Layout(store).nodes.find(identity.name)
                    if held is None or held.record.id != identity.id:
                        raise NotFound(
                            f"'{identity.name}' is not a witness any more", todo="Run: racimo cluster witness --stop"
                        )
                    await certify(host, store, identity)
                    sentence = await keeper.turn()
                except NotFound:
                    raise
                except RacimoError as error:
                    sentence = f"trying again: {error}"
                if sentence != said:
                    report.log(sentence)
                    said = sentence
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise OperationFailed(
            "The witness does not vote yet",
            why=f"waited {seconds:.0f} s; last: {said}",
            todo="See that its ports 2379 and 2380 are open to the nodes, and run the command again",
        ) from None
    finally:
        await quorum.close()
        await store.close()


async def stop_witnessing(host: Host) -> None:
    """Take all of it off this machine. Remove it from the cluster first: ``racimo cluster remove NAME`` on a node."""
    identity = read_identity(host.paths)
    if not identity.clustered:
        raise Refused(
            f"'{identity.name}' is not a witness",
            why="it belongs to no cluster",
            todo="Nothing is to be done; to be one: racimo cluster witness TEXT",
        )
    await host.services.stop(WITNESS_TIMER)
    await EtcdMember(host, identity).end(keep_data=False)
    CertificateFiles.of(host.paths).remove()
    remove_file(joining_file(host.paths))
    remove_file(identity_path(host.paths))


def _is_resumed(host: Host, text: JoinText) -> bool:
    joining = find_joining(host.paths)
    return joining is not None and joining.token == digest(text.secret)


async def _granted(
    host: Host,
    text: JoinText,
    joining: Joining,
    name: str,
    connect: Callable[[JoinText], JoinClient],
    report: Report,
) -> JoinGrant:
    request = JoinRequest(
        secret=text.secret,
        name=name,
        node_id=joining.node_id,
        address=joining.address,
        witness=True,
        clock=host.now(),
        csr=CertificateFiles.of(host.paths).request(name),
    )
    client = connect(text)
    report.progress(0.1, "asking a member")
    await client.check(request)
    return await obtain_grant(host.paths, joining, client, request, report)
