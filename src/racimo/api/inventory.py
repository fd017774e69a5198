"""What the datacenter holds, as this node knows it: read from the watched copy, so it is told without quorum too."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from racimo.errors import NotFound
from racimo.model.guest import RunState
from racimo.model.ha import ArmPhase
from racimo.store.mirror import MirroredCollection

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.model.datacenter import Datacenter
    from racimo.model.guest import Guest, Runtime
    from racimo.model.ha import ManagerTerm, NodeStatus, Resource, Service
    from racimo.model.node import Node
    from racimo.model.storage import Storage
    from racimo.store.layout import Layout
    from racimo.store.mirror import Mirror


class Presence(Protocol):
    """Who shows signs of life."""

    def online(self, node: str) -> bool:
        """Whether the node has shown one lately."""


class Inventory:
    """The records by name or number. Cheap: no call leaves the process, and each record is decoded once.

    ``processes()`` gives the vmids that have a process on this node. Before the records were first read, what lists
    or looks up any raises ``StoreUnavailable``: an empty list would be a lie.
    """

    def __init__(
        self,
        layout: Layout,
        mirror: Mirror,
        presence: Presence,
        node_name: str,
        processes: Callable[[], frozenset[int]],
    ) -> None:
        self.mirror, self._presence, self.node_name, self._processes = mirror, presence, node_name, processes
        self._datacenter = MirroredCollection(mirror, layout.datacenter)
        self._nodes = MirroredCollection(mirror, layout.nodes)
        self._guests = MirroredCollection(mirror, layout.guests)
        self._runtimes = MirroredCollection(mirror, layout.runtimes)
        self._storages = MirroredCollection(mirror, layout.storages)
        self._resources = MirroredCollection(mirror, layout.resources)
        self._services = MirroredCollection(mirror, layout.services)
        self._statuses = MirroredCollection(mirror, layout.node_statuses)
        self._manager = MirroredCollection(mirror, layout.manager)
        self._arming = MirroredCollection(mirror, layout.arming)

    @property
    def known(self) -> bool:
        """Whether the records were read since the daemon started."""
        return self.mirror.confirmed_at is not None

    def staleness(self) -> float:
        """Seconds for which the copy has been out of touch with the store; 0 while it is in touch."""
        since = self.mirror.stale_since
        return 0.0 if since is None else time.monotonic() - since

    def online(self, node: str) -> bool:
        """Whether the node shows signs of life; this one always does."""
        return node == self.node_name or self._presence.online(node)

    def datacenter(self) -> Datacenter:
        """The settings of the whole."""
        self._demand_known()
        return self._datacenter.get("settings")

    def ha_ignores(self) -> bool:
        """Whether HA is disarmed, and its guests are handled as if they were not under HA."""
        held = self._arming.all().get("state")
        return held is not None and (held.record.phase, held.record.mode) == (ArmPhase.DISARMED, "ignore")

    def nodes(self) -> dict[str, Node]:
        """The nodes by name, witnesses included."""
        self._demand_known()
        return {name: held.record for name, held in self._nodes.all().items()}

    def guests(self) -> dict[int, Guest]:
        """The guests by vmid, in order."""
        self._demand_known()
        found = {guest.vmid: guest for guest in self._guests.records()}
        return dict(sorted(found.items()))

    def guest(self, vmid: int) -> Guest:
        """One guest. Raises ``NotFound``."""
        self._demand_known()
        held = self._guests.find(vmid)
        if held is None:
            raise NotFound(
                f"Guest {vmid} does not exist",
                why="no node of the datacenter has it",
                todo="See the guests: racimo guest list",
            )
        return held.record

    def state(self, guest: Guest) -> str:
        """``running``, ``stopped`` or ``paused``; ``unknown`` while its node shows no sign of life.

        Of this node's own guests the process is believed before the record, which lags behind without quorum.
        """
        runtime = self._runtimes.find(guest.vmid)
        if runtime is None or runtime.record.state is RunState.STOPPED:
            return "stopped"
        if not self.online(guest.node):
            return "unknown"
        if guest.node == self.node_name and guest.vmid not in self._processes():
            return "stopped"
        return "paused" if runtime.record.state is RunState.PAUSED else "running"

    def runtimes(self) -> dict[int, Runtime]:
        """What the owners last wrote about their guests, by vmid."""
        return {runtime.vmid: runtime for runtime in self._runtimes.records()}

    def storages(self) -> dict[str, Storage]:
        """The storage definitions by id."""
        self._demand_known()
        return {name: held.record for name, held in self._storages.all().items()}

    def resources(self) -> dict[str, Resource]:
        """The HA resources by sid."""
        self._demand_known()
        return {name: held.record for name, held in self._resources.all().items()}

    def services(self) -> dict[str, Service]:
        """What the HA manager does about them, by sid."""
        self._demand_known()
        return {name: held.record for name, held in self._services.all().items()}

    def node_statuses(self) -> dict[str, NodeStatus]:
        """What the HA manager holds of the nodes, by name."""
        return {name: held.record for name, held in self._statuses.all().items()}

    def manager(self) -> ManagerTerm | None:
        """Who is HA manager, if anybody."""
        held = self._manager.find("term")
        return held.record if held else None

    def _demand_known(self) -> None:
        self.mirror.demand_read("The datacenter's records are")
