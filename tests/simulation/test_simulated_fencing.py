"""Proof A in simulated time: a node that is cut off from the others and reaches its disks, and its fence device."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import pytest

from racimo.ha.fencing.fencer import Fencer
from racimo.ha.simulate.fences import SimulatedFences
from racimo.ha.simulate.history import Result, play
from racimo.ha.simulate.parts import SimulatedHa
from racimo.ha.simulate.setup import GuestSetup, NodeSetup, Setup, Step
from racimo.ha.simulate.verbs import Verb

if TYPE_CHECKING:
    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.world import World
    from racimo.model.fence import DeviceAnswer, FenceDevice

CUT = 60.0
ISOLATED = Setup(
    name="one node isolated, its guest's disk in reach",
    nodes={name: NodeSetup(on=True) for name in ("n1", "n2", "n3")},
    guests={"vm:100": GuestSetup("vm:100", "n1", "started")},
    steps=(Step(CUT, (Verb("network", "network n1 off", node="n1", choice="off"),)),),
    end=100.0,
    fences=True,
)


def broken(world: World, fault: str) -> None:
    world.hosts["n1"].fence_fault = fault


def moved_after(result: Result) -> float:
    """Seconds from the cut until the guest was given to another node."""
    events = [event for event in result.events if event.at > CUT and event.what.startswith("belongs to")]
    assert events, [event.line() for event in result.events]
    return events[0].at - CUT


@pytest.mark.parametrize("seed", range(4))
def test_a_cut_off_nodes_guest_moves_within_six_seconds_by_its_device(seed: int) -> None:
    result = play(replace(ISOLATED, seed=seed))
    assert result.violations == () and moved_after(result) < 6.0
    assert any("n1's power is off: n1-bmc cut it" in event.why for event in result.events)


@pytest.mark.parametrize("fault", ["hangs", "lies"])
def test_a_device_that_confirms_nothing_leaves_it_to_the_lease(fault: str) -> None:
    result = play(ISOLATED, prepare=partial(broken, fault=fault))
    assert result.violations == () and 10.0 < moved_after(result) < 12.0


@pytest.mark.parametrize("fault", ["reports-early", "slow"])
@pytest.mark.parametrize("seed", range(4))
def test_a_device_that_takes_its_time_is_believed_when_it_says_off_itself(fault: str, seed: int) -> None:
    result = play(replace(ISOLATED, seed=seed), prepare=partial(broken, fault=fault))
    assert result.violations == () and moved_after(result) < 12.0


class Credulous(SimulatedFences):
    """Takes the answer to ``off`` for the power being off."""

    told: frozenset[str] = frozenset()

    async def ask(self, device: FenceDevice, action: str) -> DeviceAnswer:
        answer = await super().ask(device, action)
        if action == "off" and answer.ok:
            self.told |= {device.name}
        return replace(answer, power="off") if action == "status" and device.name in self.told else answer


class CredulousHa(SimulatedHa):
    """A deliberate break: what a device says to ``off`` is believed."""

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        for part in self.fencing:
            if isinstance(part, Fencer):
                part.agents = Credulous(host)


@pytest.mark.parametrize("fault", ["lies", "reports-early"])
def test_the_oracle_sees_what_believing_a_device_at_its_word_leads_to(fault: str) -> None:
    results = [play(replace(ISOLATED, seed=seed), CredulousHa, partial(broken, fault=fault)) for seed in range(3)]
    assert any("n1 was fenced while it runs vm:100" in told for result in results for told in result.violations)
