"""``racimo init``: make this machine a node that stands alone, the smallest datacenter."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.datacenter.authority import Subject, new_authority
from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.host import check_address
from racimo.datacenter.identity import Identity, check_node_name, find_identity, identity_path, new_id, write_identity
from racimo.datacenter.open_store import open_sqlite
from racimo.errors import AlreadyExists
from racimo.model.datacenter import Datacenter
from racimo.model.node import Node, NodeFacts
from racimo.model.notification import DEFAULT_MATCHER, MAIL_TO_ROOT
from racimo.model.storage import Storage
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from racimo.datacenter.host import Host
    from racimo.model.paths import NodePaths
    from racimo.store.base import Store

SETTINGS, CA, LOCAL = "settings", "ca", "local"


@dataclass(frozen=True, slots=True, kw_only=True)
class InitRequest:
    """What ``racimo init`` is told: the node's name and its address on the network where its peers will be."""

    name: str
    address: str
    facts: NodeFacts


async def initialise(host: Host, request: InitRequest) -> Identity:
    """Make the node's store, authority, certificate and identity. Goes on where an earlier try broke off.

    Raises ``AlreadyExists`` when the node has an identity, ``BadParameter`` or ``Refused`` for a bad name or address.
    """
    check_node_name(request.name)
    address = check_address(host, request.address, "address")
    present = find_identity(host.paths)
    if present is not None:
        state = "belongs to a cluster" if present.clustered else "stands alone"
        raise AlreadyExists(
            f"This machine is already the node '{present.name}', which {state}",
            why=f"{identity_path(host.paths)} exists",
            todo="Go on with 'racimo cluster create' or 'racimo cluster join', or see 'racimo cluster status'",
        )
    store = open_sqlite(host.paths)
    try:
        identity = await write_first_records(host, store, request, address)
        await certify(host, store, identity)
    finally:
        await store.close()
    write_identity(host.paths, identity)
    return identity


async def write_first_records(host: Host, store: Store, request: InitRequest, address: str) -> Identity:
    """Datacenter with its first notifications, authority, node and storage, each only if it is not there yet."""
    layout = Layout(store)
    nodes = await layout.nodes.records()
    node = nodes[0] if nodes else None
    if node is not None and (node.name, node.address) != (request.name, address):
        await layout.nodes.remove(node.name)  # left by a try under another name
        node = None
    if node is None:
        node = Node(name=request.name, id=new_id(), address=address, joined=host.now(), facts=request.facts)
        await layout.nodes.create(node.name, node)
    if await layout.datacenter.find(SETTINGS) is None:
        settings = Datacenter(id=new_id(), name=request.name, created=host.now())
        puts = [
            layout.datacenter.put(SETTINGS, settings),
            layout.notification_targets.put(MAIL_TO_ROOT.name, MAIL_TO_ROOT),
            layout.matchers.put(DEFAULT_MATCHER.name, DEFAULT_MATCHER),
        ]
        await store.txn([layout.datacenter.absent(SETTINGS)], puts)
    datacenter = await layout.datacenter.get(SETTINGS)
    if await layout.authority.find(CA) is None:
        await layout.authority.create(CA, new_authority(datacenter.id, datacenter.name, host.now()))
    if await layout.storages.find(LOCAL) is None:
        await layout.storages.create(LOCAL, local_storage(host.paths))
    (host.paths.state / "images").mkdir(parents=True, exist_ok=True)
    return Identity(name=node.name, id=node.id, address=address)


async def certify(host: Host, store: Store, identity: Identity) -> bool:
    """See that the node has a certificate that fits, from the authority in ``store``; true when a new one was issued.

    Run at each start of the daemon and daily: it renews the certificate too.
    """
    layout = Layout(store)
    authority, datacenter = await layout.authority.get(CA), await layout.datacenter.get(SETTINGS)
    node = await layout.nodes.find(identity.name)
    networks = tuple(node.record.networks.values()) if node else ()
    subject = Subject(identity.name, identity.id, datacenter.id)
    addresses = (identity.address, *networks)
    return CertificateFiles.of(host.paths).ensure(authority, subject, addresses, host.now())


def local_storage(paths: NodePaths) -> Storage:
    """The storage that every node has: a folder of its own."""
    return Storage(id=LOCAL, type="dir", path=str(paths.state / "images"), content=("images", "iso", "import"))
