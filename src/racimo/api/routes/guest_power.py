"""A guest's power: start, stop, shut down, reboot, reset, suspend, resume. Of an HA guest the wish is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.routes.guests import OfGuest
from racimo.guest.lifecycle import SHUTDOWN_TIMEOUT, Lifecycle
from racimo.guest.operations import (
    RebootGuest,
    ResetGuest,
    ResumeGuest,
    ShutdownGuest,
    StartGuest,
    StopGuest,
    SuspendGuest,
)
from racimo.ha.resources import HaResources
from racimo.model.ha import Requested
from racimo.task.operation import Operation

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.api.context import Context
    from racimo.task.operation import Report
    from racimo.task.upid import Upid

POWER = privilege("/vms/{vmid}", "VM.PowerMgmt")

routes = Routes()


class Patience(OfGuest):
    """How long to wait for the guest's own shutdown."""

    timeout: Annotated[float, Field(ge=0, le=86400, description="Seconds.")] = SHUTDOWN_TIMEOUT
    force_stop: Annotated[bool, Field(alias="forceStop", description="Stop it when that time is over.")] = False


@dataclass(frozen=True, kw_only=True)
class RequestState(Operation[HaResources]):
    """Tell the HA manager what is wanted of a guest."""

    kind: ClassVar[str]
    vmid: int
    wanted: Requested

    @property
    def subject(self) -> str:
        return str(self.vmid)

    async def execute(self, services: HaResources, report: Report, undo: AsyncExitStack) -> None:
        await services.change(f"vm:{self.vmid}", requested=self.wanted)
        report.log(f"the HA manager was asked to have guest {self.vmid} {self.wanted}")


class RequestStart(RequestState):
    """As a task of its own type."""

    kind: ClassVar[str] = "hastart"


class RequestStop(RequestState):
    """As a task of its own type."""

    kind: ClassVar[str] = "hastop"


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/status/start", permission=POWER, answers=Answers.NODE, parameters=OfGuest,
    task=True, summary="Start a guest",
)  # fmt: skip
async def start(context: Context, parameters: OfGuest) -> Upid:
    """Of an HA guest the wanted state becomes ``started``."""
    if _under_ha(context, parameters.vmid):
        wish = RequestStart(vmid=parameters.vmid, wanted=Requested.STARTED)
        return context.submit(wish, context.services.need(HaResources))
    return context.submit(StartGuest(vmid=parameters.vmid), context.services.need(Lifecycle))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/status/stop", permission=POWER, answers=Answers.NODE, parameters=OfGuest,
    task=True, summary="Stop a guest at once",
)  # fmt: skip
async def stop(context: Context, parameters: OfGuest) -> Upid:
    """Of an HA guest the wanted state becomes ``stopped``."""
    if _under_ha(context, parameters.vmid):
        wish = RequestStop(vmid=parameters.vmid, wanted=Requested.STOPPED)
        return context.submit(wish, context.services.need(HaResources))
    return context.submit(StopGuest(vmid=parameters.vmid), context.services.need(Lifecycle))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/status/shutdown", permission=POWER, answers=Answers.NODE, parameters=Patience,
    task=True, summary="Have a guest shut itself down",
)  # fmt: skip
async def shutdown(context: Context, parameters: Patience) -> Upid:
    """Of an HA guest the wanted state becomes ``stopped``."""
    if _under_ha(context, parameters.vmid):
        wish = RequestStop(vmid=parameters.vmid, wanted=Requested.STOPPED)
        return context.submit(wish, context.services.need(HaResources))
    operation = ShutdownGuest(vmid=parameters.vmid, timeout=parameters.timeout, force_stop=parameters.force_stop)
    return context.submit(operation, context.services.need(Lifecycle))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/status/reboot", permission=POWER, answers=Answers.NODE, parameters=Patience,
    task=True, summary="Shut a guest down and start it again",
)  # fmt: skip
async def reboot(context: Context, parameters: Patience) -> Upid:
    """It comes back with its present configuration."""
    operation = RebootGuest(vmid=parameters.vmid, timeout=parameters.timeout)
    return context.submit(operation, context.services.need(Lifecycle))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/status/reset", permission=POWER, answers=Answers.NODE, parameters=OfGuest,
    task=True, summary="Press a guest's reset button",
)  # fmt: skip
async def reset(context: Context, parameters: OfGuest) -> Upid:
    """What it has not written is lost."""
    return context.submit(ResetGuest(vmid=parameters.vmid), context.services.need(Lifecycle))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/status/suspend", permission=POWER, answers=Answers.NODE, parameters=OfGuest,
    task=True, summary="Halt a guest's CPUs",
)  # fmt: skip
async def suspend(context: Context, parameters: OfGuest) -> Upid:
    """It stays in memory."""
    return context.submit(SuspendGuest(vmid=parameters.vmid), context.services.need(Lifecycle))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/status/resume", permission=POWER, answers=Answers.NODE, parameters=OfGuest,
    task=True, summary="Let a suspended guest run on",
)  # fmt: skip
async def resume(context: Context, parameters: OfGuest) -> Upid:
    """It goes on where it was."""
    return context.submit(ResumeGuest(vmid=parameters.vmid), context.services.need(Lifecycle))


def _under_ha(context: Context, vmid: int) -> bool:
    resource = context.services.need(Inventory).resources().get(f"vm:{vmid}")
    return resource is not None and resource.requested is not Requested.IGNORED
