"""``racimo pool``: guests and storages whose permissions are given together."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.answer import row, rows
from racimo.cli.command import command, group
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Table
from racimo.errors import BadParameter

app = group("pool", "Guests and storages whose permissions are given together.")

PoolName = Annotated[str, typer.Argument(metavar="POOL", help="The pool's name; a/b is inside a.")]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="A note for people.")]
Guests = Annotated[str | None, typer.Option("--vms", metavar="LIST", help="Guests, by number.")]
Storages = Annotated[str | None, typer.Option("--storage", metavar="LIST", help="Storages.")]

_POOLS = (
    Column("Pool", lambda pool: pool.text("poolid")),
    Column("Comment", lambda pool: pool.text("comment")),
)
_MEMBERS = (
    Column("Type", lambda member: member.text("type")),
    Column("Id", lambda member: member.text("vmid") or member.text("storage")),
    Column("Name", lambda member: member.text("name")),
    Column("Node", lambda member: member.text("node")),
    Column("State", lambda member: member.text("status")),
)


@command(app, "list", example="racimo pool list", then="racimo pool add lab")
async def list_pools(session: Session) -> Table:
    """List the pools."""
    return Table(_POOLS, rows(await session.get("/pools")), "There is no pool. Add one: racimo pool add lab")


@command(app, "show", example="racimo pool show lab")
async def show(session: Session, pool: PoolName) -> Table:
    """List the members of a pool."""
    found = row(await session.get(f"/pools/{part(pool)}"))
    empty = f"{pool} is empty. Put a guest into it: racimo pool set {pool} --vms 100"
    return Table(_MEMBERS, rows(found.fields.get("members")), empty)


@command(
    app, "add", example="racimo pool add lab --comment 'For trying things out'",
    then="racimo access acl add /pool/lab --group staff --role PVEVMAdmin",
)  # fmt: skip
async def add(session: Session, pool: PoolName, comment: Comment = None) -> Done:
    """Add a pool."""
    answer = await session.post("/pools", poolid=pool, comment=comment)
    return Done(f"Pool {pool} is added.", answer, f"racimo pool set {pool} --vms 100")


@command(
    app, "set", example="racimo pool set lab --vms 100,101 --storage fast\nracimo pool set lab --vms 100 --take-out"
)
async def change(
    session: Session,
    pool: PoolName,
    vms: Guests = None,
    storage: Storages = None,
    comment: Comment = None,
    take_out: Annotated[bool, typer.Option("--take-out", help="Take them out instead of putting them in.")] = False,
    allow_move: Annotated[bool, typer.Option("--allow-move", help="Take guests from the pool they are in.")] = False,
) -> Done:
    """Put guests and storages into a pool, or take them out."""
    if vms is None and storage is None and comment is None:
        raise BadParameter({"--vms": "nothing to change was given"}, todo=f"racimo pool set {pool} --vms 100")
    fields = {
        "vms": vms,
        "storage": storage,
        "comment": comment,
        "delete": int(take_out),
        "allow-move": int(allow_move),
    }
    answer = await session.put(f"/pools/{part(pool)}", **fields)
    return Done(f"Pool {pool} is changed.", answer, f"racimo pool show {pool}")


@command(app, "remove", example="racimo pool remove lab", then="racimo pool list")
async def remove(session: Session, pool: PoolName) -> Done:
    """Remove an empty pool with its permissions."""
    answer = await session.delete(f"/pools/{part(pool)}")
    return Done(f"Pool {pool} is removed.", answer)
