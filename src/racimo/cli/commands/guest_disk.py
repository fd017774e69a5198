"""``racimo guest clone``, ``template`` and ``disk``: guests made from guests, and single disks."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import Json
from racimo.cli.command import command, group
from racimo.cli.commands import guest
from racimo.cli.parameters import Vmid
from racimo.cli.run import Started
from racimo.cli.session import Session
from racimo.cli.view import Done

app = group("disk", "Single disks of a guest: grow, move, give to another guest, unplug.")

Disk = Annotated[str, typer.Argument(metavar="DISK", help="Such as scsi0, or unused0.")]
_Format = Annotated[str | None, typer.Option("--format", metavar="FORMAT", help="raw or qcow2.")]


@command(
    guest.app, "clone", task=True,
    example="racimo guest clone 100 101 --name web2\nracimo guest clone 100 next --full --storage fast",
    then="racimo guest start 101",
)  # fmt: skip
async def clone(
    session: Session,
    vmid: Vmid,
    newid: Annotated[str, typer.Argument(metavar="NEWID", help="Its number, or next for a free one.")],
    name: Annotated[str | None, typer.Option("--name", metavar="NAME", help="Its name.")] = None,
    full: Annotated[
        bool | None, typer.Option("--full/--linked", help="With disks of its own, or sharing those of a template.")
    ] = None,
    storage: Annotated[str | None, typer.Option("--storage", metavar="STORAGE", help="Where copies go.")] = None,
    image_format: _Format = None,
    snapshot: Annotated[str | None, typer.Option("--snapshot", metavar="NAME", help="Clone this snapshot.")] = None,
    target: Annotated[str | None, typer.Option("--target", metavar="NODE", help="Its node.")] = None,
    description: Annotated[str | None, typer.Option("--description", metavar="TEXT", help="Notes for people.")] = None,
) -> Started:
    """Make a guest from another, running or not, or from a template, of which it is a linked clone by default."""
    number = str(await session.get("/cluster/nextid")) if newid == "next" else newid
    answer = await session.post(
        await session.guest_path(vmid) + "/clone", newid=number, name=name, storage=storage, format=image_format,
        full=None if full is None else int(full), snapname=snapshot, target=target, description=description,
    )  # fmt: skip
    return Started(answer, f"Guest {number} was made from guest {vmid}.", f"racimo guest start {number}")


@command(guest.app, "template", task=True, example="racimo guest template 100", then="racimo guest clone 100 101")
async def template(session: Session, vmid: Vmid) -> Started:
    """Turn a stopped guest into a template, for good: it never runs again, and clones share its disks."""
    answer = await session.post(await session.guest_path(vmid) + "/template")
    return Started(answer, f"Guest {vmid} is a template.", f"racimo guest clone {vmid} next")


@command(
    app, "resize", task=True, example="racimo guest disk resize 100 scsi0 +5G\nracimo guest disk resize 100 scsi0 40G",
    then="racimo guest config 100",
)  # fmt: skip
async def resize(
    session: Session,
    vmid: Vmid,
    disk: Disk,
    size: Annotated[str, typer.Argument(metavar="SIZE", help="The new size, or what is added: +5G.")],
) -> Started:
    """Grow a disk, also while the guest runs. Disks never shrink."""
    answer = await session.put(await session.guest_path(vmid) + "/resize", disk=disk, size=size)
    return Started(answer, f"{disk} of guest {vmid} has grown.", f"racimo guest config {vmid}")


@command(
    app, "move", task=True,
    example="racimo guest disk move 100 scsi0 fast --delete\nracimo guest disk move 100 scsi0 local --format qcow2",
    then="racimo guest config 100",
)  # fmt: skip
async def move(
    session: Session,
    vmid: Vmid,
    disk: Disk,
    storage: Annotated[str, typer.Argument(metavar="STORAGE", help="Where it goes.")],
    image_format: _Format = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the original; else it is kept as unused.")] = False,
) -> Started:
    """Move a disk to another storage or format, also while the guest runs and writes to it."""
    path = await session.guest_path(vmid) + "/move_disk"
    answer = await session.post(path, disk=disk, storage=storage, format=image_format, delete=1 if delete else 0)
    return Started(answer, f"{disk} of guest {vmid} is on {storage}.", f"racimo guest config {vmid}")


@command(
    app, "give", task=True, example="racimo guest disk give 100 scsi1 101 --as scsi0", then="racimo guest config 101"
)
async def give(
    session: Session,
    vmid: Vmid,
    disk: Disk,
    target: Annotated[int, typer.Argument(metavar="TARGET", help="The other guest's number, on the same node.")],
    target_disk: Annotated[
        str | None, typer.Option("--as", metavar="DISK", help="What it is there; without it the same.")
    ] = None,
) -> Started:
    """Give a disk to another guest of the same node. Neither may run, unless it is unused on both sides."""
    parameters: dict[str, Json] = {"disk": disk, "target-vmid": target, "target-disk": target_disk}
    answer = await session.post(await session.guest_path(vmid) + "/move_disk", **parameters)
    return Started(answer, f"{disk} of guest {vmid} belongs to guest {target}.", f"racimo guest config {target}")


@command(
    app, "unlink", example="racimo guest disk unlink 100 scsi1\nracimo guest disk unlink 100 unused0",
    then="racimo guest config 100",
)  # fmt: skip
async def unlink(
    session: Session,
    vmid: Vmid,
    disk: Disk,
    force: Annotated[bool, typer.Option("--force", help="Remove its volume at once.")] = False,
) -> Done:
    """Unplug a disk, which is kept as unused; an unused one is removed for good."""
    path = await session.guest_path(vmid) + "/unlink"
    answer = await session.put(path, idlist=disk, force=1 if force else 0)
    return Done(f"{disk} of guest {vmid} is unlinked.", answer, f"racimo guest config {vmid}")


guest.app.add_typer(app)
