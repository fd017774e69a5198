"""Templates, clones, and what is done to one disk of a guest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.guest_permissions import demand_space
from racimo.api.routes.guests import OfGuest, of_node
from racimo.errors import BadParameter
from racimo.guest.cloning import CloneWish
from racimo.guest.config import parse_config
from racimo.guest.disk_operations import CloneGuest, GiveDisk, MakeTemplate, MoveDisk, ResizeDisk, UnlinkDisks
from racimo.guest.disks import GiveWish, MoveWish
from racimo.guest.lifecycle import Lifecycle

if TYPE_CHECKING:
    from racimo.api.context import Context
    from racimo.guest.operations import GuestOperation
    from racimo.task.upid import Upid

GUEST = "/nodes/{node}/qemu/{vmid}"
CONFIG_DISK = privilege("/vms/{vmid}", "VM.Config.Disk")
CLONE = replace(privilege("/vms/{vmid}", "VM.Clone"), also=(privilege("/vms/{newid}", "VM.Allocate"),))
FORMAT = Literal["raw", "qcow2", "vmdk"]

routes = Routes()


class Clone(OfGuest):
    """A guest to be made from another."""

    newid: Annotated[int, Field(ge=100, le=999_999_999, description="The number of the new guest.")]
    name: Annotated[str, Field(description="Its name.")] = ""
    description: Annotated[str, Field(max_length=8192, description="Notes for people.")] = ""
    full: Annotated[
        bool | None,
        Field(description="With disks of its own; 0: a linked clone of a template, which is the default there."),
    ] = None
    storage: Annotated[str, Field(description="Storage of the copies; left out: that of the originals.")] = ""
    format: Annotated[FORMAT | None, Field(description="Format of the copies.")] = None
    snapname: Annotated[str, Field(description="The snapshot to clone; left out: the guest as it is.")] = ""
    target: Annotated[str, Field(description="Node of the new guest; its disks must be on shared storage.")] = ""
    pool: Annotated[str, Field(description="Pool of the new guest.")] = ""
    bwlimit: Annotated[int | None, Field(ge=0, description="KiB per second; not observed yet.")] = None


class Template(OfGuest):
    """A guest that becomes a template."""

    disk: Annotated[str, Field(description="Only this disk: not supported, a template is made of all.")] = ""


class Resize(OfGuest):
    """How large a disk is to be."""

    disk: Annotated[str, Field(description="The disk, such as scsi0.")]
    size: Annotated[str, Field(description="The new size, such as 20G, or what is added, such as +5G.")]
    digest: Annotated[str, Field(description="Only if the configuration still has this digest.")] = ""
    skiplock: Annotated[bool, Field(description="Taken and not used: locks are never skipped.")] = False


class Move(OfGuest):
    """Where a disk is to go: to a storage, or to another guest."""

    disk: Annotated[str, Field(description="The disk, such as scsi0 or unused0.")]
    storage: Annotated[str, Field(description="The storage to move it to.")] = ""
    format: Annotated[FORMAT | None, Field(description="The format it is to have.")] = None
    delete: Annotated[bool, Field(description="Remove the original; else it is kept as unused.")] = False
    digest: Annotated[str, Field(description="Only if the configuration still has this digest.")] = ""
    bwlimit: Annotated[int | None, Field(ge=0, description="KiB per second; not observed yet.")] = None
    target_vmid: Annotated[int | None, Field(alias="target-vmid", description="The guest to give it to.")] = None
    target_disk: Annotated[str, Field(alias="target-disk", description="What it is there; left out: the same.")] = ""
    target_digest: Annotated[str, Field(alias="target-digest", description="Only if that guest still has it.")] = ""


class Unlink(OfGuest):
    """Disks to unplug."""

    idlist: Annotated[tuple[str, ...], Field(min_length=1, description="The disks, such as scsi1,unused0.")]
    force: Annotated[bool, Field(description="Remove their volumes; else they are kept as unused.")] = False


@routes.add(
    "POST", f"{GUEST}/clone", permission=CLONE, answers=Answers.NODE, parameters=Clone,
    task=True, summary="Make a guest from another",
)  # fmt: skip
async def clone_guest(context: Context, parameters: Clone) -> Upid:
    """Of a running guest the disks are copied as they all are at one instant."""
    guest = of_node(context, parameters)
    kept = {drive.storage for drive in parse_config(guest.config).disks.values() if drive.storage}
    for storage in sorted({parameters.storage} if parameters.storage else kept):
        demand_space(context, storage)
    if parameters.pool:
        context.demand(f"/pool/{parameters.pool}", "VM.Allocate", "Pool.Allocate")
    wish = CloneWish(
        newid=parameters.newid, name=parameters.name, description=parameters.description, full=parameters.full,
        storage=parameters.storage, image_format=_format(parameters.format), snapshot=parameters.snapname,
        target=parameters.target, pool=parameters.pool,
    )  # fmt: skip
    return _submit(context, parameters, CloneGuest(vmid=parameters.vmid, wish=wish))


@routes.add(
    "POST", f"{GUEST}/template", permission=privilege("/vms/{vmid}", "VM.Allocate"), answers=Answers.NODE,
    parameters=Template, task=True, summary="Turn a guest into a template",
)  # fmt: skip
async def make_template(context: Context, parameters: Template) -> Upid:
    """It never runs again; its clones share its disks."""
    if parameters.disk:
        raise BadParameter({"disk": "a template is made of all disks at once"}, todo="Leave it out")
    return _submit(context, parameters, MakeTemplate(vmid=parameters.vmid))


@routes.add(
    "PUT", f"{GUEST}/resize", permission=CONFIG_DISK, answers=Answers.NODE, parameters=Resize, task=True,
    summary="Grow a disk",
)  # fmt: skip
async def resize_disk(context: Context, parameters: Resize) -> Upid:
    """Also while the guest runs. Disks never shrink."""
    operation = ResizeDisk(vmid=parameters.vmid, key=parameters.disk, size=parameters.size, digest=parameters.digest)
    return _submit(context, parameters, operation)


@routes.add(
    "POST", f"{GUEST}/move_disk", permission=CONFIG_DISK, answers=Answers.NODE, parameters=Move, task=True,
    summary="Move a disk to another storage, or to another guest",
)  # fmt: skip
async def move_disk(context: Context, parameters: Move) -> Upid:
    """Also while the guest runs and writes to it; to another guest only while neither runs."""
    if parameters.target_vmid is not None:
        if parameters.storage:
            raise BadParameter({"storage": "cannot be given together with target-vmid"}, todo="Do one after the other")
        context.demand(f"/vms/{parameters.target_vmid}", "VM.Config.Disk")
        give = GiveWish(
            key=parameters.disk, target=parameters.target_vmid, target_key=parameters.target_disk,
            digest=parameters.digest, target_digest=parameters.target_digest,
        )  # fmt: skip
        return _submit(context, parameters, GiveDisk(vmid=parameters.vmid, wish=give))
    if not parameters.storage:
        raise BadParameter({"storage": "is missing: where is the disk to go?"}, todo="Give storage or target-vmid")
    demand_space(context, parameters.storage)
    wish = MoveWish(
        key=parameters.disk, storage=parameters.storage, image_format=_format(parameters.format),
        delete=parameters.delete, digest=parameters.digest,
    )  # fmt: skip
    return _submit(context, parameters, MoveDisk(vmid=parameters.vmid, wish=wish))


@routes.add(
    "PUT", f"{GUEST}/unlink", permission=CONFIG_DISK, answers=Answers.NODE, parameters=Unlink,
    summary="Unplug disks, or remove them",
)  # fmt: skip
async def unlink_disks(context: Context, parameters: Unlink) -> None:
    """Returns when it is done."""
    of_node(context, parameters)
    operation = UnlinkDisks(vmid=parameters.vmid, keys=parameters.idlist, force=parameters.force)
    await context.services.tasks.run(operation, context.services.need(Lifecycle), context.who.user)


def _submit(context: Context, parameters: OfGuest, operation: GuestOperation) -> Upid:
    of_node(context, parameters)
    return context.submit(operation, context.services.need(Lifecycle))


def _format(asked: str | None) -> str | None:
    if asked == "vmdk":
        raise BadParameter({"format": "vmdk images can be imported, not written"}, todo="Choose raw or qcow2")
    return asked
