"""The marks of this node's HA guests, which the guard reads, and the node's lease."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.model.lease import boottime_ns, read_lease

if TYPE_CHECKING:
    from racimo.model.paths import NodePaths


class Marks:
    """One empty file per guest that the guard must kill when the lease runs out."""

    def __init__(self, paths: NodePaths) -> None:
        self._paths = paths

    def put(self, vmid: int) -> None:
        """Mark the guest before its process starts. HA agents mark too, and alone take marks away."""
        self._paths.ha_marks.mkdir(parents=True, exist_ok=True)
        (self._paths.ha_marks / str(vmid)).touch()

    def lease_in_force(self) -> str:
        """The incarnation by whose lease this node may run HA guests at this moment; empty when it may not."""
        lease = read_lease(self._paths.lease)
        return lease.incarnation if lease is not None and lease.holds(boottime_ns()) else ""
