"""Who asks, and what the handler works with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from racimo.task.runner import ROOT

if TYPE_CHECKING:
    from racimo.api.services import Services
    from racimo.task.operation import Operation
    from racimo.task.upid import Upid

ServiceT = TypeVar("ServiceT")


class Origin(StrEnum):
    """Where a request came from."""

    LOCAL = "local"
    """Root of this node, over the unix socket."""
    PEER = "peer"
    """A node of the datacenter, known by its client certificate."""
    NETWORK = "network"
    """Anybody, over TLS."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who asks. ``user`` is empty for somebody who is not logged in; ``node`` names the peer, if it is one."""

    origin: Origin
    user: str = ""
    node: str = ""
    address: str = ""

    @property
    def is_node(self) -> bool:
        """Whether it is root of this node, or a peer in its own name: not a peer that forwards for a user."""
        return self.origin in (Origin.LOCAL, Origin.PEER) and self.user == ROOT


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every handler."""

    who: Who
    services: Services

    def submit(self, operation: Operation[ServiceT], services: ServiceT) -> Upid:
        """Begin ``operation`` as a task of who asks; the UPID is the result to return."""
        return self.services.tasks.submit(operation, services, self.who.user or ROOT)
