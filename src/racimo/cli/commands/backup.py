"""``racimo backup``: guests kept in archives, and brought back."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from racimo.cli.answer import rows
from racimo.cli.command import command, group
from racimo.cli.parameters import OnNode, StorageId, Vmid
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.cli.units import parse_bandwidth, size
from racimo.cli.view import Column, Done, Table
from racimo.errors import BadParameter

if TYPE_CHECKING:
    from racimo.cli.answer import Row

app = group("backup", "Guests kept in archives, and brought back.")

Keep = Annotated[
    str | None, typer.Option("--keep", metavar="LIST", help="What is kept of each guest: keep-last=3,keep-daily=7.")
]


def _when(backup: Row) -> str:
    return datetime.fromtimestamp(backup.number("ctime") or 0, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


_COLUMNS = (
    Column("Backup", lambda backup: backup.text("volid")),
    Column("Guest", lambda backup: backup.text("vmid"), number=True),
    Column("Taken", _when),
    Column("Size", lambda backup: size(backup.number("size")), number=True),
    Column("Protected", lambda backup: "yes" if backup.flag("protected") else "no"),
    Column("Notes", lambda backup: backup.text("notes").replace("\n", " ")),
)


@command(app, "list", example="racimo backup list local", then="racimo backup restore 100 STORAGE:backup/FILE")
async def list_backups(session: Session, storage: StorageId, node: OnNode = None) -> Table:
    """List the backups on a storage."""
    node = node or await session.local_node()
    path = f"/nodes/{part(node)}/storage/{part(storage)}/content"
    found = rows(await session.get(path, content="backup"))
    return Table(_COLUMNS, found, f"{storage} has no backups. Take one: racimo backup create 100 --storage {storage}")


@command(
    app, "create", task=True,
    example="racimo backup create 100 --storage local\n"
    'racimo backup create 100 101 --storage local --notes "before the upgrade" --keep keep-last=3',
    then="racimo backup list STORAGE",
)  # fmt: skip
async def create(
    session: Session,
    vmids: Annotated[list[int] | None, typer.Argument(metavar="VMID...", help="The guests' numbers.", min=1)] = None,
    every: Annotated[bool, typer.Option("--all", help="All guests of the node.")] = False,
    pool: Annotated[str | None, typer.Option("--pool", metavar="POOL", help="The node's guests of a pool.")] = None,
    storage: Annotated[str, typer.Option("--storage", metavar="STORAGE", help="Where to.")] = "local",
    mode: Annotated[
        str, typer.Option("--mode", metavar="MODE", help="What happens to running guests: snapshot, suspend or stop.")
    ] = "snapshot",
    uncompressed: Annotated[bool, typer.Option("--no-compress", help="Do not compress.")] = False,
    notes: Annotated[
        str | None, typer.Option("--notes", metavar="TEXT", help="Notes; {{guestname}} and {{vmid}} are filled in.")
    ] = None,
    protected: Annotated[bool, typer.Option("--protected", help="Protect the backups from removal.")] = False,
    keep: Keep = None,
    bwlimit: Annotated[
        str | None, typer.Option("--bwlimit", metavar="RATE", help="Bytes per second, such as 100M.")
    ] = None,
    node: OnNode = None,
) -> Started:
    """Back up guests of one node; running ones go on. One that fails stops no other."""
    limit: int | None = None
    if bwlimit is not None:
        try:
            limit = parse_bandwidth(bwlimit)
        except ValueError as error:
            raise BadParameter({"--bwlimit": f"{bwlimit!r} is not a rate; write it as 100M"}) from error
    if node is None:
        node = (await session.guest(vmids[0])).text("node") if vmids else await session.local_node()
    answer = await session.post(
        f"/nodes/{part(node)}/vzdump", vmid=",".join(map(str, vmids)) if vmids else None, all=1 if every else None,
        pool=pool, storage=storage, mode=mode, compress="0" if uncompressed else None,
        protected=1 if protected else None, bwlimit=limit, **{"notes-template": notes, "prune-backups": keep},
    )  # fmt: skip
    return Started(answer, f"The backups are on {storage}.", f"racimo backup list {storage}")


@command(
    app, "restore", task=True,
    example="racimo backup restore 100 local:backup/vzdump-qemu-100-2026_11_23-02_00_00.tar.zst --force\n"
    "racimo backup restore 101 local:backup/vzdump-qemu-100-2026_11_23-02_00_00.tar.zst --unique --start",
    then="racimo guest start 100",
)  # fmt: skip
async def restore(
    session: Session,
    vmid: Vmid,
    archive: Annotated[str, typer.Argument(metavar="BACKUP", help="The backup, such as local:backup/FILE.")],
    storage: Annotated[
        str | None, typer.Option("--storage", metavar="STORAGE", help="For all disks; without it where each was.")
    ] = None,
    unique: Annotated[bool, typer.Option("--unique", help="New MAC addresses, another identity.")] = False,
    force: Annotated[bool, typer.Option("--force", help="In place of the stopped guest of that number.")] = False,
    start: Annotated[bool, typer.Option("--start", help="Start it then.")] = False,
    node: OnNode = None,
) -> Started:
    """Make a guest from a backup. If it fails, nothing has changed."""
    if node is None:
        node = (await session.guest(vmid)).text("node") if force else await session.local_node()
    answer = await session.post(
        f"/nodes/{part(node)}/qemu", vmid=vmid, archive=archive, storage=storage, unique=1 if unique else None,
        force=1 if force else None, start=1 if start else None,
    )  # fmt: skip
    return Started(answer, f"Guest {vmid} is restored.", f"racimo guest status {vmid}")


@command(
    app, "set",
    example="racimo backup set local:backup/vzdump-qemu-100-2026_11_23-02_00_00.tar.zst --protected",
    then="racimo backup list STORAGE",
)  # fmt: skip
async def change(
    session: Session,
    archive: Annotated[str, typer.Argument(metavar="BACKUP", help="The backup, such as local:backup/FILE.")],
    notes: Annotated[str | None, typer.Option("--notes", metavar="TEXT", help="Its notes; empty: none.")] = None,
    protected: Annotated[
        bool | None, typer.Option("--protected/--unprotected", help="Whether it is protected from removal.")
    ] = None,
    node: OnNode = None,
) -> Done:
    """Change a backup's notes, or protect it."""
    storage, _, name = archive.partition(":")
    node = node or await session.local_node()
    path = f"/nodes/{part(node)}/storage/{part(storage)}/content/{part(name)}"
    answer = await session.put(path, notes=notes, protected=None if protected is None else int(protected))
    return Done(f"{archive} is changed.", answer, f"racimo backup list {storage}")


@command(
    app, "prune",
    example="racimo backup prune local --keep keep-last=3,keep-weekly=4 --dry-run",
    then="racimo backup list STORAGE",
)  # fmt: skip
async def prune(
    session: Session,
    storage: StorageId,
    keep: Annotated[str, typer.Option("--keep", metavar="LIST", help="What is kept of each guest: keep-last=3.")],
    vmid: Annotated[int | None, typer.Option("--vmid", metavar="VMID", help="Only this guest's.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    node: OnNode = None,
) -> Table | Done:
    """Remove old backups. Protected ones stay."""
    node = node or await session.local_node()
    path = f"/nodes/{part(node)}/storage/{part(storage)}/prunebackups"
    if dry_run:
        columns = [_COLUMNS[0], _COLUMNS[1], _COLUMNS[2], Column("Mark", lambda backup: backup.text("mark"))]
        found = rows(await session.get(path, vmid=vmid, **{"prune-backups": keep}))
        return Table(columns, found, f"{storage} has no backups.")
    answer = await session.delete(path, vmid=vmid, **{"prune-backups": keep})
    return Done(f"What {keep} does not keep is gone from {storage}.", answer, f"racimo backup list {storage}")
