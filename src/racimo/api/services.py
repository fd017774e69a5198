"""What a node's handlers work with: filled by the daemon, room by room."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from racimo.errors import Conflict, OperationFailed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.api.peers import Peers
    from racimo.model.paths import NodePaths
    from racimo.store.layout import Layout
    from racimo.task.runner import TaskRunner

T = TypeVar("T")


async def nothing_to_catch_up() -> None:
    """For a node that reads from no copy."""


@dataclass(slots=True, kw_only=True)
class Services:
    """The services of one node.

    The rooms' own services (guest lifecycle, volumes, membership, …) are kept by their type: the daemon calls
    ``provide``, a handler ``need``. So this file names no room, and what is not wired says so.
    """

    node_name: str
    paths: NodePaths
    layout: Layout
    tasks: TaskRunner
    peers: Peers
    rooms: dict[type, object] = field(default_factory=dict)
    caught_up: Callable[[], Awaitable[None]] = nothing_to_catch_up
    """Awaited after a change, so that who reads next from this node sees it."""
    initialised: bool = True
    """Whether this machine is a node already."""

    def provide(self, service: object, kind: type | None = None) -> None:
        """Keep ``service`` under its own type, or under ``kind``, replacing the one before."""
        self.rooms[kind or type(service)] = service

    def need(self, kind: type[T]) -> T:
        """The service of that type. Raises ``OperationFailed`` when the daemon did not start it."""
        service = self.rooms.get(kind)
        if not isinstance(service, kind):
            if not self.initialised:
                raise Conflict(
                    "This machine is not a Racimo node yet", why="it was never initialised", todo="Run: racimo init"
                )
            raise OperationFailed(
                f"This node has no {kind.__name__}", why="its daemon did not start that part",
                todo=f"See the daemon's journal: journalctl -u racimo-node on {self.node_name}",
            )  # fmt: skip
        return service
