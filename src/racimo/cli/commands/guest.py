"""``racimo guest``: the virtual machines, their configuration and their console."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from racimo.cli.answer import Json, row
from racimo.cli.command import command, group
from racimo.cli.interrupts import raising
from racimo.cli.parameters import OnNode, Vmid, assignments
from racimo.cli.run import Started
from racimo.cli.session import Session, is_upid, part
from racimo.cli.units import size, span
from racimo.cli.view import Column, Done, Facts, Table
from racimo.errors import BadParameter

app = group("guest", "The guests: virtual machines, wherever in the datacenter they are.")

Assigned = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Any configuration key; may be repeated."),
]


def _text(name: str, text: str) -> typer.models.OptionInfo:
    option: typer.models.OptionInfo = typer.Option(f"--{name}", metavar="VALUE", help=text)
    return option


_COLUMNS = (
    Column("VMID", lambda guest: guest.text("vmid"), number=True),
    Column("Name", lambda guest: guest.text("name")),
    Column("State", lambda guest: guest.text("status")),
    Column("Node", lambda guest: guest.text("node")),
    Column("HA", lambda guest: guest.text("hastate", "-")),
    Column("CPUs", lambda guest: guest.text("maxcpu", "-"), number=True),
    Column("Memory", lambda guest: size(guest.number("maxmem")), number=True),
)


@command(app, "list", example="racimo guest list\nracimo guest list --node n2", then="racimo guest start VMID")
async def list_guests(session: Session, node: OnNode = None) -> Table:
    """List the guests of the whole datacenter, or of one node."""
    guests = [guest for guest in await session.guests() if node in (None, guest.text("node"))]
    return Table(
        _COLUMNS, guests, "There are no guests. Make one: racimo guest create 100 --memory 512 --scsi0 local:8"
    )


@command(
    app, "create", task=True,
    example="racimo guest create 100 --name web --memory 512 --scsi0 local:8 --net0 virtio,bridge=vmbr0\n"
    "racimo guest create next --memory 1024 --set onboot=1",
    then="racimo guest start VMID",
)  # fmt: skip
async def create(
    session: Session,
    vmid: Annotated[str, typer.Argument(metavar="VMID", help="Its number from 100 up, or next for a free one.")],
    node: OnNode = None,
    name: Annotated[str | None, _text("name", "What people call it.")] = None,
    memory: Annotated[str | None, _text("memory", "MiB.")] = None,
    cores: Annotated[str | None, _text("cores", "Processors.")] = None,
    scsi0: Annotated[str | None, _text("scsi0", "First disk: STORAGE:GIB makes a new one.")] = None,
    scsi1: Annotated[str | None, _text("scsi1", "Second disk.")] = None,
    virtio0: Annotated[str | None, _text("virtio0", "First disk on virtio-blk.")] = None,
    ide2: Annotated[str | None, _text("ide2", "Often the CD drive or the cloud-init seed: STORAGE:cloudinit.")] = None,
    net0: Annotated[str | None, _text("net0", "First network card: virtio,bridge=BRIDGE.")] = None,
    ipconfig0: Annotated[str | None, _text("ipconfig0", "Its address by cloud-init: ip=CIDR,gw=ADDRESS.")] = None,
    serial0: Annotated[str | None, _text("serial0", "Serial console: socket.")] = None,
    agent: Annotated[str | None, _text("agent", "1 when the guest agent is installed in it.")] = None,
    onboot: Annotated[str | None, _text("onboot", "1 to start it with its node.")] = None,
    assigned: Assigned = None,
) -> Started:
    """Create a guest. Keys and values are those of qm.conf."""
    own = {
        "name": name, "memory": memory, "cores": cores, "scsi0": scsi0, "scsi1": scsi1, "virtio0": virtio0,
        "ide2": ide2, "net0": net0, "ipconfig0": ipconfig0, "serial0": serial0, "agent": agent, "onboot": onboot,
    }  # fmt: skip
    values: dict[str, Json] = {key: value for key, value in own.items() if value is not None}
    extra = assignments(assigned or [])
    doubled = sorted(values.keys() & extra.keys())
    if doubled:
        raise BadParameter(dict.fromkeys(doubled, "was given twice, as an option and by --set"), todo="Give it once")
    node = node or await session.local_node()
    number = str(await session.get("/cluster/nextid")) if vmid == "next" else vmid
    answer = await session.client.post(f"/nodes/{part(node)}/qemu", {"vmid": number, **values, **extra})
    return Started(answer, f"Guest {number} exists on {node}.", f"racimo guest start {number}")


@command(app, "config", example="racimo guest config 100", then="racimo guest set 100 memory=1024")
async def config(session: Session, vmid: Vmid) -> Facts:
    """Show a guest's configuration."""
    answer = row(await session.get(await session.guest_path(vmid) + "/config"))
    return Facts([(key, answer.text(key)) for key in sorted(answer) if key != "digest"], answer.fields)


