"""Snapshots of guests."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.routes.guests import AUDIT, OfGuest, of_node, shown_config
from racimo.guest.lifecycle import Lifecycle
from racimo.guest.snapshot_operations import DeleteSnapshot, DescribeSnapshot, RollBack, TakeSnapshot
from racimo.guest.snapshots import CURRENT, demand_snapshot
from racimo.model.guest import SnapshotState

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.model.guest import Snapshot
    from racimo.task.upid import Upid

BASE = "/nodes/{node}/qemu/{vmid}/snapshot"
SNAPSHOT = privilege("/vms/{vmid}", "VM.Snapshot")
ROLLBACK = privilege("/vms/{vmid}", "VM.Snapshot", "VM.Snapshot.Rollback")

routes = Routes()


class OfSnapshot(OfGuest):
    """One snapshot."""

    snapname: Annotated[str, Field(description="The snapshot's name.")]


class NewSnapshot(OfSnapshot):
    """A snapshot to take."""

    description: Annotated[str, Field(max_length=8192, description="Notes for people.")] = ""
    vmstate: Annotated[bool, Field(description="With the memory of the running guest.")] = False


class Described(OfSnapshot):
    """What can be changed of a snapshot."""

    description: Annotated[str | None, Field(max_length=8192, description="Notes for people.")] = None


class GoBack(OfSnapshot):
    """How to go back."""

    start: Annotated[bool, Field(description="Start it then, if its memory was not saved.")] = False


class Deletion(OfSnapshot):
    """How to delete."""

    force: Annotated[bool, Field(description="Forget it, even if a disk's part cannot be deleted.")] = False


@routes.add("GET", BASE, permission=AUDIT, answers=Answers.NODE, parameters=OfGuest, summary="The snapshots of a guest")
async def list_snapshots(context: Context, parameters: OfGuest) -> list[dict[str, JsonValue]]:
    """Oldest first; the last entry, ``current``, is the guest as it is now."""
    guest = of_node(context, parameters)
    taken = sorted(guest.snapshots.items(), key=lambda item: (item[1].snaptime, item[0]))
    running = parameters.vmid in context.services.need(Lifecycle).host.vmids
    now: dict[str, JsonValue] = {
        "name": CURRENT, "description": "The guest as it is now.", "running": int(running),
        "digest": shown_config(guest.config)["digest"],
    }  # fmt: skip
    if guest.parent:
        now["parent"] = guest.parent
    return [*(_shown(name, section) for name, section in taken), now]


@routes.add(
    "POST", BASE, permission=SNAPSHOT, answers=Answers.NODE, parameters=NewSnapshot, task=True,
    summary="Take a snapshot of a guest",
)  # fmt: skip
async def take_snapshot(context: Context, parameters: NewSnapshot) -> Upid:
    """Of all its disks at one instant."""
    operation = TakeSnapshot(
        vmid=parameters.vmid, name=parameters.snapname, description=parameters.description, memory=parameters.vmstate
    )
    return context.submit(operation, context.services.need(Lifecycle))


@routes.add(
    "GET", f"{BASE}/{{snapname}}", permission=AUDIT, answers=Answers.NODE, parameters=OfSnapshot,
    summary="What can be asked about a snapshot",
)  # fmt: skip
async def snapshot_index(context: Context, parameters: OfSnapshot) -> list[dict[str, JsonValue]]:
    """Names of what is below."""
    await _section(context, parameters)
    return [{"cmd": "config"}, {"cmd": "rollback"}]


@routes.add(
    "DELETE", f"{BASE}/{{snapname}}", permission=SNAPSHOT, answers=Answers.NODE, parameters=Deletion, task=True,
    summary="Delete a snapshot",
)  # fmt: skip
async def delete_snapshot(context: Context, parameters: Deletion) -> Upid:
    """The guest may run."""
    operation = DeleteSnapshot(vmid=parameters.vmid, name=parameters.snapname, force=parameters.force)
    return context.submit(operation, context.services.need(Lifecycle))


@routes.add(
    "GET", f"{BASE}/{{snapname}}/config", permission=ROLLBACK, answers=Answers.NODE, parameters=OfSnapshot,
    summary="The configuration that a snapshot holds",
)  # fmt: skip
async def snapshot_config(context: Context, parameters: OfSnapshot) -> dict[str, JsonValue]:
    """With the section's own keys."""
    section = await _section(context, parameters)
    shown = shown_config(section.config)
    del shown["digest"]
    own = {"description": section.description, "parent": section.parent, "vmstate": section.vmstate,
           "runningcpu": section.cpu}  # fmt: skip
    return {**shown, "snaptime": section.snaptime, **{key: value for key, value in own.items() if value}}


@routes.add(
    "PUT", f"{BASE}/{{snapname}}/config", permission=SNAPSHOT, answers=Answers.NODE, parameters=Described,
    summary="Change a snapshot's description",
)  # fmt: skip
async def describe_snapshot(context: Context, parameters: Described) -> None:
    """Nothing else of a snapshot changes."""
    if parameters.description is None:
        await _section(context, parameters)
        return
    operation = DescribeSnapshot(vmid=parameters.vmid, name=parameters.snapname, description=parameters.description)
    await context.services.tasks.run(operation, context.services.need(Lifecycle), context.who.user)


@routes.add(
    "POST", f"{BASE}/{{snapname}}/rollback", permission=ROLLBACK, answers=Answers.NODE, parameters=GoBack, task=True,
    summary="Take a guest back to a snapshot",
)  # fmt: skip
async def roll_back(context: Context, parameters: GoBack) -> Upid:
    """With saved memory it goes on where it was; else it is stopped then."""
    operation = RollBack(vmid=parameters.vmid, name=parameters.snapname, start=parameters.start)
    return context.submit(operation, context.services.need(Lifecycle))


async def _section(context: Context, parameters: OfSnapshot) -> Snapshot:
    of_node(context, parameters)
    view = await context.services.need(Lifecycle).records.view(parameters.vmid)
    return demand_snapshot(view, parameters.snapname)


def _shown(name: str, section: Snapshot) -> dict[str, JsonValue]:
    entry: dict[str, JsonValue] = {
        "name": name, "description": section.description, "snaptime": section.snaptime,
        "vmstate": int(bool(section.vmstate)),
    }  # fmt: skip
    if section.parent:
        entry["parent"] = section.parent
    if section.state is not SnapshotState.DONE:
        entry["snapstate"] = str(section.state)
    return entry
