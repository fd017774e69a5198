"""The content of storages: looked at, made, removed, uploaded, and fetched from web servers."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.parameters import OfNode, bind
from racimo.api.resources import sees_guest
from racimo.api.routes.storages import AUDIT, StorageOnNode
from racimo.errors import BadParameter, BadRequest, Refused, Unauthorised
from racimo.model.guest import MAX_VMID, MIN_VMID
from racimo.storage.arrival import Arrival, check_sum_given
from racimo.storage.base import Content, VolumeId
from racimo.storage.fetch import Remote, look
from racimo.storage.operations import Download, RemoveVolume, TakeIn
from racimo.storage.volumes import Volumes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.storage.base import Volume
    from racimo.task.upid import Upid

UPLOAD_TIMEOUT = 6 * 3600.0
"""Seconds that a file may take to come."""
ALLOCATE = privilege("/storage/{storage}", "Datastore.Allocate")
SPACE = privilege("/storage/{storage}", "Datastore.AllocateSpace")
TEMPLATE = privilege("/storage/{storage}", "Datastore.AllocateTemplate")
NETWORK = privilege("/nodes/{node}", "Sys.AccessNetwork")
Arriving = Literal[Content.ISO, Content.VZTMPL, Content.IMPORT]
_SIZE = re.compile(r"([1-9][0-9]{0,14})([KMGT]?)")

routes = Routes()


class OfVolume(StorageOnNode):
    """One volume."""

    volume: Annotated[str, Field(description="Its id, such as local:iso/debian.iso; the storage may be left out.")]


class RemovedVolume(OfVolume):
    """A volume to remove."""

    delay: Annotated[int | None, Field(description="Has no effect: the answer is always a task.")] = None


class NewDisk(StorageOnNode):
    """A disk image to make."""

    vmid: Annotated[int, Field(ge=MIN_VMID, le=MAX_VMID, description="The guest that it is for.")]
    filename: Annotated[str, Field(description="Such as vm-100-disk-3.qcow2.")]
    size: Annotated[str, Field(description="KiB, or with M, G or T.")]
    format: Annotated[Literal["raw", "qcow2"] | None, Field(description="Else by the name's ending.")] = None


class Sum(StorageOnNode):
    """A checksum."""

    checksum: Annotated[str, Field(description="What the file's sum must be, in hex.")] = ""
    checksum_algorithm: Annotated[
        Literal["md5", "sha1", "sha224", "sha256", "sha384", "sha512"] | None,
        Field(alias="checksum-algorithm", description="How it is made."),
    ] = None


class Uploaded(Sum):
    """The fields of an upload, in the form before the file."""

    content: Annotated[Arriving | None, Field(description="iso, vztmpl or import; before the file.")] = None
    filename: Annotated[str, Field(description="The file itself, as a part of the form with its name.")] = ""
    tmpfilename: Annotated[str, Field(description="Has no effect.")] = ""


class Fetched(Sum):
    """A file to fetch."""

    url: Annotated[str, Field(max_length=4096, description="Where it is: https://…")]
    content: Annotated[Arriving, Field(description="iso, vztmpl or import.")]
    filename: Annotated[str, Field(description="Its name on the storage.")]
    verify_certificates: Annotated[
        bool, Field(alias="verify-certificates", description="Whether the server must prove who it is.")
    ] = True


class Looked(OfNode):
    """A file to look at."""

    url: Annotated[str, Field(max_length=4096, description="Where it is: https://…")]
    verify_certificates: Annotated[
        bool, Field(alias="verify-certificates", description="Whether the server must prove who it is.")
    ] = True


@routes.add(
    "GET", "/nodes/{node}/storage/{storage}/content/{volume*}", permission=AUDIT, answers=Answers.NODE,
    parameters=OfVolume, summary="One volume",
)  # fmt: skip
async def get_volume(context: Context, parameters: OfVolume) -> dict[str, JsonValue]:
    """With its file on the node."""
    volumes, named = context.services.need(Volumes), _named(parameters)
    found = await volumes.volume(named)
    _demand_sight(context, found)
    return {
        "path": str(await volumes.path(named)), "format": found.format, "size": found.size, "used": found.used,
        "volid": str(found.id),
    }  # fmt: skip


@routes.add(
    "DELETE", "/nodes/{node}/storage/{storage}/content/{volume*}", permission=ALLOCATE, answers=Answers.NODE,
    parameters=RemovedVolume, summary="Remove a volume for good", task=True,
)  # fmt: skip
async def remove_volume(context: Context, parameters: RemovedVolume) -> Upid:
    """Refused for the disk of a guest: it is removed there."""
    volumes, named = context.services.need(Volumes), _named(parameters)
    found = await volumes.volume(named)
    if found.content is Content.IMAGES:
        await _demand_unreferenced(context, named)
    return context.submit(RemoveVolume(volume=named), volumes)


@routes.add(
    "POST", "/nodes/{node}/storage/{storage}/content", permission=SPACE, answers=Answers.NODE, parameters=NewDisk,
    summary="Make an empty disk image",
)  # fmt: skip
async def allocate(context: Context, parameters: NewDisk) -> str:
    """Answers the volume's id."""
    match = _SIZE.fullmatch(parameters.size)
    if match is None:
        raise BadParameter({"size": "is no size such as 8G"})
    size = int(match[1]) << {"": 10, "K": 10, "M": 20, "G": 30, "T": 40}[match[2]]
    stem, dot, ending = parameters.filename.rpartition(".")
    image_format = parameters.format or (ending if dot and ending in ("raw", "qcow2") else "raw")
    file = parameters.filename if dot and stem else f"{parameters.filename}.{image_format}"
    try:
        named = VolumeId.parse(f"{parameters.storage}:{parameters.vmid}/{file}")
    except ValueError as error:
        raise BadParameter({"filename": str(error)}) from error
    if not re.fullmatch(rf"vm-{parameters.vmid}-[A-Za-z0-9][A-Za-z0-9_-]*\.{image_format}", file):
        raise BadParameter({"filename": f"is not of the form vm-{parameters.vmid}-NAME.{image_format}"})
    volumes = context.services.need(Volumes)
    made = await volumes.allocate(
        parameters.storage, parameters.vmid, size, image_format=image_format, name=named.name
    )  # fmt: skip
    return str(made)


