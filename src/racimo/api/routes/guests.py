"""Guests of a node: list, create, configure, destroy, and how each is now."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field, create_model

from racimo.api.endpoint import LOGGED_IN, Answers, Routes, privilege
from racimo.api.guest_permissions import CONFIG as CONFIG_PRIVILEGES
from racimo.api.guest_permissions import demand_config
from racimo.api.inventory import Inventory
from racimo.api.parameters import OfNode
from racimo.api.resources import sees_guest
from racimo.api.restoring import restore_of
from racimo.errors import NotFound
from racimo.guest.config import parse_config, pending_keys, running_config
from racimo.guest.config_new import fill_in
from racimo.guest.config_options import FAMILIES, SCALARS
from racimo.guest.lifecycle import Lifecycle
from racimo.guest.operations import ConfigureGuest, CreateGuest, DestroyGuest
from racimo.guest.snapshots import demand_snapshot
from racimo.model.guest import MAX_VMID, MIN_VMID, RunState

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.guest.config import PendingKey
    from racimo.guest.lifecycle import GuestNow
    from racimo.model.guest import Guest
    from racimo.task.upid import Upid

AUDIT = privilege("/vms/{vmid}", "VM.Audit")
CONFIG = privilege("/vms/{vmid}", *CONFIG_PRIVILEGES)

VMID = Annotated[int, Field(ge=MIN_VMID, le=MAX_VMID, description="The guest's number.")]

HIDDEN = "**********"
"""Shown in place of a password's hash."""

routes = Routes()


class OfGuest(OfNode):
    """One guest."""

    vmid: VMID


class _Configured(OfNode):
    """Base of what takes configuration keys: families such as ``net0`` are read with ``more()``."""

    indexed: ClassVar[Mapping[str, int]] = {name: option.count or 0 for name, option in FAMILIES.items()}

    def config(self) -> dict[str, str]:
        """The configuration keys that were given; of a password only its hash, MAC addresses drawn."""
        scalars = {name: getattr(self, name) for name in SCALARS}
        given = {**{name: value for name, value in scalars.items() if value is not None}, **self.more()}
        return fill_in(given, secrets.randbits)


_OPTIONS = {name: (str | None, Field(default=None, description=option.description)) for name, option in SCALARS.items()}
if TYPE_CHECKING:
    _GuestOptions = _Configured  # the keys that are added below are read with ``config`` alone
else:
    _GuestOptions = create_model("_GuestOptions", __base__=_Configured, **_OPTIONS)


class NewGuest(_GuestOptions):
    """A guest to be made; all keys of qm.conf are taken."""

    vmid: VMID
    start: Annotated[bool, Field(description="Start it when it is made.")] = False
    archive: Annotated[str | None, Field(description="Restore this backup, such as local:backup/FILE.")] = None
    storage: Annotated[str, Field(description="With archive: for all disks; left out, each goes where it was.")] = ""
    unique: Annotated[bool, Field(description="With archive: new MAC addresses, another identity.")] = False
    force: Annotated[bool, Field(description="With archive: in place of the stopped guest of that number.")] = False


class ChangeGuest(_GuestOptions):
    """Keys of the configuration to set or delete."""

    vmid: VMID
    delete: Annotated[tuple[str, ...], Field(description="Keys to delete.")] = ()
    revert: Annotated[tuple[str, ...], Field(description="Keys whose pending change is dropped.")] = ()
    digest: Annotated[str, Field(description="Only if the configuration still has this digest.")] = ""
    background_delay: Annotated[int | None, Field(ge=1, le=30, description="Taken and not used.")] = None
    force: Annotated[bool, Field(description="Taken and not used: a disk is removed for good by unlink.")] = False
    skiplock: Annotated[bool, Field(description="Taken and not used: locks are never skipped.")] = False


class WhichConfig(OfGuest):
    """Which configuration."""

    current: Annotated[bool, Field(description="What the guest runs with, without what is pending.")] = False
    snapshot: Annotated[str, Field(description="What this snapshot holds.")] = ""


