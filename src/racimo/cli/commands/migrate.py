"""``racimo guest migrate``: move a guest to another node."""

from __future__ import annotations

from typing import Annotated

import typer

from racimo.cli.command import command
from racimo.cli.commands.guest import app
from racimo.cli.parameters import NodeName, Vmid
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.cli.units import parse_bandwidth
from racimo.errors import BadParameter


@command(
    app, "migrate", task=True,
    example="racimo guest migrate 100 n2\nracimo guest migrate 100 n2 --bwlimit 100M",
    then="racimo guest list",
)  # fmt: skip
async def migrate(
    session: Session,
    vmid: Vmid,
    node: NodeName,
    offline: Annotated[bool, typer.Option("--offline", help="Refuse to move it while it runs.")] = False,
    bwlimit: Annotated[
        str | None, typer.Option("--bwlimit", metavar="RATE", help="Bytes per second, such as 100M.")
    ] = None,
) -> Started:
    """Move a guest to another node: live when it runs, without copying where its disks are shared."""
    limit: int | None = None
    if bwlimit is not None:
        try:
            limit = parse_bandwidth(bwlimit)
        except ValueError as error:
            raise BadParameter({"--bwlimit": f"{bwlimit!r} is not a rate; write it as 100M"}) from error
    guest = await session.guest(vmid)
    online = not offline and guest.text("status") != "stopped"
    path = f"/nodes/{part(guest.text('node'))}/qemu/{vmid}/migrate"
    answer = await session.post(path, target=node, online=1 if online else 0, bwlimit=limit)
    how = "has moved live" if online else "has moved"
    return Started(answer, f"Guest {vmid} {how} from {guest.text('node')} to {node}.", "racimo guest list")
