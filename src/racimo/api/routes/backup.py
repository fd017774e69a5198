"""Backups: ``vzdump`` of a node's guests, and which of a storage's backups are kept."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import OfNode
from racimo.api.resources import sees_guest
from racimo.api.routes.storages import AUDIT, StorageOnNode
from racimo.errors import BadParameter, OperationFailed
from racimo.guest.backup import Mode
from racimo.guest.backup_operations import Backups, Vzdump
from racimo.guest.lifecycle import Lifecycle
from racimo.storage.retention import Keep, looked_at, prune
from racimo.storage.volumes import Volumes
from racimo.task.runner import ROOT

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.storage.base import Volume
    from racimo.task.upid import Upid

LOCAL = "local"
"""The storage that is taken where none is named."""
KIB = 1 << 10
BACKUP = replace(
    privilege("/vms/{vmid}", "VM.Backup"), also=(privilege("/storage/{storage}", "Datastore.AllocateSpace"),)
)
KEEP = "What is kept of each guest: keep-last, -hourly, -daily, -weekly, -monthly, -yearly, or keep-all."
UNUSED = "Taken and not used."

routes = Routes()


class BackupOptions(OfNode):
    """How to back up."""

    storage: Annotated[str, Field(description="Where to; left out: local.")] = ""
    mode: Annotated[Mode, Field(description="What happens to running guests: snapshot, suspend or stop.")] = (
        Mode.SNAPSHOT
    )
    compress: Annotated[Literal["0", "1", "zstd"], Field(description="0: not; 1 or zstd: with zstd.")] = "zstd"
    prune_backups: Annotated[str | None, Field(alias="prune-backups", description=KEEP)] = None
    remove: Annotated[bool, Field(description="Remove old backups as prune-backups says.")] = True
    notes_template: Annotated[
        str,
        Field(alias="notes-template", description="Notes; {{guestname}}, {{vmid}}, {{node}}, {{cluster}}."),
    ] = ""
    protected: Annotated[bool, Field(description="Protect the new backups from removal.")] = False
    bwlimit: Annotated[int, Field(ge=0, description="KiB per second; 0: none.")] = 0
    zstd: Annotated[int | None, Field(description=UNUSED)] = None
    ionice: Annotated[int | None, Field(description=UNUSED)] = None
    lockwait: Annotated[int | None, Field(description=UNUSED)] = None
    stopwait: Annotated[int | None, Field(description=UNUSED)] = None
    quiet: Annotated[bool, Field(description=UNUSED)] = False
    stdexcludes: Annotated[bool, Field(description=UNUSED)] = False
    fleecing: Annotated[str | None, Field(description=UNUSED)] = None
    performance: Annotated[str | None, Field(description=UNUSED)] = None
    mailto: Annotated[str | None, Field(description=UNUSED)] = None
    mailnotification: Annotated[str | None, Field(description=UNUSED)] = None
    notification_mode: Annotated[str | None, Field(alias="notification-mode", description=UNUSED)] = None


class BackUp(BackupOptions):
    """Which guests to back up, and how."""

    vmid: Annotated[tuple[int, ...], Field(description="Guests, in the order in which they are backed up.")] = ()
    all: Annotated[bool, Field(description="All guests of the node.")] = False
    exclude: Annotated[tuple[int, ...], Field(description="None of these; with all.")] = ()
    pool: Annotated[str | None, Field(description="The node's guests of this pool.")] = None


class Annotation(StorageOnNode):
    """What is to stand beside a backup."""

    volume: Annotated[str, Field(description="Its id, such as local:backup/FILE; the storage may be left out.")]
    notes: Annotated[str | None, Field(max_length=65536, description="Its notes; empty: none.")] = None
    protected: Annotated[bool | None, Field(description="Whether it is protected from removal.")] = None


class WhichBackups(StorageOnNode):
    """Which backups to look at."""

    keep: Annotated[str, Field(alias="prune-backups", description=KEEP)] = ""
    type: Annotated[Literal["qemu"] | None, Field(description="The kind of guest.")] = None
    vmid: Annotated[int | None, Field(description="Only this guest's.")] = None


@routes.add(
    "POST", "/nodes/{node}/vzdump", permission=BACKUP, answers=Answers.NODE, parameters=BackUp, task=True,
    summary="Back up guests",
)  # fmt: skip
async def vzdump(context: Context, parameters: BackUp) -> Upid:
    """One after another; running ones go on. One that fails stops no other, and the task ends as 'job errors'."""
    storage = parameters.storage or LOCAL
    keep = _kept(context, storage, parameters)
    if parameters.bwlimit:
        context.demand("/", "Sys.Modify")
    datacenter = await context.services.layout.datacenter.find("settings")
    operation = Vzdump(
        vmids=await _chosen(context, parameters), every=parameters.all, exclude=parameters.exclude, storage=storage,
        mode=parameters.mode, compress=parameters.compress != "0", template=parameters.notes_template,
        protected=parameters.protected, limit=parameters.bwlimit * KIB, keep=keep,
        cluster=datacenter.record.name if datacenter else "",
    )  # fmt: skip
    user = context.who.user or ROOT
    return context.submit(operation, Backups(context.services.need(Lifecycle), context.services.tasks, user))


@routes.add(
    "PUT", "/nodes/{node}/storage/{storage}/content/{volume*}", answers=Answers.NODE, parameters=Annotation,
    permission=privilege("/storage/{storage}", "Datastore.Allocate", "Datastore.AllocateSpace"),
    summary="Change a backup's notes, or protect it",
)  # fmt: skip
async def annotate(context: Context, parameters: Annotation) -> None:
    """Who may not manage the storage needs VM.Backup on the guest that was backed up."""
    volumes, driver = context.services.need(Volumes), f"{parameters.storage}:"
    name = parameters.volume.removeprefix(driver)
    found = await volumes.volume(f"{driver}{name}")
    if not context.may(f"/storage/{parameters.storage}", "Datastore.Allocate"):
        context.demand(f"/vms/{found.vmid or ''}".rstrip("/"), "VM.Backup")
    await volumes.driver(parameters.storage).annotate(name, parameters.notes, protected=parameters.protected)


@routes.add(
    "GET", "/nodes/{node}/storage/{storage}/prunebackups", permission=AUDIT, answers=Answers.NODE,
    parameters=WhichBackups, summary="Say which backups would be kept",
)  # fmt: skip
async def show_prune(context: Context, parameters: WhichBackups) -> list[dict[str, JsonValue]]:
    """Nothing is removed. Newest first, guest by guest."""
    keep = Keep.parse(parameters.keep)
    found = await looked_at(context.services.need(Volumes), parameters.storage, keep, parameters.vmid)
    return [{**_shown(volume), "mark": str(mark)} for volume, mark in found if _sees(context, volume)]


@routes.add(
    "DELETE", "/nodes/{node}/storage/{storage}/prunebackups", answers=Answers.NODE, parameters=WhichBackups,
    permission=privilege("/storage/{storage}", "Datastore.Allocate"), summary="Remove the backups that are not kept",
    timeout=600.0,
)  # fmt: skip
async def prune_backups(context: Context, parameters: WhichBackups) -> None:
    """Protected ones stay. Without numbers all are kept."""
    keep, said = Keep.parse(parameters.keep), list[str]()
    left = await prune(context.services.need(Volumes), parameters.storage, keep, said.append, parameters.vmid)
    if left:
        raise OperationFailed(f"{len(left)} backups were not removed", why="; ".join(said))


async def _chosen(context: Context, parameters: BackUp) -> tuple[int, ...]:
    """The guests that were named, or those of the pool on this node."""
    given = [name for name in ("vmid", "all", "pool") if getattr(parameters, name)]
    if len(given) != 1:
        raise BadParameter({"vmid": "exactly one of vmid, all and pool says which guests"})
    if parameters.pool is None:
        return parameters.vmid
    found = await context.services.layout.pools.find(parameters.pool)
    if found is None:
        raise BadParameter({"pool": f"pool '{parameters.pool}' does not exist"}, todo="See: racimo pool list")
    guests = context.services.need(Inventory).guests()
    mine = tuple(vmid for vmid in found.record.guests if vmid in guests and guests[vmid].node == parameters.node)
    if not mine:
        raise BadParameter({"pool": f"pool '{parameters.pool}' has no guests on node {parameters.node}"})
    return mine


def _kept(context: Context, storage: str, parameters: BackUp) -> Keep | None:
    context.demand(f"/storage/{storage}", "Datastore.AllocateSpace")
    if parameters.prune_backups is None:
        return None
    context.demand(f"/storage/{storage}", "Datastore.Allocate")
    keep = Keep.parse(parameters.prune_backups)
    return None if keep.everything or not parameters.remove else keep


def _sees(context: Context, volume: Volume) -> bool:
    return volume.vmid is None or sees_guest(context, volume.vmid)


def _shown(volume: Volume) -> dict[str, JsonValue]:
    return {"volid": str(volume.id), "ctime": int(volume.ctime), "type": "qemu", "vmid": volume.vmid}
