"""Whether whoever acts could have asked a majority: invariant 6, from the truth of members and network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.fence import FenceStage

if TYPE_CHECKING:
    from racimo.ha.simulate.world import World

DRIFT = 1.03
"""How much longer than by the loop's clock a lease may last by a node's own."""

ON_THE_WAY_S = 1.0
"""So long may an order take from the store to a device; who takes it over meanwhile cannot call it back."""


class Authority:
    """Remembers when each node last had something committed, and counts members at each commit."""

    def __init__(self, world: World) -> None:
        self.world = world

    def committed(self, revision: int) -> None:
        """A change became part of the store: do so many members work together as make a majority?"""
        quorum = self.world.quorum
        together, members = len(quorum.group_of(quorum.leader)) if quorum.leader else 0, len(quorum.voters)
        if together * 2 <= members:
            self.world.oracle.violate(f"6 revision {revision} was committed by {together} of {members} members")

    def starts(self, node: str, vmid: int) -> None:
        """A guest's process begins there."""
        if why := self._cut_off(node):
            self.world.oracle.violate(f"6 vm:{vmid} was started on {node}, {why}")

    def cuts(self, node: str, target: str) -> None:
        """The node tells a device to cut another's power: by an order that stands in the store?"""
        fencing, stood = self.world.witness.fencings.get(target), self.world.witness.ordered.get((node, target), -1e9)
        stands = fencing is not None and fencing.by == node and fencing.stage is FenceStage.RUNNING
        if not stands and self.world.loop.time() - stood > ON_THE_WAY_S:
            self.world.oracle.violate(f"6 {node} has the power of {target} cut without an order that stands")
        elif why := self._cut_off(node):
            self.world.oracle.violate(f"6 {node} has the power of {target} cut, {why}")

    def _cut_off(self, node: str) -> str:
        """Since when the node cannot have heard of a majority, if that is longer than a lease; empty if it could.

        Without the store a lease may go on by the promises of all the others; who is alone needs none.
        """
        world, quorum, now = self.world, self.world.quorum, self.world.loop.time()
        lease = world.profile.lease * DRIFT
        silent = now - world.beats.get(node, -1e9)
        outage = not quorum.leader or quorum.stalled or now - quorum.led_since < lease
        if silent <= lease or outage or len(world.hosts) == 1:
            return ""
        return f"whose last heartbeat was committed {silent:.1f} s before"
