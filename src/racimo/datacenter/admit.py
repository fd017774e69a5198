"""The member's side of a join: may this machine come in, and letting it in with one transaction."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from racimo.datacenter.authority import Subject, sign
from racimo.datacenter.compare import compare_facts
from racimo.datacenter.host import CLIENT_PORT, url
from racimo.datacenter.identity import check_node_name
from racimo.datacenter.join_message import JoinCheck, JoinGrant, JoinRequest
from racimo.datacenter.join_text import check_token
from racimo.datacenter.standalone import CA, SETTINGS
from racimo.datacenter.voters import Member, View, choose_voters
from racimo.errors import AlreadyExists, Conflict, Refused
from racimo.model.guest import MAX_VMID, MIN_VMID, Guest
from racimo.model.node import Node
from racimo.store.base import MAX_OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from racimo.model.storage import Storage
    from racimo.store.base import Compare, Put
    from racimo.store.collection import Held
    from racimo.store.layout import Layout

ATTEMPTS = 5
SHOWN = 20
"""How many guests are named in a refusal."""
MAX_BYTES = 2 << 20
"""Of the guests' records in a join: what the store takes at once is more, but goes over the wire in base64."""


async def handle_check(layout: Layout, asked_of: str, request: JoinRequest, now: float) -> JoinCheck:
    """Whether the machine may join; changes nothing. ``asked_of`` is the name of the node that answers.

    Raises ``Unauthorised`` for its token, ``AlreadyExists`` for a name, address or vmid that is taken, ``Refused``
    for a storage defined otherwise.
    """
    await check_token(layout, request.secret, request.node_id, now, witness=request.witness)
    nodes = await layout.nodes.all()
    _check_node(request, nodes)
    own = nodes.get(request.name)
    is_in = own is not None and own.record.id == request.node_id  # by an earlier try whose answer was lost
    renumbered = {} if is_in else _check_guests(request, await layout.guests.all())
    _check_storages(request, await layout.storages.all())
    _check_size(layout, request, len(nodes))
    datacenter = await layout.datacenter.get(SETTINGS)
    warnings: list[str] = []
    if not request.witness and asked_of in nodes:
        offset = request.clock - now if request.clock else None
        mine = nodes[asked_of].record.facts
        warnings = [str(difference) for difference in compare_facts(asked_of, mine, request.facts, offset)]
    return JoinCheck(datacenter=datacenter.id, name=datacenter.name, warnings=tuple(warnings), renumbered=renumbered)


async def handle_commit(layout: Layout, asked_of: str, request: JoinRequest, now: float) -> JoinGrant:
    """Let the machine in: its node, its guests (renumbered by itself before) and storages, in one transaction.

    Asked again with the same token and node id, it answers the same and changes nothing. Raises as ``handle_check``.
    """
    for _ in range(ATTEMPTS):
        token = await check_token(layout, request.secret, request.node_id, now, witness=request.witness)
        nodes = await layout.nodes.all()
        present = nodes.get(request.name)
        if not (present and present.record.id == request.node_id):
            await handle_check(layout, asked_of, dataclasses.replace(request, renumber=False), now)
            used = dataclasses.replace(token.record, used_by=request.node_id)
            compares, puts = await _admission(layout, request, nodes, now)
            compares.append(token.compare)
            puts.append(layout.join_tokens.put(used.digest, used, token))
            if await layout.store.txn(compares, puts) is None:
                continue
        return await _grant(layout, request, now)
    raise Conflict(
        "The join could not be committed", why="others changed the same records meanwhile", todo="Join again"
    )


async def _grant(layout: Layout, request: JoinRequest, now: float) -> JoinGrant:
    datacenter, authority = await layout.datacenter.get(SETTINGS), await layout.authority.get(CA)
    subject = Subject(request.name, request.node_id, datacenter.id)
    nodes = await layout.nodes.records()
    own = next(node for node in nodes if node.name == request.name)
    voters = [node.address for node in nodes if node.voter and node.name != own.name]
    return JoinGrant(
        datacenter=datacenter.id,
        name=datacenter.name,
        ca=authority.certificate,
        certificate=sign(authority, request.csr, subject, (own.address, *own.networks.values()), now),
        endpoints=tuple(url(address, CLIENT_PORT) for address in sorted(voters)),
        voter=own.voter,
    )


async def _admission(
    layout: Layout, request: JoinRequest, nodes: Mapping[str, Held[Node]], now: float
) -> tuple[list[Compare], list[Put]]:
    """The conditions and writes that make the machine a node."""
    node = Node(
        name=request.name,
        id=request.node_id,
        address=request.address,
        witness=request.witness,
        joined=now,
        networks=request.networks,
        facts=request.facts,
    )
    compares, puts = [layout.nodes.absent(node.name)], [layout.nodes.put(node.name, node)]
    compares += [held.compare for held in nodes.values()]
    voters = _voters_with(node, [held.record for held in nodes.values()])
    puts[0] = layout.nodes.put(node.name, dataclasses.replace(node, voter=node.name in voters))
    for guest in request.guests:
        compares.append(layout.guests.absent(guest.vmid))
        puts.append(layout.guests.put(guest.vmid, dataclasses.replace(guest, node=node.name)))
    puts += [layout.runtimes.put(r.vmid, dataclasses.replace(r, node=node.name)) for r in request.runtimes]
    present = await layout.storages.all()
    for storage in request.storages:
        held_storage = present.get(storage.id)
        if held_storage is None:
            compares.append(layout.storages.absent(storage.id))
            puts.append(layout.storages.put(storage.id, dataclasses.replace(storage, nodes=(node.name,))))
        elif held_storage.record.nodes and node.name not in held_storage.record.nodes:
            wider = dataclasses.replace(held_storage.record, nodes=(*held_storage.record.nodes, node.name))
            compares.append(held_storage.compare)
            puts.append(layout.storages.put(storage.id, wider, held_storage))
    return compares, puts


