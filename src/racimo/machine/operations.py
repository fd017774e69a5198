"""What is done to this machine as a task: its services, its power."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from racimo.machine.programs import Programs
from racimo.machine.units import API, demand_harmless, service_name
from racimo.task.operation import Operation

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.task.operation import Report

SERVICE_TIMEOUT = 120.0
"""Seconds that a service may take to start or to stop."""


@dataclass(frozen=True)
class SteerService(Operation[Programs]):
    """Start, stop, restart or reload a service. The daemon that runs this very task is restarted after its end."""

    kind: ClassVar[str] = "srvrestart"
    service: str
    action: str

    @property
    def subject(self) -> str:
        """The service."""
        return self.service

    def validate(self) -> None:
        """Only those of the list, and only what leaves the node in reach."""
        demand_harmless(service_name(self.service), self.action)

    async def execute(self, services: Programs, report: Report, undo: AsyncExitStack) -> None:
        """Through systemd."""
        wait = ["--no-block"] if self.service == API else []
        report.log(f"{self.action} {self.service}")
        await services.run("systemctl", *wait, self.action, f"{self.service}.service", timeout=SERVICE_TIMEOUT)


@dataclass(frozen=True)
class StartService(SteerService):
    """Start it."""

    kind: ClassVar[str] = "srvstart"


@dataclass(frozen=True)
class StopService(SteerService):
    """Stop it."""

    kind: ClassVar[str] = "srvstop"


@dataclass(frozen=True)
class ReloadService(SteerService):
    """Have it read its files again."""

    kind: ClassVar[str] = "srvreload"


STEERING = {"start": StartService, "stop": StopService, "restart": SteerService, "reload": ReloadService}


@dataclass(frozen=True)
class EndNode(Operation[Programs]):
    """Shut this machine down in order, or start it anew: HA and the guests are heard first, by the shutdown's unit."""

    kind: ClassVar[str] = "nodepower"
    node: str
    command: str

    @property
    def subject(self) -> str:
        """The node."""
        return self.node

    async def execute(self, services: Programs, report: Report, undo: AsyncExitStack) -> None:
        """Only ordered: systemd then does it, and ends this daemon too."""
        order = {"reboot": "reboot", "shutdown": "poweroff"}[self.command]
        report.log(f"systemctl {order}: guests and HA are given their time first")
        await services.run("systemctl", "--no-block", order)
