"""What each node can prove when it falls silent, and the fail-over time that follows. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.ha.timing import Profile
    from racimo.model.fence import FenceCheck, FenceDevice

DEVICES_TAKE_S = 3.0
"""What fence devices are given, in the promised fail-over time, to cut the power and to confirm it."""


@dataclass(frozen=True, slots=True)
class NodeProof:
    """One way to be sure of a silent node, with seconds from the fault to the start command, at most."""

    kind: str
    """``power`` (A), ``lease`` (B)."""
    seconds: float
    by: tuple[str, ...] = ()
    """The fence devices."""


@dataclass(frozen=True, slots=True)
class NodeProofs:
    """All that can be proven of a node, quickest first, and why there is not more."""

    node: str
    proofs: tuple[NodeProof, ...]
    missing: str = ""
    """Why its power cannot be proven to be off; empty if it can."""

    @property
    def seconds(self) -> float:
        """From the fault to the start command, if the quickest proof is to be had."""
        return self.proofs[0].seconds


def fenceable(devices: Mapping[str, FenceDevice], checks: Mapping[str, FenceCheck]) -> frozenset[str]:
    """The nodes whose power can be cut: those with a level of devices all of which are relied on."""
    unsound: dict[tuple[str, int], bool] = {}
    for device in devices.values():
        if device.enabled:
            level = (device.node, device.level)
            unsound[level] = unsound.get(level, False) or not relied_on(device, checks)
    return frozenset(node for (node, _), doubted in unsound.items() if not doubted)


def levels(
    node: str, devices: Mapping[str, FenceDevice], checks: Mapping[str, FenceCheck]
) -> tuple[tuple[FenceDevice, ...], ...]:
    """The devices of ``node`` that are to be used, by level; a level with one that is not relied on is left out.

    A device that is switched off is no part of its level: it was taken out of it on purpose.
    """
    found: dict[int, list[FenceDevice]] = {}
    for device in sorted(devices.values(), key=lambda device: device.name):
        if device.node == node and device.enabled:
            found.setdefault(device.level, []).append(device)
    sound = [found[level] for level in sorted(found) if all(relied_on(each, checks) for each in found[level])]
    return tuple(tuple(level) for level in sound)


def relied_on(device: FenceDevice, checks: Mapping[str, FenceCheck]) -> bool:
    """Whether the device did not fail its last check. One that was not checked yet is relied on: it has to confirm."""
    check = checks.get(device.name)
    return check is None or check.ok


def proofs_of(
    node: str, devices: Mapping[str, FenceDevice], checks: Mapping[str, FenceCheck], profile: Profile
) -> NodeProofs:
    """What can be proven of ``node`` with the times of ``profile``."""
    lease = NodeProof("lease", lease_failover_s(profile))
    usable = levels(node, devices, checks)
    if usable:
        names = tuple(device.name for device in usable[0])
        return NodeProofs(node, (NodeProof("power", power_failover_s(profile), names), lease))
    return NodeProofs(node, (lease,), _missing(node, devices, checks))


def power_failover_s(profile: Profile) -> float:
    """Seconds from the fault to the start command, by fence devices that take at most ``DEVICES_TAKE_S``."""
    return profile.suspect + DEVICES_TAKE_S


def lease_failover_s(profile: Profile) -> float:
    """Seconds from the fault to the start command, when the lease has to run out."""
    return profile.expiry + max(profile.beat, 0.75)


def _missing(node: str, devices: Mapping[str, FenceDevice], checks: Mapping[str, FenceCheck]) -> str:
    own = [device for device in devices.values() if device.node == node]
    if not own:
        return f"{node} has no fence device"
    failed = [f"{d.name}: {checks[d.name].why}" for d in own if d.enabled and not relied_on(d, checks)]
    return "; ".join(failed) or f"the fence devices of {node} are switched off"
