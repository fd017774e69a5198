"""A machine that asks to join, with its guests: what it brings along, and what it is told to change first."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from racimo.datacenter.certificates import CertificateFiles
from racimo.datacenter.host import check_address, check_ports_free
from racimo.datacenter.identity import Identity, new_id, read_identity
from racimo.datacenter.join_message import JoinRequest
from racimo.datacenter.join_text import JoinText, check_fresh, digest
from racimo.datacenter.joining import Joining, find_joining, obtain_grant, unsure, write_joining
from racimo.errors import AlreadyExists, Refused
from racimo.store.layout import Layout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from contextlib import AsyncExitStack

    from racimo.datacenter.host import Host
    from racimo.datacenter.join_client import JoinClient
    from racimo.datacenter.join_message import JoinCheck, JoinGrant
    from racimo.model.guest import Guest
    from racimo.model.node import NodeFacts
    from racimo.store.base import Put, Store
    from racimo.task.operation import Report

    Renumber = Callable[[Guest, int], Awaitable[Guest]]
    """Rename the volumes of a stopped guest for another vmid; the guest's record as it is to be then."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class JoinOrder:
    """What ``racimo cluster join`` is told, and the facts of this machine."""

    text: str
    address: str
    facts: NodeFacts
    renumber: bool = False


@dataclasses.dataclass(frozen=True, slots=True)
class Candidate:
    """``store`` is this machine's own, which nothing else may write meanwhile; ``text`` is where to ask."""

    host: Host
    store: Store
    order: JoinOrder
    text: JoinText
    identity: Identity
    joining: Joining

    @classmethod
    def prepare(cls, host: Host, store: Store, order: JoinOrder, text: JoinText) -> Candidate:
        """Refuse what can be refused here: a member already, no own address, ports in use, a text that is too old.

        A join with the same text that was broken off is taken up again, under the id that it had.
        """
        identity = read_identity(host.paths)
        if identity.clustered:
            raise already_member(identity, text)
        address = check_address(host, order.address)
        check_ports_free(address)
        joining = find_joining(host.paths)
        if joining is None or joining.token != digest(text.secret):
            check_fresh(text, host.now())
            joining = Joining(token=digest(text.secret), address=address, node_id=new_id())
        return cls(host, store, order, text, identity, joining)

    async def request(self) -> JoinRequest:
        """What is asked for, with all that the machine brings along now."""
        layout = Layout(self.store)
        node = await layout.nodes.get(self.identity.name)
        return JoinRequest(
            secret=self.text.secret,
            name=self.identity.name,
            node_id=self.joining.node_id,
            address=self.joining.address,
            facts=self.order.facts,
            clock=self.host.now(),
            guests=tuple(await layout.guests.records()),
            runtimes=tuple(await layout.runtimes.records()),
            storages=tuple(await layout.storages.records()),
            networks=node.networks,
            renumber=self.order.renumber,
            csr=CertificateFiles.of(self.host.paths).request(self.identity.name),
        )

    async def check(self, client: JoinClient, report: Report) -> JoinCheck:
        """Whether it would be let in; raises what the member refuses with. Changes nothing."""
        checked = await client.check(await self.request())
        if checked.datacenter != self.text.datacenter:
            raise Refused(
                "The join text is for another cluster",
                why=f"the member that answered is of '{checked.name}'",
                todo="Make a new one on a node of the cluster that you mean: racimo cluster join-info",
            )
        for warning in checked.warnings:
            report.warn(warning)
        return checked

    async def commit(self, client: JoinClient, report: Report, undo: AsyncExitStack) -> JoinGrant:
        """Be let in; the grant is on this disk on return. What was changed before stays so if it is not known."""
        try:
            grant = await obtain_grant(self.host.paths, self.joining, client, await self.request(), report)
        except BaseException as error:
            if unsure(error):
                undo.pop_all()
            raise
        write_joining(self.host.paths, dataclasses.replace(self.joining, grant=grant))
        return grant

    async def renumber(self, wanted: dict[int, int], rename: Renumber, report: Report, undo: AsyncExitStack) -> None:
        """Give this node's guests new ids in its own store, one at a time; back again when the join fails."""
        layout = Layout(self.store)
        for before, after in sorted(wanted.items()):
            await _renumber_one(layout, before, after, rename)
            undo.push_async_callback(_renumber_one, layout, after, before, rename)
            report.log(f"Guest {before} is now guest {after}")


def already_member(identity: Identity, text: JoinText) -> AlreadyExists:
    """The refusal for a node that is in a cluster."""
    return AlreadyExists(
        f"The node '{identity.name}' cannot join '{text.name}'",
        why="it is already a member of a cluster",
        todo="See 'racimo cluster status'; leave that one first with 'racimo cluster leave'",
    )


async def _renumber_one(layout: Layout, before: int, after: int, rename: Renumber) -> None:
    held, runtime = await layout.guests.hold(before), await layout.runtimes.find(before)
    guest = dataclasses.replace(await rename(held.record, after), vmid=after)
    compares, deletes = [held.compare, layout.guests.absent(after)], [held.key]
    puts: list[Put] = [layout.guests.put(after, guest, held)]
    if runtime is not None:
        compares.append(runtime.compare)
        deletes.append(runtime.key)
        puts.append(layout.runtimes.put(after, dataclasses.replace(runtime.record, vmid=after), runtime))
    if await layout.store.txn(compares, puts, deletes) is None:
        await rename(guest, before)
        raise Refused(f"Guest {before} was changed while it was renumbered", todo="Join again")
