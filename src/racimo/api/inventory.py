"""What the datacenter holds, as this node knows it: read from the watched copy, so it is told without quorum too."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from racimo.errors import NotFound
from racimo.model.record import Record

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.model.datacenter import Datacenter
    from racimo.model.guest import Guest, Runtime
    from racimo.model.ha import ManagerTerm, NodeStatus, Resource, Service
    from racimo.model.node import Node
    from racimo.model.storage import Storage
    from racimo.store.collection import Collection
    from racimo.store.layout import Layout

R = TypeVar("R", bound=Record)


class Copy(Protocol):
    """The watched copy of the store."""

    def records(self, collection: Collection[R]) -> Mapping[str, R]:
        """Every record of a collection by name, as it was last seen."""


class Presence(Protocol):
    """Who shows signs of life."""

    def online(self, node: str) -> bool:
        """Whether the node has shown one lately."""


class Inventory:
    """The records by name or number. Cheap: no call leaves the process."""

    def __init__(self, layout: Layout, copy: Copy, presence: Presence, node_name: str) -> None:
        self._layout, self._copy, self._presence, self.node_name = layout, copy, presence, node_name

    def online(self, node: str) -> bool:
        """Whether the node shows signs of life; this one always does."""
        return node == self.node_name or self._presence.online(node)

    def datacenter(self) -> Datacenter:
        """The settings of the whole."""
        found = self._copy.records(self._layout.datacenter).get("settings")
        if found is None:
            raise NotFound("The datacenter's settings are not known", why="the store has not been read yet")
        return found

    def nodes(self) -> Mapping[str, Node]:
        """The nodes, witnesses included."""
        return self._copy.records(self._layout.nodes)

    def guests(self) -> dict[int, Guest]:
        """The guests by vmid, in order."""
        found = self._copy.records(self._layout.guests).values()
        return {guest.vmid: guest for guest in sorted(found, key=lambda guest: guest.vmid)}

    def guest(self, vmid: int) -> Guest:
        """One guest. Raises ``NotFound``."""
        found = self._copy.records(self._layout.guests).get(str(vmid))
        if found is None:
            raise NotFound(f"Guest {vmid} does not exist", todo="See the guests: racimo guest list")
        return found

    def runtimes(self) -> dict[int, Runtime]:
        """What the owners last wrote about their guests."""
        return {runtime.vmid: runtime for runtime in self._copy.records(self._layout.runtimes).values()}

    def storages(self) -> Mapping[str, Storage]:
        """The storage definitions."""
        return self._copy.records(self._layout.storages)

    def resources(self) -> Mapping[str, Resource]:
        """The HA resources by sid."""
        return self._copy.records(self._layout.resources)

    def services(self) -> Mapping[str, Service]:
        """What the HA manager does about them."""
        return self._copy.records(self._layout.services)

    def node_statuses(self) -> Mapping[str, NodeStatus]:
        """What the HA manager holds of the nodes."""
        return self._copy.records(self._layout.node_statuses)

    def manager(self) -> ManagerTerm | None:
        """Who is HA manager."""
        return self._copy.records(self._layout.manager).get("term")
