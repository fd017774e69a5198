"""What the store says of a guest, and the transitions of its ``Runtime``: each one transaction that compares.

The rules are 1 to 4 of docs/architecture.md.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import AlreadyExists, Conflict, NotFound
from racimo.model.guest import Guest, RunState, Runtime, guest_sid
from racimo.store.collection import Held
from racimo.store.destination import taking_guests

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.model.guest import Lock
    from racimo.store.base import Compare, Put
    from racimo.store.layout import Layout

ATTEMPTS = 8
"""How often a guest is given to a node whose own record is written meanwhile, such as when it becomes a voter."""


@dataclass(frozen=True, slots=True)
class GuestView:
    """A guest's records at one revision of the store, to compare with.

    ``ha``: it is an HA resource, so it runs only under a lease. ``lock``: who works on it.
    """

    held: Held[Guest]
    runtime: Held[Runtime] | None
    ha: bool
    lock: Lock | None = None

    @property
    def guest(self) -> Guest:
        """The guest's record."""
        return self.held.record

    @property
    def state(self) -> RunState:
        """What its owner last wrote; a guest that never ran is stopped."""
        return self.runtime.record.state if self.runtime else RunState.STOPPED


class GuestRecords:
    """The records of guests, as the node ``node`` reads and writes them; ``node_id`` is its own id, if it knows it."""

    def __init__(self, layout: Layout, node: str, clock: Callable[[], float] = time.time, *, node_id: str = "") -> None:
        self.layout, self.node, self._clock, self._node_id = layout, node, clock, node_id

    async def is_member(self) -> bool:
        """Whether the datacenter's node of this name is this very machine: not one that was removed and replaced."""
        if not self._node_id:
            return True
        held = await self.layout.nodes.find(self.node)
        return held is not None and held.record.id == self._node_id

    async def find(self, vmid: int) -> GuestView | None:
        """The guest's records, or None when there is no such guest.

        All from one revision: an owner before a move beside a ``Runtime`` after it would look like a broken promise.
        """
        layout = self.layout
        guest, runtime, resource, lock = await layout.store.snapshot(
            [
                layout.guests.key(vmid),
                layout.runtimes.key(vmid),
                layout.resources.key(guest_sid(vmid)),
                layout.locks.key(f"guests/{vmid}"),
            ]
        )
        held, locked = layout.guests.held(guest), layout.locks.held(lock)
        if held is None:
            return None
        return GuestView(held, layout.runtimes.held(runtime), resource is not None, locked.record if locked else None)

    async def view(self, vmid: int) -> GuestView:
        """The guest's records. Raises ``NotFound``."""
        view = await self.find(vmid)
        if view is None:
            raise NotFound(
                f"Guest {vmid} does not exist", why="no guest has that number", todo="See the list: racimo guest list"
            )
        return view

    async def owned(self, vmid: int, epoch: int | None = None) -> GuestView:
        """The records of a guest of this node; with ``epoch``, of that epoch. Raises ``NotFound``, ``Conflict``."""
        view = await self.view(vmid)
        if not await self.is_member():
            raise Conflict(
                f"This machine is not the node {self.node} of the datacenter any more",
                why="that node was removed; another may have its name by now",
                todo="Run here: racimo cluster leave --force; then join again",
            )
        if view.guest.node != self.node:
            raise Conflict(
                f"Guest {vmid} does not belong to node {self.node}",
                why=f"it belongs to {view.guest.node}",
                todo=f"Ask {view.guest.node}",
            )
        if epoch is not None and epoch != view.guest.epoch:
            raise Conflict(
                f"The command for guest {vmid} is out of date",
                why=f"it is for epoch {epoch}, the guest is at epoch {view.guest.epoch}",
            )
        return view

    async def lock(self, vmid: int) -> Lock | None:
        """Who holds the guest's lock now."""
        held = await self.layout.locks.find(f"guests/{vmid}")
        return held.record if held else None

    async def enter(self, view: GuestView, state: RunState, reason: str = "") -> GuestView:
        """Write what became of the guest, if nobody wrote its ``Runtime`` since ``view``; for ``STARTING``, if nobody
        wrote ``Guest`` either. Returns the new view. Raises ``Conflict`` when somebody did.
        """
        vmid = view.guest.vmid
        runtime = Runtime(
            vmid=vmid,
            node=self.node,
            epoch=view.guest.epoch,
            state=state,
            reason=reason,
            since=self._clock(),
        )
        runtimes = self.layout.runtimes
        compares = [view.runtime.compare if view.runtime else runtimes.absent(vmid)]
        if state is RunState.STARTING or view.runtime is None:
            compares.append(view.held.compare)
        revision = await self.layout.store.txn(compares, [runtimes.put(vmid, runtime, view.runtime)])
        if revision is None:
            raise Conflict(
                f"Guest {vmid} cannot become {state}",
                why="its record was changed meanwhile: it was moved, taken over or reconfigured",
                todo="Look at its state, then try again",
            )
        unknown = view.runtime.unknown if view.runtime else {}
        return replace(view, runtime=Held(runtimes.key(vmid), runtime, revision, unknown))

    async def create(self, guest: Guest) -> None:
        """Write a new guest of this node. Raises ``AlreadyExists`` that names the one that has the number, ``Refused``
        when the node is leaving.
        """
        guests, runtimes = self.layout.guests, self.layout.runtimes
        compares = [guests.absent(guest.vmid), runtimes.absent(guest.vmid)]
        if not await self._give(guest.node, compares, [guests.put(guest.vmid, guest)], self._node_id):
            await self.refuse_taken(guest.vmid)
            raise Conflict(
                f"Guest {guest.vmid} cannot be created",
                why="another with that number is being removed",
                todo="Try again in a moment, or take another number",
            )

    async def _give(self, node: str, compares: list[Compare], puts: list[Put], node_id: str = "") -> bool:
        """Commit ``puts``, which give a guest to ``node``, if that takes guests and ``compares`` hold; else False."""
        before: Compare | None = None
        for _ in range(ATTEMPTS):
            takes = await taking_guests(self.layout, node, node_id)
            if takes == before:
                return False  # it was not the node's record that had changed
            if await self.layout.store.txn([*compares, takes], puts) is not None:
                return True
            before = takes
        return False

    async def refuse_taken(self, vmid: int) -> None:
        """Raises ``AlreadyExists`` when the number is in use."""
        held = await self.layout.guests.find(vmid)
        if held is not None:
            other = held.record
            raise AlreadyExists(
                f"Guest {vmid} already exists",
                why=f"the number belongs to '{other.name}' on node {other.node}",
                todo="Choose another number",
            )

    async def configure(self, view: GuestView, config: dict[str, str]) -> GuestView:
        """Replace the configuration, if nobody wrote the guest since ``view``. Raises ``Conflict``."""
        return await self.rewrite(view, replace(view.guest, config=config))

    async def configure_both(self, *changes: tuple[GuestView, dict[str, str]]) -> None:
        """Replace the configurations of several guests, all or none. Raises ``Conflict``."""
        guests = self.layout.guests
        puts = [guests.put(view.guest.vmid, replace(view.guest, config=config), view.held) for view, config in changes]
        if await self.layout.store.txn([view.held.compare for view, _ in changes], puts) is None:
            names = " and ".join(str(view.guest.vmid) for view, _ in changes)
            raise Conflict(
                f"The configurations of guests {names} were not changed",
                why="somebody else changed one of them meanwhile",
                todo="Try again",
            )

    async def rewrite(self, view: GuestView, guest: Guest) -> GuestView:
        """Replace the guest's record, but not its owner, if nobody wrote it since ``view``. Raises ``Conflict``."""
        guests = self.layout.guests
        revision = await self.layout.store.txn([view.held.compare], [guests.put(guest.vmid, guest, view.held)])
        if revision is None:
            raise Conflict(
                f"The configuration of guest {guest.vmid} was not changed",
                why="somebody else changed the guest meanwhile",
                todo="Try again",
            )
        return replace(view, held=Held(view.held.key, guest, revision, view.held.unknown))

    async def move(self, view: GuestView, target: str, state: RunState, reason: str) -> bool:
        """The commit point of every move: owner, epoch and ``Runtime`` in one transaction that compares both, and that
        ``target`` takes guests still.

        Returns False when somebody wrote one of them. Raises ``Refused`` when the target takes no guests,
        ``StoreUnavailable`` (nothing written), ``StoreUnknown``.
        """
        vmid, layout, epoch = view.guest.vmid, self.layout, view.guest.epoch + 1
        guest = replace(view.guest, node=target, epoch=epoch)
        runtime = Runtime(vmid=vmid, node=target, epoch=epoch, state=state, reason=reason, since=self._clock())
        compares = [view.held.compare, view.runtime.compare if view.runtime else layout.runtimes.absent(vmid)]
        puts = [layout.guests.put(vmid, guest, view.held), layout.runtimes.put(vmid, runtime, view.runtime)]
        return await self._give(target, compares, puts)

    async def leave_ha(self, view: GuestView) -> None:
        """Take a guest of ours out of HA; what the manager and the agents noted goes with it."""
        layout, sid = self.layout, view.guest.sid
        deletes = [collection.key(sid) for collection in (layout.resources, layout.services, layout.outcomes)]
        if await layout.store.txn([view.held.compare], deletes=deletes) is None:
            raise Conflict(f"{sid} was not taken out of HA", why="it was moved meanwhile", todo="Try again")

    async def remove(self, view: GuestView) -> None:
        """Delete all records of a stopped guest, if nobody wrote them since ``view``. Raises ``Conflict``."""
        vmid, layout = view.guest.vmid, self.layout
        compares = [view.held.compare, view.runtime.compare if view.runtime else layout.runtimes.absent(vmid)]
        keys = [layout.guests.key(vmid), layout.runtimes.key(vmid)]
        if await layout.store.txn(compares, deletes=keys) is None:
            raise Conflict(f"Guest {vmid} was not removed", why="somebody changed it meanwhile", todo="Try again")
