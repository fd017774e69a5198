"""Storages: definitions of the datacenter, and what is on them as a node sees it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.api.endpoint import LOGGED_IN, Answers, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import OfNode, Parameters
from racimo.api.resources import SEE_STORAGE, sees_guest, sees_storage
from racimo.errors import AlreadyExists, NotFound, RacimoError, Refused
from racimo.guest.config import parse_config
from racimo.model.storage import Storage
from racimo.storage.base import Content
from racimo.storage.volumes import OPTIONS, Volumes, check_definition

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.storage.base import Usage, Volume

ANSWER_TIMEOUT = 5.0
"""Seconds for a storage to say how full it is; one that hangs is shown as not active."""
AUDIT = privilege("/storage/{storage}", *SEE_STORAGE)
ALLOCATE = privilege("/storage", "Datastore.Allocate")

routes = Routes()


class OfStorage(Parameters):
    """One storage."""

    storage: Annotated[str, Field(description="The storage's id.")]


class StorageOptions(OfStorage):
    """What can be changed of a storage."""

    content: Annotated[tuple[str, ...] | None, Field(description="images, iso, import, vztmpl, snippets.")] = None
    nodes: Annotated[tuple[str, ...] | None, Field(description="Nodes that have it; empty: all.")] = None
    shared: Annotated[bool | None, Field(description="All its nodes see the same content.")] = None
    disable: Annotated[bool | None, Field(description="Do not use it.")] = None
    is_mountpoint: Annotated[str | None, Field(description=OPTIONS["dir"]["is_mountpoint"])] = None
    mkdir: Annotated[str | None, Field(description=OPTIONS["dir"]["mkdir"])] = None
    format: Annotated[str | None, Field(description=OPTIONS["dir"]["format"])] = None
    preallocation: Annotated[str | None, Field(description=OPTIONS["dir"]["preallocation"])] = None


class NewStorage(StorageOptions):
    """A new storage."""

    type: Annotated[str, Field(description="The kind of storage: dir.")]
    path: Annotated[str, Field(description="The directory, the same on all its nodes.")] = ""


class StorageOnNode(OfNode, OfStorage):
    """A storage as one node sees it."""


class ListContent(StorageOnNode):
    """What to list."""

    content: Annotated[Content | None, Field(description="Only this kind.")] = None
    vmid: Annotated[int | None, Field(description="Only volumes of this guest.")] = None


@routes.add("GET", "/storage", permission=LOGGED_IN, summary="The storage definitions")
async def list_storages(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """All of them, by id."""
    inventory = context.services.need(Inventory)
    return [shown(storage) for name, storage in sorted(inventory.storages().items()) if sees_storage(context, name)]


@routes.add("GET", "/storage/{storage}", permission=AUDIT, parameters=OfStorage, summary="A storage definition")
async def get_storage(context: Context, parameters: OfStorage) -> dict[str, JsonValue]:
    """As it is written in the store."""
    return shown(_defined(context, parameters.storage))


@routes.add("POST", "/storage", permission=ALLOCATE, parameters=NewStorage, summary="Define a storage")
async def create_storage(context: Context, parameters: NewStorage) -> dict[str, JsonValue]:
    """Every node that it is for uses it at once."""
    storage = _changed(Storage(id=parameters.storage, type=parameters.type, path=parameters.path), parameters)
    check_definition(storage)
    _check_nodes(context, storage)
    try:
        await context.services.layout.storages.create(storage.id, storage)
    except AlreadyExists as error:
        raise AlreadyExists(
            f"storage ID '{storage.id}' already defined",
            why="ids are unique in the datacenter",
            todo="Choose another id; see: racimo storage list",
        ) from error
    return {"storage": storage.id, "type": storage.type}


@routes.add("PUT", "/storage/{storage}", permission=ALLOCATE, parameters=StorageOptions, summary="Change a storage")
async def change_storage(context: Context, parameters: StorageOptions) -> dict[str, JsonValue]:
    """Options that are not given stay as they are."""
    _defined(context, parameters.storage)

    def change(storage: Storage) -> Storage:
        new = _changed(storage, parameters)
        check_definition(new)
        return new

    storage = await context.services.layout.storages.update(parameters.storage, change)
    return {"storage": storage.id, "type": storage.type}


@routes.add("DELETE", "/storage/{storage}", permission=ALLOCATE, parameters=OfStorage, summary="Remove a definition")
async def remove_storage(context: Context, parameters: OfStorage) -> None:
    """The content stays where it is. Refused while guests have disks on it."""
    _defined(context, parameters.storage)
    guests = await context.services.layout.guests.records()
    users = [guest for guest in guests if parameters.storage in _storages_of(guest.config)]
    if users:
        names = ", ".join(f"{guest.vmid} ({guest.name})" for guest in users[:5])
        raise Refused(
            f"The storage {parameters.storage} is in use",
            why=f"{len(users)} guests have volumes on it: {names}",
            todo="Move or destroy these guests first",
        )
    await context.services.layout.storages.remove(parameters.storage)


@routes.add(
    "GET", "/nodes/{node}/storage", permission=LOGGED_IN, answers=Answers.NODE,
    parameters=OfNode, summary="The storages of a node, and how full they are",
)  # fmt: skip
async def node_storages(context: Context, parameters: OfNode) -> list[dict[str, JsonValue]]:
    """A storage that does not answer is shown as not active, with the reason."""
    volumes = context.services.need(Volumes)
    usable = [storage for storage in volumes.usable() if sees_storage(context, storage.id)]
    return list(await asyncio.gather(*(_with_usage(volumes, storage) for storage in usable)))


@routes.add(
    "GET", "/nodes/{node}/storage/{storage}/status", permission=AUDIT, answers=Answers.NODE, parameters=StorageOnNode,
    summary="How full a storage is",
)  # fmt: skip
async def storage_status(context: Context, parameters: StorageOnNode) -> dict[str, JsonValue]:
    """As the list of a node's storages shows it."""
    volumes = context.services.need(Volumes)
    return await _with_usage(volumes, volumes.definition(parameters.storage))


