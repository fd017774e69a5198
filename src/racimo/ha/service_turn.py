"""What one turn of ``decide`` knows and has chosen so far, as it goes from service to service. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha.choosing import Choosing
from racimo.ha.states import ServiceChange, with_history

if TYPE_CHECKING:
    from racimo.ha.scene import Scene
    from racimo.model.ha import Service


class ServiceTurn:
    """The part of a turn that is about services. ``choosing`` counts what was given to a node as taken there."""

    def __init__(self, scene: Scene) -> None:
        self.scene, self.snapshot = scene, scene.snapshot
        self.choosing = Choosing(scene)
        self.retry_in: float | None = None
        """In how many seconds something is tried again."""

    def change(self, service: Service, what: str, *, clear_target: bool = False) -> ServiceChange:
        """The decision to write ``service``, with its history."""
        service = replace(service, seen=service.seen or self.snapshot.revision)
        service = with_history(service, self.snapshot.wall, self.snapshot.term, what)
        return ServiceChange(service.sid, service, service.why, clear_target)

    def wake_in(self, seconds: float) -> None:
        """Have the next turn within ``seconds``."""
        self.retry_in = seconds if self.retry_in is None else min(self.retry_in, seconds)