class DestroyOptions(OfGuest):
    """How to destroy."""

    purge: Annotated[bool, Field(description="Out of HA too.")] = False
    unreferenced: Annotated[
        bool,
        Field(alias="destroy-unreferenced-disks", description="Taken and not used: only what it names is removed."),
    ] = False
    skiplock: Annotated[bool, Field(description="Taken and not used: locks are never skipped.")] = False


@routes.add(
    "GET", "/nodes/{node}/qemu", permission=LOGGED_IN, answers=Answers.NODE, parameters=OfNode,
    summary="The guests of a node",
)  # fmt: skip
async def list_guests(context: Context, parameters: OfNode) -> list[dict[str, JsonValue]]:
    """By vmid."""
    life = context.services.need(Lifecycle)
    guests = context.services.need(Inventory).guests().values()
    mine = [guest for guest in guests if guest.node == parameters.node and sees_guest(context, guest.vmid)]
    found = await asyncio.gather(*(_now(life, guest) for guest in mine))
    return [shown(now) for now in found if now is not None]


@routes.add(
    "POST", "/nodes/{node}/qemu", permission=privilege("/vms/{vmid}", "VM.Allocate"), answers=Answers.NODE,
    parameters=NewGuest, task=True, summary="Create a guest, or restore one from a backup",
)  # fmt: skip
async def create_guest(context: Context, parameters: NewGuest) -> Upid:
    """Its disks are made first, then its record."""
    config = parameters.config()
    if parameters.archive is not None:
        restoring = await restore_of(
            context, parameters.vmid, parameters.archive, config, storage=parameters.storage, unique=parameters.unique,
            force=parameters.force, start=parameters.start,
        )  # fmt: skip
        return context.submit(restoring, context.services.need(Lifecycle))
    demand_config(context, parameters.vmid, config)
    operation = CreateGuest(vmid=parameters.vmid, config=config, start=parameters.start)
    return context.submit(operation, context.services.need(Lifecycle))


@routes.add(
    "GET", "/nodes/{node}/qemu/{vmid}/config", permission=AUDIT, answers=Answers.NODE, parameters=WhichConfig,
    summary="A guest's configuration",
)  # fmt: skip
async def get_config(context: Context, parameters: WhichConfig) -> dict[str, JsonValue]:
    """Its keys, and their digest. Numbers are numbers, as clients expect."""
    guest = of_node(context, parameters)
    if parameters.snapshot:
        view = await context.services.need(Lifecycle).records.view(parameters.vmid)
        return shown_config(demand_snapshot(view, parameters.snapshot).config)
    host = context.services.need(Lifecycle).host
    if parameters.current and parameters.vmid in host.vmids:
        return shown_config(running_config(host.started_with(parameters.vmid).config, guest.config))
    return shown_config(guest.config)


@routes.add(
    "GET", "/nodes/{node}/qemu/{vmid}/pending", permission=AUDIT, answers=Answers.NODE, parameters=OfGuest,
    summary="A guest's configuration with what waits for its next start",
)  # fmt: skip
async def get_pending(context: Context, parameters: OfGuest) -> list[dict[str, JsonValue]]:
    """One entry for each key: ``value`` now, ``pending`` or ``delete`` where that changes."""
    return pending_of(context, parameters)


def pending_of(context: Context, parameters: OfGuest) -> list[dict[str, JsonValue]]:
    """What ``get_pending`` answers."""
    guest, host = of_node(context, parameters), context.services.need(Lifecycle).host
    started = host.started_with(parameters.vmid).config if parameters.vmid in host.vmids else None
    return [_shown_pending(each) for each in pending_keys(started, guest.config)]


def _shown_pending(each: PendingKey) -> dict[str, JsonValue]:
    entry: dict[str, JsonValue] = {"key": each.key}
    if each.value is not None:
        entry["value"] = HIDDEN if each.key == "cipassword" else each.value
    if each.next is None:
        entry["delete"] = 1
    elif each.next != each.value:
        entry["pending"] = HIDDEN if each.key == "cipassword" else each.next
    return entry


def shown_config(mapping: Mapping[str, str]) -> dict[str, JsonValue]:
    """A configuration with its digest, without the password's hash."""
    config = parse_config(mapping)
    typed: dict[str, JsonValue] = {
        key: int(value) if value.isdecimal() and key != "name" else value for key, value in config.to_mapping().items()
    }
    if "cipassword" in typed:
        typed["cipassword"] = HIDDEN
    return {**typed, "digest": config.digest}