@routes.add(
    "GET", "/nodes/{node}/storage/{storage}/content", permission=AUDIT, answers=Answers.NODE, parameters=ListContent,
    summary="What is on a storage",
)  # fmt: skip
async def list_content(context: Context, parameters: ListContent) -> list[dict[str, JsonValue]]:
    """Volumes by id."""
    found = await context.services.need(Volumes).volumes(parameters.storage, parameters.content, parameters.vmid)
    every = context.may(f"/storage/{parameters.storage}", "Datastore.Allocate")
    return [_volume(v) for v in found if every or v.vmid is None or sees_guest(context, v.vmid)]


def shown(storage: Storage) -> dict[str, JsonValue]:
    """A definition with the Proxmox VE API's names."""
    fields: dict[str, JsonValue] = {
        "storage": storage.id, "type": storage.type, "path": storage.path, "content": ",".join(storage.content),
        "shared": int(storage.shared),
    }  # fmt: skip
    if storage.nodes:
        fields["nodes"] = ",".join(storage.nodes)
    if storage.disabled:
        fields["disable"] = 1
    return {**fields, **dict(storage.options)}


def _defined(context: Context, storage_id: str) -> Storage:
    known = context.services.need(Inventory).storages()
    storage = known.get(storage_id)
    if storage is None:
        raise NotFound(
            f"storage '{storage_id}' does not exist",
            why=f"the datacenter has {', '.join(sorted(known)) or 'none'}",
            todo="See the storages: racimo storage list",
        )
    return storage


def _changed(storage: Storage, parameters: StorageOptions) -> Storage:
    options = dict(storage.options)
    for name in OPTIONS.get(storage.type, {}):
        value = getattr(parameters, name, None)
        if value is not None:
            options[name] = value
    return replace(
        storage,
        content=storage.content if parameters.content is None else parameters.content,
        nodes=storage.nodes if parameters.nodes is None else parameters.nodes,
        shared=storage.shared if parameters.shared is None else parameters.shared,
        disabled=storage.disabled if parameters.disable is None else parameters.disable,
        options=tuple(sorted(options.items())),
    )


def _check_nodes(context: Context, storage: Storage) -> None:
    known = context.services.need(Inventory).nodes()
    for node in storage.nodes:
        if node not in known:
            raise NotFound(
                f"node '{node}' does not exist",
                why=f"the datacenter has {', '.join(sorted(known))}",
                todo="See the nodes: racimo node list",
            )


def _storages_of(config: dict[str, str]) -> set[str]:
    return {drive.storage for drive in parse_config(config).drives.values() if drive.storage}


async def _with_usage(volumes: Volumes, storage: Storage) -> dict[str, JsonValue]:
    fields = {**shown(storage), "enabled": 1, "active": 0}
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            usage: Usage = await volumes.driver(storage.id).usage()
    except (RacimoError, TimeoutError) as error:
        return {**fields, "why": str(error) or f"it did not answer within {ANSWER_TIMEOUT:g} s"}
    share = usage.used / usage.total if usage.total else 0.0
    return {
        **fields, "active": 1, "total": usage.total, "used": usage.used, "avail": usage.free, "used_fraction": share,
    }  # fmt: skip


def _volume(volume: Volume) -> dict[str, JsonValue]:
    fields: dict[str, JsonValue] = {
        "volid": str(volume.id), "content": str(volume.content), "format": volume.format, "size": volume.size,
        "used": volume.used, "ctime": int(volume.ctime),
    }  # fmt: skip
    if volume.content is Content.BACKUP:
        fields |= {"subtype": "qemu", "protected": int(volume.protected)}
        if volume.notes:
            fields["notes"] = volume.notes
    return {**fields, "vmid": volume.vmid} if volume.vmid is not None else fields
