"""Who asks, and what the handler works with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

from racimo.access.control import AccessControl
from racimo.access.names import Asker, parse_asker
from racimo.errors import Unauthorised
from racimo.task.runner import ROOT

if TYPE_CHECKING:
    from racimo.api.services import Services
    from racimo.api.upload import Upload
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
    """Who asks. ``user`` is empty for somebody who is not logged in; ``node`` names the peer, if it is one.

    ``user`` is ``name@realm``, or ``name@realm!token``. ``refusal`` says why a login that was sent is no good.
    """

    origin: Origin
    user: str = ""
    node: str = ""
    address: str = ""
    refusal: str = ""

    @property
    def asker(self) -> Asker:
        """User and token apart."""
        return parse_asker(self.user)

    @property
    def is_node(self) -> bool:
        """Whether it is root of this node, or a peer in its own name: not a peer that forwards for a user."""
        return self.origin in (Origin.LOCAL, Origin.PEER) and self.user == ROOT


@dataclass(frozen=True, slots=True)
class Context:
    """Handed to every handler."""

    who: Who
    services: Services
    upload: Upload | None = None

    def may(self, path: str, *any_of: str) -> bool:
        """Whether who asks has any of these privileges on ``path``, such as ``/vms/100``. Root has all."""
        if self.who.user == ROOT:
            return True
        return bool(self.who.user) and self.services.need(AccessControl).allows(self.who.asker, path, *any_of)

    def demand(self, path: str, *any_of: str) -> None:
        """Raises ``Unauthorised`` unless who asks ``may``."""
        if not self.may(path, *any_of):
            raise Unauthorised(f"Permission check failed ({path}, {'|'.join(any_of)})")

    def submit(self, operation: Operation[ServiceT], services: ServiceT) -> Upid:
        """Begin ``operation`` as a task of who asks; the UPID is the result to return."""
        return self.services.tasks.submit(operation, services, self.who.user or ROOT)
