"""``racimo guest pending``, ``cloudinit`` and ``agent``: what waits, and what the guest itself is told and tells."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from racimo.cli.answer import Json, row, rows
from racimo.cli.command import command
from racimo.cli.commands import guest
from racimo.cli.parameters import Vmid
from racimo.cli.session import Session, part
from racimo.cli.view import Column, Done, Facts, Table
from racimo.errors import BadParameter

_COLUMNS = (
    Column("Key", lambda entry: entry.text("key")),
    Column("Now", lambda entry: entry.text("value", "-")),
    Column("At the next start", lambda entry: "deleted" if entry.flag("delete") else entry.text("pending")),
)


@command(guest.app, "pending", example="racimo guest pending 100", then="racimo guest set 100 --revert memory")
async def pending(session: Session, vmid: Vmid) -> Table:
    """Show which changes of a running guest's configuration wait for its next start."""
    found = rows(await session.get(await session.guest_path(vmid) + "/pending"))
    waiting = [entry for entry in found if "pending" in entry or "delete" in entry]
    return Table(_COLUMNS, waiting, "Nothing waits: the guest runs with its configuration, or is off.")


@command(
    guest.app, "cloudinit", example="racimo guest cloudinit 100\nracimo guest cloudinit 100 --dump user",
    then="racimo guest reboot 100",
)  # fmt: skip
async def cloudinit(
    session: Session,
    vmid: Vmid,
    dump: Annotated[
        str | None, typer.Option("--dump", metavar="FILE", help="Only show a file: user, network or meta.")
    ] = None,
) -> Done | Facts:
    """Make a guest's cloud-init seed anew from its configuration, also while it runs; or show what it holds."""
    path = await session.guest_path(vmid) + "/cloudinit"
    if dump is not None:
        text = await session.get(path + "/dump", type=dump)
        return Facts([(dump, str(text))], {dump: text})
    answer = await session.put(path)
    return Done(f"Guest {vmid} has a new seed.", answer, f"racimo guest reboot {vmid}")


@command(
    guest.app, "agent",
    example="racimo guest agent 100 network-get-interfaces\nracimo guest agent 100 fstrim",
    then="racimo guest status 100",
)  # fmt: skip
async def agent(
    session: Session,
    vmid: Vmid,
    name: Annotated[str, typer.Argument(metavar="COMMAND", help="The agent's command, without guest-.")],
) -> Facts:
    """Ask a guest's agent, or have it act: get-osinfo, network-get-interfaces, fsfreeze-status, fstrim and others."""
    if not name.replace("-", "").isalpha():
        raise BadParameter(
            {"COMMAND": f"{name!r} is no command of the agent"}, todo="racimo guest agent 100 get-osinfo"
        )
    path = f"{await session.guest_path(vmid)}/agent/{part(name)}"
    reads = name.startswith(("get-", "network-get")) or name == "info"
    answer = row(await (session.get(path) if reads else session.post(path)))
    result: Json = answer.fields.get("result")
    if isinstance(result, dict):
        return Facts([(key, _shown(value)) for key, value in result.items()], answer.fields)
    entries = result if isinstance(result, list) else [result]
    return Facts([(str(number), _shown(entry)) for number, entry in enumerate(entries)], answer.fields)


def _shown(value: Json) -> str:
    return value if isinstance(value, str) else json.dumps(value)
