"""Deliberate breaks of proof A: what is believed of fence devices. See ``mutations``."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar

from racimo.ha import decide, manager
from racimo.ha.fencing.orders import fence_by_power
from racimo.ha.simulate.fences import SimulatedFences
from racimo.ha.simulate.parts import SimulatedHa

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.ha.states import Fence, Snapshot
    from racimo.model.fence import DeviceAnswer, FenceDevice


class _WordlessFences(SimulatedFences):
    async def ask(self, device: FenceDevice, action: str) -> DeviceAnswer:
        """A device that answers well and does not say "on" surely means "off"."""
        answer = await super().ask(device, action)
        return replace(answer, power="off") if action == "status" and answer.ok and answer.power != "on" else answer


class OffWithoutWords(SimulatedHa):
    """Believes that the power is off though the device's status does not say so in words."""

    fences_kind: ClassVar[type[SimulatedFences]] = _WordlessFences


def _of_any_heartbeat(snapshot: Snapshot, name: str) -> Fence | None:
    """As ``fence_by_power``, but that the confirmation is taken to be about the heartbeat that stands there now."""
    fencing, beat = snapshot.fencings.get(name), snapshot.heartbeats.get(name)
    sighting = snapshot.sightings.get(name)
    if fencing is None or beat is None or sighting is None:
        return None
    about = replace(fencing, revision=sighting.revision, incarnation=beat.incarnation)
    return fence_by_power(replace(snapshot, fencings={**snapshot.fencings, name: about}), name)


@contextmanager
def old_confirmations() -> Iterator[None]:
    """The node's power was off once: that it was switched on and has shown life since does not matter.

    The transaction compares the heartbeat that stands there now, so that it does not fail: both rules are broken.
    """
    decide.fence_by_power = manager.fence_by_power = _of_any_heartbeat  # type: ignore[attr-defined]
    try:
        yield
    finally:
        decide.fence_by_power = manager.fence_by_power = fence_by_power  # type: ignore[attr-defined]
