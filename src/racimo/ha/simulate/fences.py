"""Fence devices of simulated hosts: each cuts one host's power, over a network of its own, and can fail as they do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from racimo.model.fence import DeviceAnswer, FenceDevice

if TYPE_CHECKING:
    from racimo.ha.simulate.host import Host

TIMEOUT_S = 5.0
BACK_S = (15.0, 90.0)
"""So long after a host was cut somebody comes and switches it on."""


def fence_device(node: str) -> FenceDevice:
    """The record of the device that cuts the power of ``node``."""
    return FenceDevice(name=f"{node}-bmc", node=node, agent="fence_simulated", timeout=TIMEOUT_S)


class SimulatedFences:
    """The devices, as ``host`` asks them."""

    def __init__(self, host: Host) -> None:
        self.host, self.world = host, host.world

    async def ask(self, device: FenceDevice, action: str) -> DeviceAnswer:
        """As its target's fault says: it hangs, lies, reports early, is slow, answers late or without a word, or
        has its power from its host."""
        target, chance = self.world.hosts[device.node], self.world.chance
        await asyncio.sleep(chance.uniform(0.05, 0.6))
        await self.host.awake()
        fault = target.fence_fault
        if fault == "hangs" or (fault == "dies-with-host" and not target.powered):
            await asyncio.sleep(device.timeout)
            return self._answer(device, action, said=f"no answer within {device.timeout:g} s")
        if action == "status":
            power = "on" if target.powered else "off"
            if fault == "says-nothing":
                return self._answer(device, action, ok=True, said="Success")
            if fault == "answers-late":
                self.world.spawn(self._switch_on(target, 0.1))
                await asyncio.sleep(chance.uniform(2.0, device.timeout - 0.5))
            return self._answer(device, action, ok=True, power=power, said=f"Status: {power.upper()}")
        if action == "on":
            self._restore(target)
            return self._answer(device, action, ok=True, said="Success: Powered ON")
        self.world.authority.cuts(self.host.name, device.node)
        if fault in ("lies", "says-nothing"):
            return self._answer(device, action, ok=True, said="Success: Powered OFF")
        if fault == "slow":
            await asyncio.sleep(chance.uniform(1.0, device.timeout - 1.0))
        if fault == "reports-early":
            self.world.spawn(self._cut_later(target))
        else:
            self._cut(target)
        return self._answer(device, action, ok=True, said="Success: Powered OFF")

    def _restore(self, target: Host) -> None:
        if not target.powered and target.name not in self.world.buried:
            target.power_on()

    async def _cut_later(self, target: Host) -> None:
        await asyncio.sleep(self.world.chance.uniform(0.2, 4.0))
        self._cut(target)

    def _cut(self, target: Host) -> None:
        """Its power is gone, until somebody comes."""
        if not target.powered:
            return
        target.power_off("its fence device cut it")
        self.world.spawn(self._switch_on(target))

    async def _switch_on(self, target: Host, after_s: float | None = None) -> None:
        await self.world.wait(self.world.chance.uniform(*BACK_S) if after_s is None else after_s)
        if target.name not in self.world.buried:
            target.power_on()

    @staticmethod
    def _answer(device: FenceDevice, action: str, *, ok: bool = False, power: str = "", said: str = "") -> DeviceAnswer:
        return DeviceAnswer(device=device.name, action=action, ok=ok, power=power, said=said)