def _voters_with(node: Node, nodes: list[Node]) -> frozenset[str]:
    members = {n.name: Member(id=i, name=n.name, peer_url="") for i, n in enumerate(nodes) if n.voter}
    return choose_voters(View(nodes=[*nodes, node], members=members, silent={}))


def _check_node(request: JoinRequest, nodes: Mapping[str, Held[Node]]) -> None:
    check_node_name(request.name)
    plain = sum(not held.record.witness for held in nodes.values())
    if request.witness and plain < 2:
        raise Refused(
            "A witness is of no use yet",
            why=f"the cluster has {plain} node, which needs no second vote",
            todo="Let the second node join first",
        )
    for name, held in nodes.items():
        if held.record.id == request.node_id:
            continue
        if name.lower() == request.name.lower():
            raise AlreadyExists(
                f"The cluster has a node '{name}' already",
                why=f"its address is {held.record.address}",
                todo=f"Give this machine another name; or, if that node is dead, first: racimo cluster remove {name}",
            )
        if request.address in {held.record.address, *held.record.networks.values()}:
            raise AlreadyExists(
                f"The address {request.address} is in use",
                why=f"it is that of the node '{name}'",
                todo=f"Give another with --link; or, if that node is dead, first: racimo cluster remove {name}",
            )


def _check_guests(request: JoinRequest, guests: Mapping[str, Held[Guest]]) -> dict[int, int]:
    """New vmids for those that are taken; ``AlreadyExists`` naming both guests of each, unless it may renumber."""
    taken = {int(vmid): held.record for vmid, held in guests.items()}
    clashes = [(guest, taken[guest.vmid]) for guest in request.guests if guest.vmid in taken]
    if not clashes:
        return {}
    if not request.renumber:
        pairs = [
            f"{mine.vmid} is '{mine.name}' on {request.name} and '{theirs.name}' on {theirs.node}"
            for mine, theirs in clashes
        ]
        raise AlreadyExists(
            "Guest ids are taken", why=_some(pairs), todo="Join with --renumber to give this node's guests free ids"
        )
    running = {r.vmid for r in request.runtimes if r.state != "stopped"}
    blocked = [f"{mine.vmid} ('{mine.name}')" for mine, _ in clashes if mine.vmid in running]
    if blocked:
        raise Conflict(
            "Guests cannot be renumbered while they run", why=", ".join(blocked), todo="Shut them down and join again"
        )
    used = taken.keys() | {guest.vmid for guest in request.guests}
    fresh = (vmid for vmid in range(MIN_VMID, MAX_VMID + 1) if vmid not in used)
    return {mine.vmid: next(fresh) for mine, _ in clashes}


def _check_size(layout: Layout, request: JoinRequest, nodes: int) -> None:
    """A join is one transaction, and the store bounds what one may hold."""
    guests, storages = len(request.guests), len(request.storages)
    needed = max(2 + nodes + guests + storages, 2 + guests + len(request.runtimes) + storages)
    size = sum(len(layout.guests.encode(guest)) for guest in request.guests)
    if needed > MAX_OPERATIONS or size > MAX_BYTES:
        raise Refused(
            "This node has too many records to bring along",
            why=f"it has {guests} guests of {size >> 10} KiB and {storages} storages; a join is one transaction of at "
            f"most {MAX_OPERATIONS} records and {MAX_BYTES >> 10} KiB",
            todo="Join first with fewer guests: export some, and import them into the cluster afterwards",
        )


def _check_storages(request: JoinRequest, present: Mapping[str, Held[Storage]]) -> None:
    for storage in request.storages:
        held = present.get(storage.id)
        if held is None:
            continue
        unlike = [
            field
            for field in ("type", "path", "shared", "options")
            if getattr(held.record, field) != getattr(storage, field)
        ]
        if unlike:
            raise Refused(
                f"The storage '{storage.id}' is defined otherwise in the cluster",
                why=_unlike(unlike, storage, held.record),
                todo="Remove or rename it on this node, or there, and join again",
            )


def _some(names: list[str]) -> str:
    more = f"; and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return "; ".join(names[:SHOWN]) + more


def _unlike(fields: Iterable[str], mine: Storage, theirs: Storage) -> str:
    return "; ".join(f"{f} is {getattr(mine, f)!r} here and {getattr(theirs, f)!r} there" for f in fields)
