"""A guest's power: start, stop, shut down, reboot, reset, suspend, resume. Of an HA guest the wish is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Generic, TypeVar

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.routes.guests import OfGuest, of_node
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
    from collections.abc import Callable
    from contextlib import AsyncExitStack

    from racimo.api.context import Context
    from racimo.guest.operations import GuestOperation
    from racimo.task.operation import Report
    from racimo.task.upid import Upid

POWER = privilege("/vms/{vmid}", "VM.PowerMgmt")

KEYS = r"^[a-z0-9_]+(-[a-z0-9_]+)*$"

P = TypeVar("P", bound=OfGuest)

routes = Routes()


class Switch(OfGuest):
    """What clients send along with a word about power."""

    timeout: Annotated[float | None, Field(ge=0, le=86400, description="Seconds; taken and not used.")] = None
    skiplock: Annotated[bool, Field(description="Taken and not used: locks are never skipped.")] = False


class Patience(OfGuest):
    """How long to wait for the guest's own shutdown."""

    timeout: Annotated[float, Field(ge=0, le=86400, description="Seconds.")] = SHUTDOWN_TIMEOUT
    skiplock: Annotated[bool, Field(description="Taken and not used: locks are never skipped.")] = False
    force_stop: Annotated[bool, Field(alias="forceStop", description="Stop it when that time is over.")] = False


@dataclass(frozen=True, kw_only=True)
class RequestState(Operation[HaResources]):
    """Tell the HA manager what is wanted of a guest."""

    kind: ClassVar[str]
    wanted: ClassVar[Requested]
    vmid: int

    @property
    def subject(self) -> str:
        return str(self.vmid)

    async def execute(self, services: HaResources, report: Report, undo: AsyncExitStack) -> None:
        await services.change(f"vm:{self.vmid}", requested=self.wanted)
        report.log(f"the HA manager was asked to have guest {self.vmid} {self.wanted}")


class RequestStart(RequestState):
    """As a task of its own type."""

    kind: ClassVar[str] = "hastart"
    wanted: ClassVar[Requested] = Requested.STARTED


class RequestStop(RequestState):
    """As a task of its own type."""

    kind: ClassVar[str] = "hastop"
    wanted: ClassVar[Requested] = Requested.STOPPED


@dataclass(frozen=True, kw_only=True)
class PowerCommand(Generic[P]):
    """One word about a guest's power, ``POST …/status/{verb}``: what is done here, or for an HA guest wished for."""

    verb: str
    summary: str
    parameters: type[P]
    operation: Callable[[P], GuestOperation]
    wish: type[RequestState] | None = None

    async def submit(self, context: Context, parameters: P) -> Upid:
        """As a task. Of an HA guest only the wanted state is changed, where the command has such a ``wish``."""
        if self.wish is not None and _under_ha(context, parameters.vmid):
            return context.submit(self.wish(vmid=parameters.vmid), context.services.need(HaResources))
        return context.submit(self.operation(parameters), context.services.need(Lifecycle))


def _plain(
    verb: str, summary: str, operation: type[GuestOperation], wish: type[RequestState] | None = None
) -> PowerCommand[Switch]:
    """A command that needs no more than the guest's number."""
    return PowerCommand(
        verb=verb, summary=summary, parameters=Switch, wish=wish, operation=lambda asked: operation(vmid=asked.vmid)
    )


def _shutdown(asked: Patience) -> ShutdownGuest:
    return ShutdownGuest(vmid=asked.vmid, timeout=asked.timeout, force_stop=asked.force_stop)


def _reboot(asked: Patience) -> RebootGuest:
    return RebootGuest(vmid=asked.vmid, timeout=asked.timeout)


COMMANDS: tuple[PowerCommand[Any], ...] = (
    _plain("start", "Start a guest", StartGuest, RequestStart),
    _plain("stop", "Stop a guest at once", StopGuest, RequestStop),
    PowerCommand(
        verb="shutdown",
        summary="Have a guest shut itself down",
        parameters=Patience,
        operation=_shutdown,
        wish=RequestStop,
    ),
    PowerCommand(verb="reboot", summary="Shut a guest down and start it again", parameters=Patience, operation=_reboot),
    _plain("reset", "Press a guest's reset button", ResetGuest),
    _plain("suspend", "Halt a guest's CPUs", SuspendGuest),
    _plain("resume", "Let a suspended guest run on", ResumeGuest),
)


class Keys(OfGuest):
    """Keys to press."""

    key: Annotated[str, Field(pattern=KEYS, max_length=100, description="Such as ctrl-alt-delete.")]
    skiplock: Annotated[bool, Field(description="Taken and not used: locks are never skipped.")] = False


@routes.add(
    "PUT", "/nodes/{node}/qemu/{vmid}/sendkey", permission=privilege("/vms/{vmid}", "VM.Console"),
    answers=Answers.NODE, parameters=Keys, summary="Press keys of a guest's keyboard",
)  # fmt: skip
async def send_key(context: Context, parameters: Keys) -> None:
    """All at once, by QEMU's names for them."""
    of_node(context, parameters)
    await context.services.need(Lifecycle).host.press_keys(parameters.vmid, parameters.key.split("-"))


for command in COMMANDS:
    path = f"/nodes/{{node}}/qemu/{{vmid}}/status/{command.verb}"
    row = routes.add(
        "POST", path, permission=POWER, answers=Answers.NODE, parameters=command.parameters, task=True,
        summary=command.summary,
    )  # fmt: skip
    row(command.submit)


def _under_ha(context: Context, vmid: int) -> bool:
    inventory = context.services.need(Inventory)
    resource = inventory.resources().get(f"vm:{vmid}")
    return resource is not None and resource.requested is not Requested.IGNORED and not inventory.ha_ignores()