@command(app, "status", example="racimo guest status 100", then="racimo guest serial 100")
async def status(session: Session, vmid: Vmid) -> Facts:
    """Show how a guest is now, and what its process uses."""
    guest = await session.guest(vmid)
    answer = row(await session.get(f"/nodes/{part(guest.text('node'))}/qemu/{vmid}/status/current"))
    lines = [
        ("Guest", f"{vmid} ({answer.text('name')})"),
        ("Node", guest.text("node")),
        ("State", answer.text("qmpstatus") or answer.text("status")),
        ("Why", answer.text("reason")),
        ("Up for", span(answer.number("uptime") or None)),
        ("Memory", f"{size(answer.number('mem'))} of {size(answer.number('maxmem'))}"),
        ("Process", answer.text("pid")),
        ("HA", guest.text("hastate") or "no"),
    ]
    shown = [(name, text) for name, text in lines if text not in ("", "-")]
    return Facts(shown, {**guest.fields, **answer.fields})


@command(
    app, "set",
    example="racimo guest set 100 memory=1024 cores=2\nracimo guest set 100 --delete ide2",
    then="racimo guest config 100",
)  # fmt: skip
async def change(
    session: Session,
    vmid: Vmid,
    assigned: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="What to set.")] = None,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", metavar="KEY", help="A key to remove; may be repeated.")
    ] = None,
    revert: Annotated[
        list[str] | None, typer.Option("--revert", metavar="KEY", help="A pending change to drop; may be repeated.")
    ] = None,
) -> Done:
    """Change a guest's configuration. What a running guest cannot be given waits for its next start."""
    values: dict[str, Json] = dict(assignments(assigned or []))
    if not values and not delete and not revert:
        raise BadParameter({"KEY=VALUE": "nothing to change was given"}, todo=f"racimo guest set {vmid} memory=1024")
    if delete:
        values["delete"] = ",".join(delete)
    if revert:
        values["revert"] = ",".join(revert)
    answer = await session.client.put(await session.guest_path(vmid) + "/config", values)
    return Done(f"Guest {vmid} is changed.", answer, f"racimo guest config {vmid}")


async def _power(session: Session, vmid: int, verb: str, done: str, then: str, **parameters: Json) -> Started:
    guest = await session.guest(vmid)
    node = guest.text("node")
    answer = await session.post(f"/nodes/{part(node)}/qemu/{vmid}/status/{verb}", **parameters)
    if _asked_ha(answer):
        return Started(answer, f"HA was asked to {verb} guest {vmid}.", "racimo ha status")
    return Started(answer, f"{done} on {node}.", then)


def _asked_ha(answer: Json) -> bool:
    """Whether the task only tells HA what is wanted, as it does of a guest under HA."""
    return isinstance(answer, str) and is_upid(answer) and answer.split(":")[5] in ("hastart", "hastop")