@routes.add(
    "POST", "/nodes/{node}/storage/{storage}/upload", permission=TEMPLATE, answers=Answers.NODE, parameters=Uploaded,
    summary="Upload an ISO image, a container template or a disk to import", task=True, timeout=UPLOAD_TIMEOUT,
    upload=True,
)  # fmt: skip
async def upload(context: Context, parameters: Uploaded) -> Upid:
    """Written to the storage as it comes, named by the task when it is whole and its sum is right."""
    if context.upload is None:
        raise BadRequest("There is no file", why="a file is sent as multipart/form-data", todo="Send it so")
    volumes, size = context.services.need(Volumes), context.upload.size
    path: dict[str, str] = {"node": parameters.node, "storage": parameters.storage}

    async def begin(fields: Mapping[str, str], filename: str) -> Arrival:
        given = bind(Uploaded, dict(fields), path)
        if given.content is None:
            raise BadParameter({"content": "is missing: it stands in the form before the file"})
        return await volumes.driver(parameters.storage).arrive(given.content, filename, size)

    fields, sink = await context.upload.receive(begin)
    try:
        given = bind(Uploaded, fields, path)
        algorithm = given.checksum_algorithm or ""
        check_sum_given(algorithm, given.checksum)
        if not isinstance(sink, Arrival):
            raise TypeError("an upload goes to an arrival")
        return context.submit(TakeIn(arrival=sink, algorithm=algorithm, checksum=given.checksum), volumes)
    except BaseException:
        sink.discard()
        raise


@routes.add(
    "POST", "/nodes/{node}/storage/{storage}/download-url", permission=replace(TEMPLATE, also=(NETWORK,)),
    answers=Answers.NODE, parameters=Fetched, summary="Fetch a file from a web server", task=True,
)  # fmt: skip
async def download(context: Context, parameters: Fetched) -> Upid:
    """From public addresses; from private ones too for whoever has Sys.Modify on the datacenter."""
    volumes = context.services.need(Volumes)
    volumes.driver(parameters.storage)
    remote = Remote(parameters.url, parameters.verify_certificates, context.may("/", "Sys.Modify"))
    operation = Download(
        storage=parameters.storage, content=parameters.content, file=parameters.filename, remote=remote,
        algorithm=parameters.checksum_algorithm or "", checksum=parameters.checksum,
    )  # fmt: skip
    return context.submit(operation, volumes)


@routes.add(
    "GET", "/nodes/{node}/query-url-metadata", permission=NETWORK, answers=Answers.NODE, parameters=Looked,
    summary="What a web server says of a file", timeout=90.0,
)  # fmt: skip
async def query_url(context: Context, parameters: Looked) -> dict[str, JsonValue]:
    """Without fetching it."""
    anywhere = context.may("/", "Sys.Modify")
    found = await look(Remote(parameters.url, parameters.verify_certificates, anywhere))
    return {"filename": found.name, "size": found.size, "mimetype": found.kind}


def _named(parameters: OfVolume) -> VolumeId:
    given = parameters.volume if ":" in parameters.volume else f"{parameters.storage}:{parameters.volume}"
    try:
        named = VolumeId.parse(given)
    except ValueError as error:
        raise BadParameter({"volume": str(error)}) from error
    if named.storage != parameters.storage:
        raise BadParameter({"volume": f"'{named}' is not on the storage {parameters.storage}"})
    return named


def _demand_sight(context: Context, volume: Volume) -> None:
    storage = f"/storage/{volume.id.storage}"
    if volume.vmid is not None and not sees_guest(context, volume.vmid) and not context.may(storage, ALLOCATES):
        raise Unauthorised(f"Permission check failed (/vms/{volume.vmid}, VM.Audit)")


ALLOCATES = "Datastore.Allocate"


async def _demand_unreferenced(context: Context, volume: VolumeId) -> None:
    for guest in await context.services.layout.guests.records():
        if str(volume) in str(guest):
            raise Refused(
                f"The volume {volume} was not removed", why=f"guest {guest.vmid} ({guest.name}) has it",
                todo=f"Take it from the guest first: racimo guest disk --help, or destroy guest {guest.vmid}",
            )  # fmt: skip
