"""``racimo guest snapshot`` and ``racimo guest rollback``: a guest as it was."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from racimo.cli.answer import row, rows
from racimo.cli.command import command, group
from racimo.cli.commands import guest
from racimo.cli.parameters import Vmid
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Facts, Table

if TYPE_CHECKING:
    from racimo.cli.answer import Row

app = group("snapshot", "Snapshots of a guest's disks, and of its memory.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="The snapshot's name.")]


def _when(snapshot: Row) -> str:
    taken = snapshot.number("snaptime")
    return datetime.fromtimestamp(taken, UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if taken else "now"


_COLUMNS = (
    Column("Name", lambda snapshot: snapshot.text("name")),
    Column("Taken", _when),
    Column("After", lambda snapshot: snapshot.text("parent", "-")),
    Column("Memory", lambda snapshot: "yes" if snapshot.flag("vmstate") else "no"),
    Column("State", lambda snapshot: snapshot.text("snapstate", "-")),
    Column("Description", lambda snapshot: snapshot.text("description")),
)


@command(app, "list", example="racimo guest snapshot list 100", then="racimo guest rollback 100 NAME")
async def list_snapshots(session: Session, vmid: Vmid) -> Table:
    """List a guest's snapshots; the last line is the guest as it is now."""
    found = rows(await session.get(await session.guest_path(vmid) + "/snapshot"))
    return Table(_COLUMNS, found, "The guest has no snapshots.")


@command(
    app, "create", task=True,
    example="racimo guest snapshot create 100 before-upgrade\nracimo guest snapshot create 100 live --memory",
    then="racimo guest rollback 100 before-upgrade",
)  # fmt: skip
async def create(
    session: Session,
    vmid: Vmid,
    name: Name,
    memory: Annotated[bool, typer.Option("--memory", help="Save the running guest's memory too.")] = False,
    description: Annotated[str, typer.Option("--description", metavar="TEXT", help="Notes for people.")] = "",
) -> Started:
    """Take a snapshot of all disks at one instant. The disks must be qcow2."""
    path = await session.guest_path(vmid) + "/snapshot"
    answer = await session.post(path, snapname=name, description=description or None, vmstate=1 if memory else 0)
    return Started(answer, f"Snapshot {name} of guest {vmid} exists.", f"racimo guest rollback {vmid} {name}")


@command(app, "show", example="racimo guest snapshot show 100 before-upgrade", then="racimo guest snapshot list 100")
async def show(session: Session, vmid: Vmid, name: Name) -> Facts:
    """Show the configuration that a snapshot holds."""
    answer = row(await session.get(f"{await session.guest_path(vmid)}/snapshot/{part(name)}/config"))
    return Facts([(key, answer.text(key)) for key in sorted(answer)], answer.fields)


@command(
    app, "describe", example='racimo guest snapshot describe 100 live "before the move"',
    then="racimo guest snapshot list 100",
)  # fmt: skip
async def describe(
    session: Session,
    vmid: Vmid,
    name: Name,
    description: Annotated[str, typer.Argument(metavar="TEXT", help="Notes for people.")],
) -> Done:
    """Change a snapshot's description."""
    path = f"{await session.guest_path(vmid)}/snapshot/{part(name)}/config"
    answer = await session.put(path, description=description)
    return Done(f"Snapshot {name} of guest {vmid} is described.", answer, f"racimo guest snapshot list {vmid}")


@command(
    app, "delete", task=True, example="racimo guest snapshot delete 100 before-upgrade",
    then="racimo guest snapshot list 100",
)  # fmt: skip
async def delete(
    session: Session,
    vmid: Vmid,
    name: Name,
    force: Annotated[
        bool, typer.Option("--force", help="Forget it, even where a disk's part cannot be deleted.")
    ] = False,
) -> Started:
    """Delete a snapshot; the guest may run."""
    path = f"{await session.guest_path(vmid)}/snapshot/{part(name)}"
    answer = await session.delete(path, force=1 if force else None)
    return Started(answer, f"Snapshot {name} of guest {vmid} is gone.", f"racimo guest snapshot list {vmid}")


@command(
    guest.app, "rollback", task=True,
    example="racimo guest rollback 100 before-upgrade --start", then="racimo guest status 100",
)  # fmt: skip
async def rollback(
    session: Session,
    vmid: Vmid,
    name: Name,
    start: Annotated[bool, typer.Option("--start", help="Start it then, also without saved memory.")] = False,
) -> Started:
    """Take a guest back to a snapshot: what it did since is lost. With saved memory it goes on where it was."""
    path = f"{await session.guest_path(vmid)}/snapshot/{part(name)}/rollback"
    answer = await session.post(path, start=1 if start else None)
    return Started(answer, f"Guest {vmid} is as it was in {name}.", f"racimo guest status {vmid}")


guest.app.add_typer(app)