@command(app, "start", task=True, example="racimo guest start 100", then="racimo guest serial 100 --follow")
async def start(session: Session, vmid: Vmid) -> Started:
    """Start a guest on its node."""
    return await _power(session, vmid, "start", f"Guest {vmid} runs", f"racimo guest serial {vmid} --follow")


@command(app, "stop", task=True, example="racimo guest stop 100", then="racimo guest start 100")
async def stop(session: Session, vmid: Vmid) -> Started:
    """Stop a guest at once, as if its plug was pulled; racimo guest shutdown is the gentle way."""
    return await _power(session, vmid, "stop", f"Guest {vmid} is stopped", f"racimo guest start {vmid}")


@command(
    app,
    "shutdown",
    task=True,
    example="racimo guest shutdown 100 --timeout 60",
    then="racimo guest stop 100 if it will not",
)
async def shutdown(
    session: Session,
    vmid: Vmid,
    timeout: Annotated[
        int | None, typer.Option("--timeout", metavar="SECONDS", min=1, help="How long it may take.")
    ] = None,
) -> Started:
    """Ask a guest to shut itself down."""
    then = f"racimo guest start {vmid}"
    return await _power(session, vmid, "shutdown", f"Guest {vmid} has shut down", then, timeout=timeout)


@command(app, "reboot", task=True, example="racimo guest reboot 100", then="racimo guest serial 100 --follow")
async def reboot(session: Session, vmid: Vmid) -> Started:
    """Shut a guest down and start it again; pending changes of its configuration take effect."""
    return await _power(session, vmid, "reboot", f"Guest {vmid} was rebooted", f"racimo guest serial {vmid} --follow")


@command(app, "reset", task=True, example="racimo guest reset 100", then="racimo guest serial 100 --follow")
async def reset(session: Session, vmid: Vmid) -> Started:
    """Reset a guest, as if its reset button was pressed."""
    return await _power(session, vmid, "reset", f"Guest {vmid} was reset", f"racimo guest serial {vmid} --follow")


@command(app, "suspend", task=True, example="racimo guest suspend 100", then="racimo guest resume 100")
async def suspend(session: Session, vmid: Vmid) -> Started:
    """Hold a guest's processors; its memory stays."""
    return await _power(session, vmid, "suspend", f"Guest {vmid} is paused", f"racimo guest resume {vmid}")


@command(app, "resume", task=True, example="racimo guest resume 100", then="racimo guest list")
async def resume(session: Session, vmid: Vmid) -> Started:
    """Let a suspended guest go on."""
    return await _power(session, vmid, "resume", f"Guest {vmid} goes on", "racimo guest list")


@command(
    app, "destroy", task=True,
    example="racimo guest destroy 100\nracimo guest destroy 100 --purge --yes",
    then="racimo guest list",
)  # fmt: skip
async def destroy(
    session: Session,
    vmid: Vmid,
    purge: Annotated[bool, typer.Option("--purge", help="Take it out of HA and all jobs too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask, even at a terminal.")] = False,
) -> Started:
    """Destroy a stopped guest with all its disks. At a terminal it asks first."""
    guest = await session.guest(vmid)
    _confirm(f"Destroy guest {vmid} ({guest.text('name')}) on {guest.text('node')} with its disks?", yes=yes)
    path = f"/nodes/{part(guest.text('node'))}/qemu/{vmid}"
    answer = await session.delete(path, purge=1 if purge else None)
    return Started(answer, f"Guest {vmid} and its disks are gone.", "racimo guest list")


@command(app, "agent-ping", example="racimo guest agent-ping 100", then="racimo guest shutdown 100 asks the agent too")
async def agent_ping(session: Session, vmid: Vmid) -> Done:
    """Ask whether the guest agent inside a guest answers."""
    answer = await session.post(await session.guest_path(vmid) + "/agent/ping")
    return Done(f"The agent of guest {vmid} answers.", answer)


def _confirm(question: str, *, yes: bool) -> None:
    if not yes and sys.stdin.isatty() and sys.stderr.isatty():
        with raising():
            typer.confirm(question, abort=True, err=True)
