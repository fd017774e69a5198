"""``racimo ha fence``: the devices that cut a node's power, so that its guests need not wait for its lease."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from racimo.cli.answer import Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.completion import complete_nodes
from racimo.cli.parameters import NodeName, assignments
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.cli.units import moment
from racimo.cli.view import Column, Done, Facts, Page, Table
from racimo.errors import BadParameter, OperationFailed

app = group("fence", "Fence devices: what cuts a silent node's power, so that its guests run again within seconds.")

Device = Annotated[str, typer.Argument(metavar="DEVICE", help="The device's name, as racimo ha fence list shows it.")]
Agent = Annotated[
    str, typer.Argument(metavar="AGENT", help="A program such as fence_ipmilan, fence_redfish, fence_virsh.")
]
Options = Annotated[
    list[str] | None, typer.Argument(metavar="[KEY=VALUE]…", help="Options of the agent, such as ip=10.0.0.1.")
]
Secrets = Annotated[
    list[str] | None,
    typer.Option("--secret", metavar="KEY", help="An option that is asked for, or read from standard input: password."),
]
Level = Annotated[
    int | None, typer.Option("--level", min=1, max=9, help="All of level 1 together, else all of level 2, and so on.")
]
Timeout = Annotated[float | None, typer.Option("--timeout", help="Seconds that one call of the agent may take.")]
PowerOn = Annotated[
    bool | None,
    typer.Option("--power-on/--stay-off", help="Whether the node is switched on again when its guests are recovered."),
]
Asker = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="NODE", help="The node that asks; else the one that runs this.", autocompletion=complete_nodes
    ),
]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="A note for people.")]


def _options(entry: Row) -> str:
    options = entry.row("options")
    return " ".join(f"{key}={options.text(key)}" for key in options)


def _reliance(entry: Row) -> str:
    if not entry.flag("enabled"):
        return "switched off"
    if "ok" not in entry or entry.fields["ok"] is None:
        return entry.text("why")
    return "yes" if entry.flag("ok") else f"no: {entry.text('why')}"


def _ways(entry: Row) -> str:
    found = []
    for proof in rows(entry.fields.get("proofs")):
        by = proof.fields.get("by")
        names = f" ({', '.join(map(str, by))})" if isinstance(by, list) and by else ""
        found.append(f"{proof.text('kind')}{names} in {proof.number('seconds') or 0:g} s")
    return "; else ".join(found)


def _last(last: Row) -> str:
    if not last.fields:
        return "never"
    back = last.row("back")
    again = f"; switched on again: {back.text('stage')}, {back.text('why')}" if back.fields else ""
    return f"{moment(last.number('since'))}: {last.text('stage')}, {last.text('why')}{again}"


def _kind(entry: Row) -> str:
    choices = entry.fields.get("choices")
    return "|".join(map(str, choices)) if isinstance(choices, list) and choices else entry.text("kind")


_DEVICES = (
    Column("Device", lambda entry: entry.text("device")),
    Column("Cuts", lambda entry: entry.text("node")),
    Column("Level", lambda entry: entry.text("level"), number=True),
    Column("Agent", lambda entry: entry.text("agent")),
    Column("Options", _options),
    Column("Relied on", _reliance),
    Column("Then", lambda entry: "switched on again" if entry.flag("power_on") else "stays off"),
)
_NODES = (
    Column("Node", lambda entry: entry.text("node")),
    Column("Fail-over by", _ways),
    Column("Missing", lambda entry: entry.text("missing")),
    Column("Last cut", lambda entry: _last(entry.row("last"))),
)
_PARAMETERS = (
    Column("Option", lambda entry: entry.text("name") + (" (secret)" if entry.flag("secret") else "")),
    Column("Kind", _kind),
    Column("Default", lambda entry: "required" if entry.flag("required") else entry.text("default")),
    Column("What it is", lambda entry: entry.text("about")),
)


def _secrets(names: list[str]) -> dict[str, str]:
    """Ask for each on the terminal, unseen, or read a line for each from standard input."""
    values = {}
    for name in names:
        if "=" in name:
            shown = name.partition("=")[0]
            raise BadParameter({"--secret": f"give only the name {shown}: what stands here is seen by everybody"})
        if sys.stdin.isatty():
            values[name] = typer.prompt(name, hide_input=True, err=True)
        else:
            values[name] = sys.stdin.readline().rstrip("\n")
        if not values[name]:
            raise BadParameter({name: "nothing was given for it on standard input"})
    return values


def _plain(pairs: list[str]) -> dict[str, str]:
    from racimo.ha.fencing.metadata import is_secret

    options = assignments(pairs)
    hidden = [name for name in options if is_secret(name)]
    if hidden:
        problems = dict.fromkeys(hidden, "would be seen in the process list and in the shell's history")
        raise BadParameter(problems, todo=f"Write --secret {hidden[0]}: it is asked for, or read from standard input")
    return options


@command(
    app, "add",
    example="racimo ha fence add n1 fence_ipmilan ip=10.0.0.11 username=admin lanplus=1 --secret password\n"
    "racimo ha fence add n1 fence_apc_snmp ip=10.0.0.50 plug=4 --secret community --level 2",
    then="racimo ha fence test NODE",
)  # fmt: skip
async def add(
    session: Session,
    node: NodeName,
    agent: Agent,
    options: Options = None,
    secret: Secrets = None,
    name: Annotated[str, typer.Option("--name", metavar="NAME", help="Without it, made of node and agent.")] = "",
    level: Level = None,
    timeout: Timeout = None,
    power_on: PowerOn = None,
    comment: Comment = None,
) -> Done:
    """Define what cuts a node's power. Secrets are sealed: they are never shown again."""
    answer = await session.post(
        "/racimo/ha/fence/devices",
        node=node, agent=agent, name=name, options=dict(_plain(options or [])), secrets=dict(_secrets(secret or [])),
        level=level, timeout=timeout, power_on=power_on, comment=comment,
    )  # fmt: skip
    return Done(f"Fence device {answer} cuts the power of {node}.", {"device": answer}, f"racimo ha fence test {node}")