@routes.add(
    "PUT", "/nodes/{node}/qemu/{vmid}/config", permission=CONFIG, answers=Answers.NODE, parameters=ChangeGuest,
    summary="Change a guest's configuration",
)  # fmt: skip
async def change_config(context: Context, parameters: ChangeGuest) -> None:
    """Returns when it is done."""
    await context.services.tasks.run(_change(context, parameters), context.services.need(Lifecycle), context.who.user)


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/config", permission=CONFIG, answers=Answers.NODE, parameters=ChangeGuest,
    task=True, summary="Change a guest's configuration, as a task",
)  # fmt: skip
async def submit_config(context: Context, parameters: ChangeGuest) -> Upid:
    """For changes that take time, such as making disks."""
    return context.submit(_change(context, parameters), context.services.need(Lifecycle))


@routes.add(
    "DELETE", "/nodes/{node}/qemu/{vmid}", permission=privilege("/vms/{vmid}", "VM.Allocate"), answers=Answers.NODE,
    parameters=DestroyOptions, task=True, summary="Destroy a guest with its disks",
)  # fmt: skip
async def destroy_guest(context: Context, parameters: DestroyOptions) -> Upid:
    """It must be stopped."""
    operation = DestroyGuest(vmid=parameters.vmid, purge=parameters.purge)
    return context.submit(operation, context.services.need(Lifecycle))


@routes.add(
    "GET", "/nodes/{node}/qemu/{vmid}/status/current", permission=AUDIT, answers=Answers.NODE, parameters=OfGuest,
    summary="How a guest is now",
)  # fmt: skip
async def current_status(context: Context, parameters: OfGuest) -> dict[str, JsonValue]:
    """With what its process uses."""
    of_node(context, parameters)
    return shown(await context.services.need(Lifecycle).now(parameters.vmid))


def shown(now: GuestNow) -> dict[str, JsonValue]:
    """A guest's state with the Proxmox VE API's names."""
    config = parse_config(now.guest.config)
    state = now.runtime.state if now.runtime else RunState.STOPPED
    entry: dict[str, JsonValue] = {
        "vmid": now.guest.vmid, "name": now.guest.name, "status": "stopped" if now.process is None else "running",
        "qmpstatus": now.process.state if now.process else "stopped", "cpus": config.cpus,
        "maxmem": config.memory_bytes, "maxdisk": sum(drive.size or 0 for drive in config.disks.values()),
        "template": int(config.template), "tags": ";".join(config.tags or ()), "uptime": 0, "cpu": 0.0, "mem": 0,
        "ha": {"managed": int(now.ha)}, "epoch": now.guest.epoch, "state": str(state),
        "reason": now.runtime.reason if now.runtime else "",
    }  # fmt: skip
    if now.process is not None and now.process.usage is not None:
        usage = now.process.usage
        entry |= {"pid": now.process.pid, "mem": usage.memory, "uptime": int(usage.uptime), "cputime": usage.cpu}
    return entry


def _change(context: Context, parameters: ChangeGuest) -> ConfigureGuest:
    config = parameters.config()
    demand_config(context, parameters.vmid, config, (*parameters.delete, *parameters.revert))
    return ConfigureGuest(
        vmid=parameters.vmid, values=config, delete=parameters.delete, revert=parameters.revert,
        digest=parameters.digest,
    )  # fmt: skip


def of_node(context: Context, parameters: OfGuest) -> Guest:
    """The guest, if it is of the node that was asked for. Raises ``NotFound`` that says where it is."""
    guest = context.services.need(Inventory).guest(parameters.vmid)
    if guest.node != parameters.node:
        raise NotFound(
            f"Guest {parameters.vmid} does not exist on node '{parameters.node}'",
            why=f"it belongs to {guest.node}",
            todo=f"Ask for it there: /nodes/{guest.node}/qemu/{parameters.vmid}",
        )
    return guest


async def _now(life: Lifecycle, guest: Guest) -> GuestNow | None:
    try:
        return await life.now(guest.vmid)
    except NotFound:
        return None
