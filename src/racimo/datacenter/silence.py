"""For how long each node was not heard of: by its heartbeats and by its member of the store, on our own clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.ha import NodeHealth

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from racimo.datacenter.quorum import Quorum
    from racimo.datacenter.voters import Member
    from racimo.model.node import Node
    from racimo.store.layout import Layout

FENCED = frozenset({NodeHealth.FENCE, NodeHealth.GONE})


class Silence:
    """Measures at each call; ``clock`` in seconds, monotonic."""

    def __init__(self, layout: Layout, quorum: Quorum, clock: Callable[[], float]) -> None:
        self.layout, self.quorum, self.clock = layout, quorum, clock
        self._beats: dict[str, tuple[int, float]] = {}
        self._heard: dict[str, float] = {}

    async def measure(self, nodes: Sequence[Node], members: Mapping[str, Member]) -> dict[str, float]:
        """Seconds of silence by node name. A node that gave no sign yet and was declared lost counts from then."""
        health = await self.quorum.health()
        beats = await self.layout.heartbeats.all()
        statuses = await self.layout.node_statuses.all()
        now = self.clock()
        for node in nodes:
            name = node.name
            beat, member, status = beats.get(name), members.get(name), statuses.get(name)
            if beat is not None and self._beats.get(name, (0, 0.0))[0] != beat.revision:
                self._beats[name] = (beat.revision, now)
                self._heard[name] = now
            answers = member is not None and member.id in health and health[member.id].reachable
            started = member is not None and bool(member.name)
            fenced = status is not None and status.record.health in FENCED
            if answers:
                self._heard[name] = now
            elif beat is None and not started and not fenced:
                self._heard[name] = now  # nothing speaks for it and nothing against it: it has just joined
            self._heard.setdefault(name, now)
        for gone in self._heard.keys() - {node.name for node in nodes}:
            del self._heard[gone]
            self._beats.pop(gone, None)
        return {name: now - heard for name, heard in self._heard.items()}
