"""One fencing: level by level, all devices of a level are told to cut the power, then asked whether it is off.

What a device says to ``off`` is not believed. Only its own ``status`` after all devices of its level were told counts,
and only if it says "off" in so many words; one that hangs, errs or says anything else confirms nothing.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from racimo.ha.clock import Clock
    from racimo.ha.fencing.agents import FenceAgents
    from racimo.model.fence import DeviceAnswer, FenceDevice

ASK_AGAIN_S = 0.25
"""Between two questions to a device that does not say that the power is off, within its time-out."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether the power was confirmed to be off, by whom or why not, and all that was said."""

    confirmed: bool
    why: str
    answers: tuple[DeviceAnswer, ...] = ()


class Course:
    """Cuts the power of one node. ``due`` says whether that is still wanted; it is asked before each level."""

    def __init__(self, agents: FenceAgents, clock: Clock, due: Callable[[], bool] = lambda: True) -> None:
        self._agents, self._clock, self._due = agents, clock, due

    async def cut(self, levels: Sequence[Sequence[FenceDevice]]) -> Verdict:
        """Try the levels in order until one confirms. Takes at most twice each level's longest time-out."""
        answers: list[DeviceAnswer] = []
        faults: list[str] = []
        for level in levels:
            if not self._due():
                faults.append("the node shows life, or this node is no longer to do it")
                break
            verdict = await self._level(level)
            answers.extend(verdict.answers)
            if verdict.confirmed:
                return Verdict(True, verdict.why, tuple(answers))
            faults.append(verdict.why)
        return Verdict(False, "; ".join(faults) or "there is no fence device that is relied on", tuple(answers))

    async def restore(self, devices: Sequence[FenceDevice]) -> Verdict:
        """Switch the node on by all of ``devices``, and see whether each says that it is. Takes at most twice the
        longest time-out."""
        answers = await self._each(devices, "on")
        said = await asyncio.gather(*(self._await(device, "on") for device in devices))
        doubted = [
            f"{after.device} says to 'on': {before.said}; and then: {after.said}"
            for before, after in zip(answers, said, strict=True)
            if after.power != "on"
        ]
        names = " and ".join(device.name for device in devices)
        verb = "says" if len(devices) == 1 else "say"
        why = "; ".join(doubted) or f"{names} {verb} that it is on"
        return Verdict(not doubted, why, (*answers, *said))

    async def _level(self, level: Sequence[FenceDevice]) -> Verdict:
        told = await self._each(level, "off")
        refused = [answer for answer in told if not answer.ok]
        if refused:
            return Verdict(False, "; ".join(f"{each.device} did not cut it: {each.said}" for each in refused), told)
        said = await asyncio.gather(*(self._await(device, "off") for device in level))
        answers = (*told, *said)
        doubted = [answer for answer in said if answer.power != "off"]
        if doubted:
            return Verdict(False, "; ".join(_doubt(each) for each in doubted), answers)
        names = " and ".join(device.name for device in level)
        return Verdict(True, f"{names} cut it and then said that it is off", answers)

    async def _each(self, level: Sequence[FenceDevice], action: str) -> tuple[DeviceAnswer, ...]:
        return tuple(await asyncio.gather(*(self._agents.ask(device, action) for device in level)))

    async def _await(self, device: FenceDevice, power: str) -> DeviceAnswer:
        """Ask until it says ``power``, or its time is over; the last answer."""
        ends = self._clock.monotonic() + device.timeout
        while True:
            answer = await self._agents.ask(device, "status")
            if answer.power == power or self._clock.monotonic() + ASK_AGAIN_S >= ends:
                return answer
            await self._clock.sleep(ASK_AGAIN_S)


def _doubt(answer: DeviceAnswer) -> str:
    if answer.power == "on":
        return f"{answer.device} reported that it was cut, but still says that it is on"
    return f"{answer.device} reported that it was cut, but does not say that it is off: {answer.said}"
