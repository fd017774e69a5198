"""A node that stands alone has no HA: what it knew of HA guests while it was in a cluster is forgotten."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from racimo.ha.identity import LOOK_S

if TYPE_CHECKING:
    from racimo.ha.clock import Clock
    from racimo.ha.identity import Identity, IdentityFile
    from racimo.ha.local import LocalKeeper

log = structlog.get_logger()


async def until_clustered(file: IdentityFile, keeper: LocalKeeper, clock: Clock) -> Identity:
    """Wait until this node is part of a cluster, and forget stale marks until then: a guest of this node that has the
    number of one would be killed, for want of a lease.
    """
    while True:
        identity = file.read()
        if identity is not None and identity.clustered:
            return identity
        if identity is not None:
            forget(keeper)
        await clock.sleep(LOOK_S)


def forget(keeper: LocalKeeper) -> None:
    """Remove the lease, and the marks of guests that do not run. One that still does belongs to another node by now,
    as after a forced leave: it keeps its mark until the guard has killed it.
    """
    marked = keeper.marked()
    if not marked:
        return
    keeper.remove()
    stale = marked - keeper.running()
    for vmid in stale:
        keeper.unmark(vmid)
    if stale:
        log.info("this node stands alone: forgot the marks of guests under HA elsewhere", vmids=sorted(stale))
