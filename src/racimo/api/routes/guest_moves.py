"""Moving guests: what people ask for, and what nodes and the HA agent ask of each other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from racimo.api.endpoint import NODES, Answers, Routes, privilege
from racimo.api.routes.guests import OfGuest
from racimo.errors import BadParameter
from racimo.guest.ha_operations import HaRelocate, HaStart, HaStop
from racimo.guest.lifecycle import Lifecycle
from racimo.guest.migration_request import IncomingRequest, place_to_json
from racimo.guest.migration_target import MigrationTarget
from racimo.guest.operations import MigrateGuest

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.task.upid import Upid

routes = Routes()


class Migrate(OfGuest):
    """Where to, and how."""

    target: str
    online: Annotated[bool, Field(description="Without stopping it, if it runs.")] = False
    bwlimit: Annotated[int | None, Field(ge=0, description="KiB per second; 0: none; left out: the datacenter's.")] = (
        None
    )
    with_local_disks: Annotated[
        bool,
        Field(alias="with-local-disks", description="Taken: disks that only one node has are refused with the reason."),
    ] = False
    force: Annotated[bool, Field(description="Taken and not used.")] = False


class Incoming(OfGuest):
    """A guest that another node is about to send."""

    structured: ClassVar[bool] = True
    source: str
    epoch: int
    config: dict[str, str]
    cpu: str
    qemu: str
    acceleration: str
    task: str = ""


class AtEpoch(OfGuest):
    """A guest as of one epoch."""

    epoch: int


class MigrationOver(AtEpoch):
    """A migration that is over before its guest moved."""

    task: str = ""


class HaCommand(AtEpoch):
    """What the HA agent wants done."""

    command: Literal["start", "stop", "migrate", "relocate"]
    target: str = ""


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/migrate", permission=privilege("/vms/{vmid}", "VM.Migrate"),
    answers=Answers.NODE, parameters=Migrate, task=True, summary="Move a guest to another node",
)  # fmt: skip
async def migrate(context: Context, parameters: Migrate) -> Upid:
    """A running guest moves live; a stopped one by its record."""
    operation = MigrateGuest(
        vmid=parameters.vmid, target=parameters.target, online=parameters.online, bwlimit=parameters.bwlimit
    )
    return context.submit(operation, context.services.need(Lifecycle))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/racimo/check", permission=NODES, answers=Answers.NODE, parameters=OfGuest,
    summary="Ask whether a stopped guest could be started here",
)  # fmt: skip
async def check(context: Context, parameters: OfGuest) -> None:
    """Refused with the reason when it could not: a bridge, a storage or memory is missing."""
    await context.services.need(MigrationTarget).check(parameters.vmid)


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/racimo/incoming", permission=NODES, answers=Answers.NODE, parameters=Incoming,
    summary="Prepare to take a guest over", timeout=60,
)  # fmt: skip
async def incoming(context: Context, parameters: Incoming) -> dict[str, JsonValue]:
    """Starts a QEMU that waits for it."""
    request = IncomingRequest(
        vmid=parameters.vmid,
        source=parameters.source,
        epoch=parameters.epoch,
        config=parameters.config,
        cpu=parameters.cpu,
        qemu=parameters.qemu,
        acceleration=parameters.acceleration,
        task=parameters.task,
    )
    return place_to_json(await context.services.need(MigrationTarget).prepare(request))


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/racimo/resume", permission=NODES, answers=Answers.NODE, parameters=AtEpoch,
    summary="Let a guest that was taken over run",
)  # fmt: skip
async def resume(context: Context, parameters: AtEpoch) -> None:
    """Refused unless the guest's record names this node and epoch."""
    await context.services.need(MigrationTarget).resume(parameters.vmid, parameters.epoch)


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/racimo/abort", permission=NODES, answers=Answers.NODE,
    parameters=MigrationOver, summary="Throw away what was prepared for a guest",
)  # fmt: skip
async def abort(context: Context, parameters: MigrationOver) -> None:
    """The guest goes on at its source."""
    await context.services.need(MigrationTarget).abort(parameters.vmid, parameters.epoch, parameters.task)


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/racimo/mark", permission=NODES, answers=Answers.NODE, parameters=OfGuest,
    summary="Mark a guest for the guard, before it comes under HA",
)  # fmt: skip
async def mark(context: Context, parameters: OfGuest) -> None:
    """The guard kills marked guests when the node's lease runs out."""
    await context.services.need(Lifecycle).mark(parameters.vmid)


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/racimo/ha", permission=NODES, answers=Answers.NODE, parameters=HaCommand,
    task=True, summary="A command of the HA agent",
)  # fmt: skip
async def ha_command(context: Context, parameters: HaCommand) -> Upid:
    """Refused for another epoch than the guest's; nothing is done where the guest is as wanted already."""
    vmid, epoch, target = parameters.vmid, parameters.epoch, parameters.target
    if parameters.command in ("migrate", "relocate") and not target:
        raise BadParameter({"target": f"is needed to {parameters.command}"}, todo="Name the node to go to")
    operation: HaStart | HaStop | MigrateGuest
    match parameters.command:
        case "start":
            operation = HaStart(vmid=vmid, epoch=epoch)
        case "stop":
            operation = HaStop(vmid=vmid, epoch=epoch)
        case "migrate":
            operation = MigrateGuest(vmid=vmid, epoch=epoch, target=target)
        case "relocate":
            operation = HaRelocate(vmid=vmid, epoch=epoch, target=target)
    return context.submit(operation, context.services.need(Lifecycle))