@command(
    app, "set",
    example="racimo ha fence set n1-ipmilan ip=10.0.0.12\nracimo ha fence set n1-ipmilan --secret password\n"
    "racimo ha fence set n1-ipmilan --stay-off",
    then="racimo ha fence test NODE",
)  # fmt: skip
async def change(
    session: Session,
    device: Device,
    options: Options = None,
    secret: Secrets = None,
    delete: Annotated[
        list[str] | None, typer.Option("--delete", metavar="KEY", help="An option that is to be taken away.")
    ] = None,
    level: Level = None,
    timeout: Timeout = None,
    enabled: Annotated[bool | None, typer.Option("--enable/--disable", help="Whether it is used.")] = None,
    power_on: PowerOn = None,
    comment: Comment = None,
) -> Done:
    """Change a fence device. What is not given stays as it is."""
    given = {"level": level, "timeout": timeout, "enabled": enabled, "power_on": power_on, "comment": comment}
    if not (options or secret or delete) and all(value is None for value in given.values()):
        raise BadParameter({"KEY=VALUE": "nothing to change was given"}, todo=f"racimo ha fence set {device} --level 2")
    answer = await session.put(
        f"/racimo/ha/fence/devices/{part(device)}",
        options=dict(_plain(options or [])), secrets=dict(_secrets(secret or [])), delete=list(delete or []), **given,
    )  # fmt: skip
    return Done(f"Fence device {device} is changed.", answer, "racimo ha fence list")


@command(app, "remove", example="racimo ha fence remove n1-ipmilan", then="racimo ha fence list")
async def remove(session: Session, device: Device) -> Done:
    """Forget a fence device. The device itself is not touched."""
    answer = await session.delete(f"/racimo/ha/fence/devices/{part(device)}")
    return Done(f"Fence device {device} is no longer used.", answer)


@command(app, "list", example="racimo ha fence list", then="racimo ha fence test NODE")
async def list_devices(session: Session) -> Page:
    """List the fence devices, what can be proven of each node, and how soon its guests would run again."""
    devices, nodes = await session.get("/racimo/ha/fence/devices"), await session.get("/racimo/ha/fence/nodes")
    empty = "There is no fence device. Add one: racimo ha fence add NODE AGENT KEY=VALUE…"
    parts = [Table(_DEVICES, rows(devices), empty), Table(_NODES, rows(nodes), "There are no nodes.")]
    return Page(parts, {"devices": devices, "nodes": nodes})


@command(
    app, "test", task=True,
    example="racimo ha fence test n1\nracimo ha fence test n1 --from n2\nracimo ha fence test n1 --off --yes",
    then="racimo ha fence list",
)  # fmt: skip
async def ask(
    session: Session,
    node: NodeName,
    asker: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NODE",
            help="The node that asks; without it the one asked.",
            autocompletion=complete_nodes,
        ),
    ] = None,
    off: Annotated[
        bool, typer.Option("--off", help="Cut the power for real, see it confirmed, and switch it on again.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --off: do it without asking.")] = False,
) -> Started:
    """Ask a node's fence devices whether its power is on; with --off, have every level cut it and give it back.

    --off is refused while guests run on the node.
    """
    asker = asker or await session.local_node()
    if off:
        if not yes:
            if not (sys.stdin.isatty() and sys.stderr.isatty()):
                raise BadParameter({"--yes": f"is needed with --off: it cuts the power of {node}"})
            typer.confirm(f"Cut the power of {node} now, and switch it on again?", abort=True, err=True)
        answer = await session.post(f"/racimo/nodes/{part(asker)}/fence/try", target=node)
        return Started(answer, f"Every level of {node}'s fence devices cut its power and gave it back.")
    answer = await session.post(f"/racimo/nodes/{part(asker)}/fence/status", target=node)
    answers = rows(answer)
    silent = [each for each in answers if not each.text("power")]
    if silent:
        why = "; ".join(f"{each.text('device')}: {each.text('said')}" for each in silent)
        todo = "Correct it: racimo ha fence set DEVICE KEY=VALUE"
        raise OperationFailed(f"{asker} cannot rely on the fence devices of {node}", why=why, todo=todo)
    told = [
        f"{each.text('device')} says to {asker} that the power of {node} is {each.text('power')}" for each in answers
    ]
    return Started(answer, ".\n".join(told) + ".", f"racimo ha fence test {node} --off, when no guest runs on it")


@command(app, "agents", example="racimo ha fence agents", then="racimo ha fence describe AGENT")
async def agents(session: Session) -> Table:
    """List the fence agents installed on the node that is asked. Every node needs those that are used."""
    answer = rows(await session.get("/racimo/ha/fence/agents"))
    empty = "No fence agent is installed here. Install them on every node: apt-get install fence-agents"
    return Table((Column("Agent", lambda entry: entry.text("agent")),), answer, empty)


@command(app, "describe", example="racimo ha fence describe fence_ipmilan", then="racimo ha fence add NODE AGENT …")
async def describe(session: Session, agent: Agent) -> Page:
    """Show what a fence agent is for and which options it takes."""
    answer = row(await session.get(f"/racimo/ha/fence/agents/{part(agent)}"))
    facts = Facts([("Agent", agent), ("What it is", answer.text("about")), ("", answer.text("text"))], None)
    return Page([facts, Table(_PARAMETERS, rows(answer.fields.get("parameters")), "It takes none.")], answer.fields)
