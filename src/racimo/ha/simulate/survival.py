"""Whether guests outlive the death of what manages them, and of that alone: the oracle of invariant 11.

While machines, network and disks of guests are well, no guest may die for want of a lease, no node be reset by its
watchdog and none be fenced: whoever of racimo-node, racimo-ha, the guard and the store is away. Three ends are by
design: racimo-ha has to be back within half a lease, it must not be away on any node while the store is, for all have
to promise, and the guard has to be back before the watchdog strikes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from racimo.ha.simulate.world import World

CONTROL_PLANE = frozenset(
    (
        "disk-full",
        "disk-stall",
        "disk-error",
        "leader-stall",
        "leader-change",
        "store-away",
        "guard-killed",
        "ha-restart",
        "daemon-away",
        "control-plane-killed",
        "next-version",
        "clock-jump",
        "duplication",
        "repeated-commands",
        "watchdog-silent",
        "guest-crash",
        "ask-to-move",
        "maintenance",
        "disarm-freeze",
        "disarm-ignore",
    )
)
"""What happens to no machine, no cable and no guest's disk."""
SETTLE_S = 10.0
"""So long after a lease's time nothing of an earlier trouble is left."""


class Survival:
    """Remembers what else was wrong lately."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._troubles = 0
        self._last = 0.0
        """When something else than the control plane was last in trouble, on the loop's clock."""
        self._away: dict[str, list[tuple[float, float]]] = {}
        """For each node, when racimo-ha came back and for how long it had been away."""
        self._stopped: dict[str, float] = {}
        self.window = world.profile.lease + SETTLE_S

    # what happens

    def begins(self, kind: str) -> None:
        """A fault strikes."""
        if kind not in CONTROL_PLANE:
            self._troubles += 1
            self.disturb()

    def ends(self, kind: str) -> None:
        """It is over."""
        if kind not in CONTROL_PLANE:
            self._troubles -= 1
            self.disturb()

    def disturb(self) -> None:
        """A machine or the network changed."""
        self._last = self.world.loop.time()

    def ha_stopped(self, node: str) -> None:
        """racimo-ha ended there."""
        self._stopped.setdefault(node, self.world.loop.time())

    def ha_started(self, node: str) -> None:
        """It began."""
        now = self.world.loop.time()
        if (since := self._stopped.pop(node, None)) is not None:
            self._away.setdefault(node, []).append((now, now - since))

    # what must not happen then

    def killed(self, node: str, vmid: int, why: str) -> None:
        """A guest died for want of a lease."""
        if self._is_alone(node):
            self._violate(f"vm:{vmid} was {why} on {node}")

    def reset(self, node: str, why: str) -> None:
        """A watchdog struck."""
        host = self.world.hosts[node]
        if host.running and host.watchman.ticks and self._is_alone(node):
            self._violate(f"{node} was reset ({why}) with guests")

    def fenced(self, node: str) -> None:
        """Somebody ended the node's incarnation."""
        if self._is_alone(node):
            self._violate(f"{node} was fenced")

    def _violate(self, text: str) -> None:
        self.world.oracle.violate(f"11 {text}, and nothing was wrong but the control plane")

    def _is_alone(self, node: str) -> bool:
        """Whether nothing but the control plane was in trouble lately, within what it promises."""
        world, now = self.world, self.world.loop.time()
        if self._troubles or now - self._last < self.window or not world.network.fair():
            return False
        if world.network.cut or world.network.off or any(not h.powered or h.paused for h in world.hosts.values()):
            return False
        away = [seconds for back, seconds in self._away.get(node, []) if now - back < self.window]
        if node in self._stopped:
            away.append(now - self._stopped[node])
        quorum = world.quorum
        outage = not quorum.leader or quorum.stalled or now - quorum.led_since < self.window
        missed = bool(self._stopped) or any(
            now - back < self.window for each in self._away.values() for back, _ in each
        )
        return sum(away) <= world.profile.lease / 2 and not (missed and outage)
