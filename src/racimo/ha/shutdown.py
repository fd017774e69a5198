"""A node that was told to shut down: announces it, waits until its HA guests are gone, and says when it may end.

Who shuts the node down writes ``reboot`` or ``poweroff`` into ``NodePaths.shutdown`` and asks ``/status`` on the HA
socket; see docs/architecture/ha.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import structlog

from racimo.ha.scene import SHUTDOWN
from racimo.model.guest import RunState
from racimo.model.ha import ArmPhase, Requested, ServiceState

if TYPE_CHECKING:
    from collections.abc import Callable

    from racimo.ha.clock import Clock
    from racimo.ha.heartbeat import Holder
    from racimo.ha.view import View

log = structlog.get_logger()

LOOK_S = 0.25
ACTIVE = "active"
STATE = "state"
NAMED = 3
"""So many guests are named with what HA does about them; the others are counted."""


class Shutdown:
    """``wish`` says what this node was told: ``reboot``, ``poweroff``, or nothing."""

    def __init__(self, node: str, view: View, holder: Holder, clock: Clock, wish: Callable[[], str]) -> None:
        self.node, self.view, self.holder, self.clock, self.wish = node, view, holder, clock, wish
        self._began: float | None = None

    async def run(self) -> None:
        """Look at the wish for ever, and have the heartbeat announce it."""
        while True:
            self.look()
            await self.clock.sleep(LOOK_S)

    def look(self) -> None:
        """Take over what is wished now."""
        wish = self.wish()
        mode = wish if wish in SHUTDOWN else ACTIVE
        if mode != self.holder.mode:
            log.info("this node announces what becomes of it", mode=mode)
            self.holder.mode, self.holder.gave_up = mode, False
            self._began = None if mode == ACTIVE else self.clock.monotonic()
        if self._began is None or self.policy() != "migrate" or self.holder.gave_up:
            return
        if self.clock.monotonic() - self._began > self.wait_s():
            left = [self._with_reason(sid) for sid in self._left()]
            log.warning("not all guests have migrated away in time", waited_s=self.wait_s(), left=left)
            self.holder.gave_up = True

    def policy(self) -> str:
        """The datacenter's shutdown policy."""
        settings = self.view.datacenter.get("settings")
        return settings.record.ha_shutdown_policy if settings else "conditional"

    def wait_s(self) -> float:
        """How long guests may take to migrate away."""
        settings = self.view.datacenter.get("settings")
        return settings.record.ha_migrate_wait if settings else 0.0

    def guests(self) -> int:
        """How many processes of HA guests are here."""
        return self.holder.keeper.guests()

    def _left(self) -> list[str]:
        """The guests that the manager sees to and that have not ended here yet."""
        return sorted(
            sid
            for sid, held in self.view.services.items()
            if held.record.state is not ServiceState.ERROR
            and (runtime := self.view.runtimes.get(sid.removeprefix("vm:"))) is not None
            and runtime.record.node == self.node
            and runtime.record.state is not RunState.STOPPED
        )

    def _with_reason(self, sid: str) -> str:
        service = self.view.services[sid].record
        return f"{sid} ({service.state}: {service.why})"

    def _left_alone(self) -> int:
        """How many run here that the manager does nothing about: those it is to ignore, and those in error."""
        alone = {sid for sid, held in self.view.resources.items() if held.record.requested is Requested.IGNORED}
        alone |= {sid for sid, held in self.view.services.items() if held.record.state is ServiceState.ERROR}
        return sum(
            held.record.node == self.node and held.record.state is not RunState.STOPPED and f"vm:{name}" in alone
            for name, held in self.view.runtimes.items()
        )

    @property
    def ready(self) -> bool:
        """Whether the node may end now: it said so, and none of the guests that HA sees to is here."""
        return not self.waits_for()

    def waits_for(self) -> str:
        """What stands against ending now, as a sentence; empty if nothing does."""
        if self.holder.mode == ACTIVE:
            return "this node was not told to shut down"
        own = self.view.nodes.get(self.node)
        if own is not None and own.record.witness:
            return ""
        arming = self.view.arming.get(STATE)
        if arming is not None and arming.record.phase is ArmPhase.DISARMED:
            return ""
        beat = self.view.heartbeats.get(self.node)
        if beat is None or beat.record.mode != self.holder.mode:
            return "the store has not taken the announcement yet"
        count = self.guests() - self._left_alone()
        if count <= 0:
            return ""
        gave_up = f"; {self.wait_s():g} s for migrating are over" if self.holder.gave_up else ""
        left = self._left()
        named = ", ".join(self._with_reason(sid) for sid in left[:NAMED])
        more = f" and {len(left) - NAMED} more" if len(left) > NAMED else ""
        told = f": {named}{more}" if named else ""
        return f"{count} of its HA guests are still here (policy {self.policy()}){gave_up}{told}"

    def status(self) -> dict[str, Any]:
        """For the one who shuts the node down, and for people."""
        waits = self.waits_for()
        return {
            "mode": self.holder.mode,
            "policy": self.policy(),
            "ready": not waits,
            "why": waits,
            "guests": self.guests() if self.holder.mode != ACTIVE else 0,
        }
