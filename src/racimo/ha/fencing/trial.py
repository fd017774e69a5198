"""Trying a node's fence devices out for real: each level cuts the power, confirms it, and gives it back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from racimo.errors import Conflict, OperationFailed, Refused
from racimo.ha.clock import SystemClock
from racimo.ha.fencing.course import Course
from racimo.ha.fencing.devices import FenceDevices
from racimo.task.operation import Operation

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.model.fence import DeviceAnswer, FenceDevice
    from racimo.task.operation import Report


@dataclass(frozen=True, kw_only=True)
class TryFence(Operation[FenceDevices]):
    """Cut the power of ``node`` by each level of its devices in turn, and switch it on again after each."""

    kind: ClassVar[str] = "hafence"
    node: str

    @property
    def subject(self) -> str:
        return self.node

    async def precheck(self, services: FenceDevices) -> None:
        if self.node == services.node:
            raise Refused(
                f"{self.node} cannot try out its own fence devices",
                why="it would lose its power before it could switch itself on again",
                todo=f"Ask another node: racimo ha fence test {self.node} --off --from NODE",
            )
        guests = await services.running_guests(self.node)
        if guests:
            names = ", ".join(str(vmid) for vmid in guests)
            raise Conflict(
                f"The power of {self.node} is not cut", why=f"guests run on it: {names}", todo="Move them away first"
            )

    async def execute(self, services: FenceDevices, report: Report, undo: AsyncExitStack) -> None:
        levels = await services.levels_of(self.node)
        faults = []
        for number, level in enumerate(levels):
            names = " and ".join(device.name for device in level)
            report.progress(number / len(levels), f"{names}: cutting the power of {self.node}")
            before = [await services.programs.ask(device, "status") for device in level]
            _tell(report, before)
            unsure = [f"{each.device} does not say that it is on before it is cut: {each.said}" for each in before
                      if each.power != "on"]  # fmt: skip
            if unsure:
                faults += unsure
                continue
            undo.push_async_callback(_switch_on, services, level)
            verdict = await Course(services.programs, SystemClock()).cut([level])
            _tell(report, verdict.answers)
            report.log(verdict.why)
            if not verdict.confirmed:
                faults.append(verdict.why)
            undo.pop_all()
            answers = await _switch_on(services, level)
            _tell(report, answers)
            faults += [f"{each.device} did not switch it on: {each.said}" for each in answers if not each.ok]
        if faults:
            raise OperationFailed(
                f"The fence devices of {self.node} cannot be relied on",
                why="; ".join(faults),
                todo=f"See that {self.node} is on, then: racimo ha fence test {self.node}",
            )


async def _switch_on(services: FenceDevices, level: tuple[FenceDevice, ...]) -> list[DeviceAnswer]:
    return [await services.programs.ask(device, "on") for device in level]


def _tell(report: Report, answers: tuple[DeviceAnswer, ...] | list[DeviceAnswer]) -> None:
    for answer in answers:
        report.log(f"{answer.device} {answer.action}: {answer.said} ({answer.seconds:g} s)")
