"""``racimo storage``: where guests keep their disks."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import Row, rows
from racimo.cli.command import command, group
from racimo.cli.parameters import OnNode, StorageId
from racimo.cli.session import Session, part
from racimo.cli.units import percent, size
from racimo.cli.view import Column, Done, Table

app = group("storage", "Where guests keep their disks.")


def _used(entry: Row) -> str:
    used, total = entry.number("used"), entry.number("total")
    return percent(used / total) if used is not None and total else "-"


_COLUMNS = (
    Column("Storage", lambda entry: entry.text("storage")),
    Column("Type", lambda entry: entry.text("type")),
    Column("Shared", lambda entry: "yes" if entry.flag("shared") else "no"),
    Column("State", lambda entry: "active" if entry.flag("active") else "offline"),
    Column("Content", lambda entry: entry.text("content")),
    Column("Size", lambda entry: size(entry.number("total")), number=True),
    Column("Free", lambda entry: size(entry.number("avail")), number=True),
    Column("Used", _used, number=True),
)


@command(
    app, "list", example="racimo storage list\nracimo storage list --node n2", then="racimo storage content STORAGE"
)
async def list_storages(session: Session, node: OnNode = None) -> Table:
    """List the storages as a node sees them, with their space."""
    node = node or await session.local_node()
    entries = rows(await session.get(f"/nodes/{part(node)}/storage"))
    empty = "There is no storage. Add one: racimo storage add NAME --type dir --path /srv/guests"
    return Table(_COLUMNS, sorted(entries, key=lambda entry: entry.text("storage")), empty)


@command(
    app, "add",
    example="racimo storage add local2 --type dir --path /srv/guests\n"
    "racimo storage add common --type dir --path /mnt/common --shared",
    then="racimo guest create 100 --scsi0 STORAGE:8",
)  # fmt: skip
async def add(
    session: Session,
    storage: StorageId,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="How it is driven: dir.")] = "dir",
    path: Annotated[str | None, typer.Option("--path", metavar="PATH", help="The directory, for type dir.")] = None,
    shared: Annotated[
        bool, typer.Option("--shared", help="All nodes see the same content there: guests move without copying.")
    ] = False,
    content: Annotated[
        str | None, typer.Option("--content", metavar="LIST", help="What it is for, such as images,iso.")
    ] = None,
    nodes: Annotated[
        str | None, typer.Option("--nodes", metavar="LIST", help="The nodes that have it; without it all.")
    ] = None,
) -> Done:
    """Define a storage for the datacenter."""
    answer = await session.post(
        "/storage", storage=storage, type=kind, path=path, shared=1 if shared else None, content=content, nodes=nodes
    )
    return Done(f"Storage {storage} is defined.", answer, f"racimo guest create 100 --scsi0 {storage}:8")


@command(app, "remove", example="racimo storage remove local2", then="racimo storage list")
async def remove(session: Session, storage: StorageId) -> Done:
    """Forget a storage. What it holds stays where it is."""
    answer = await session.delete(f"/storage/{part(storage)}")
    return Done(f"Storage {storage} is no longer defined; its content was not touched.", answer)


@command(app, "content", example="racimo storage content local", then="racimo guest list")
async def content(session: Session, storage: StorageId, node: OnNode = None) -> Table:
    """List the volumes in a storage."""
    node = node or await session.local_node()
    volumes = rows(await session.get(f"/nodes/{part(node)}/storage/{part(storage)}/content"))
    columns = [
        Column("Volume", lambda volume: volume.text("volid")),
        Column("Content", lambda volume: volume.text("content")),
        Column("Format", lambda volume: volume.text("format")),
        Column("Guest", lambda volume: volume.text("vmid", "-"), number=True),
        Column("Size", lambda volume: size(volume.number("size")), number=True),
    ]
    return Table(columns, volumes, f"{storage} is empty. Give a guest a disk there: --scsi0 {storage}:8")
