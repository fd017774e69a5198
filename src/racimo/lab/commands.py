"""``racimo lab``: its verbs on the command line."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from racimo.errors import BadParameter, OperationFailed
from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import add_fence_devices, make_datacenter
from racimo.lab.demo import demonstrate
from racimo.lab.fence_device import FenceFault, set_fault
from racimo.lab.journal import read_journal
from racimo.lab.lab import Lab, demand_no_lab, down, make_nodes, plan_nodes
from racimo.lab.place import LabPlace
from racimo.lab.requirements import demand_root
from racimo.lab.together import together
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from racimo.lab.lab import Tell
    from racimo.lab.node import LabNode

app = typer.Typer(
    name="lab",
    help="A whole datacenter on this one machine, to try everything and break it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    add_completion=False,
)

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Nodes = Annotated[list[str], typer.Argument(metavar="NODE…", help="Nodes, such as n1; or all.")]


@app.command(epilog="racimo lab up\n\nracimo lab up --nodes 2 --witness")
def up(
    nodes: Annotated[int, typer.Option(help="How many nodes.", min=1, max=9)] = 3,
    witness: Annotated[bool, typer.Option("--witness", help="One more that only votes.")] = False,
    bare: Annotated[bool, typer.Option("--bare", help="Boot the nodes; make no datacenter of them.")] = False,
    fence: Annotated[bool, typer.Option("--fence", help="Give each node a fence device.")] = False,
    json_output: Json = False,
) -> None:
    """Build and boot nodes and make one datacenter of them, within seconds."""
    steps: list[dict[str, object]] = []
    tell = _teller(json_output=json_output, steps=steps)
    began = time.monotonic()

    async def make() -> Lab:
        lab = await make_nodes(LabPlace.from_environment(), plan_nodes(nodes, witness=witness), bare=bare, tell=tell)
        if not bare:
            await make_datacenter(lab, tell)
        if fence and not bare:
            await add_fence_devices(lab, tell)
        return lab

    lab = asyncio.run(make())
    seconds = time.monotonic() - began
    ports = {node.name: node.spec.port for node in lab.nodes}
    if json_output:
        _print_json({"nodes": ports, "seconds": round(seconds, 2), "steps": steps})
        return
    typer.echo(f"The lab is up after {seconds:.1f} s.")
    for name, port in ports.items():
        typer.echo(f"  {name}  https://127.0.0.1:{port}")
    typer.echo("Next: racimo lab status, racimo lab exec n1 racimo cluster status, racimo lab kill n2, racimo lab down")


@app.command("down", epilog="racimo lab down")
def down_(json_output: Json = False) -> None:
    """End the lab and remove all that is left of it, also after a crash. Says what there was."""
    removed = asyncio.run(down(LabPlace.from_environment()))
    if json_output:
        _print_json(asdict(removed))
    elif not removed.anything:
        typer.echo("There was no lab.")
    else:
        for what, things in asdict(removed).items():
            if things:
                typer.echo(f"Removed {what}: {', '.join(things)}")


@app.command(epilog="racimo lab status")
def status(json_output: Json = False) -> None:
    """Show the nodes, how they are, and who can reach whom."""
    lab = Lab.find(LabPlace.from_environment())
    groups = asyncio.run(lab.network.groups())
    rows = [_status_of(lab, node) for node in lab.nodes]
    apart = list(groups.values()) if len(groups) > 1 else []
    supervised = lab.supervisor is not None
    if json_output:
        _print_json({"nodes": rows, "partition": apart, "supervisor": supervised, "state": str(lab.place.state)})
        return
    for row in rows:
        typer.echo(f"{row['name']:<8} {row['state']:<7} {row['address']:<12} https://127.0.0.1:{row['port']}")
    if apart:
        typer.echo("Partition: " + " | ".join(",".join(group) for group in apart))
    if not supervised:
        typer.echo("The supervisor is gone: no watchdog, no way to the API. Run: racimo lab down, then up")


def _status_of(lab: Lab, node: LabNode) -> dict[str, object]:
    leader = node.leader
    state = "off" if leader is None else "frozen" if node.cgroup.frozen else "on"
    return {
        "name": node.name,
        "state": state,
        "address": node.address(),
        "port": node.spec.port,
        "witness": node.spec.witness,
        "pid": leader.pid if leader else None,
    }


@app.command(epilog="racimo lab demo\n\nracimo lab demo --keep --json")
def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Leave the lab up afterwards.")] = False,
    json_output: Json = False,
) -> None:
    """Three nodes, a guest, a live migration, a power cut: and the proof that nothing was lost."""
    place = LabPlace.from_environment()
    demand_root()
    demand_no_lab(place)
    began = time.monotonic()

    async def play() -> dict[str, object]:
        try:
            result = await demonstrate(place, _teller(json_output=json_output))
            if not result.sound:
                raise OperationFailed("The promise was not kept", why=json.dumps(result.as_json()))
            return result.as_json()
        finally:
            if not keep and place.description.exists():
                await clean_up(place)

    result = asyncio.run(play())
    typer.echo(f"Done in {time.monotonic() - began:.1f} s.", err=json_output)
    if json_output:
        _print_json(result)


@app.command(epilog="racimo lab kill n2")
def kill(nodes: Nodes, json_output: Json = False) -> None:
    """Cut the power of nodes: every process is gone at once, what was not written is lost."""
    _each(nodes, lambda node: node.power_cut(), "has no power", json_output=json_output)


@app.command(epilog="racimo lab start n2")
def start(nodes: Nodes, json_output: Json = False) -> None:
    """Switch nodes on again, with the disks they have."""
    _each(nodes, lambda node: node.boot(ready=False), "boots", json_output=json_output)


@app.command(epilog="racimo lab shutdown n2")
def shutdown(nodes: Nodes, json_output: Json = False) -> None:
    """Switch nodes off in order: their services stop first."""
    _each(nodes, lambda node: node.shut_down(), "is off", json_output=json_output)


@app.command(epilog="racimo lab freeze n3")
def freeze(nodes: Nodes, json_output: Json = False) -> None:
    """Stop every process of nodes where it is, while time goes on: a stalled host."""
    _each(nodes, lambda node: node.freeze(), "stands still", json_output=json_output)


@app.command(epilog="racimo lab thaw n3")
def thaw(nodes: Nodes, json_output: Json = False) -> None:
    """Let frozen nodes go on."""
    _each(nodes, lambda node: node.thaw(), "goes on", json_output=json_output)


@app.command(epilog="racimo lab fence n1 lies\n\nracimo lab fence n1 none")
def fence(
    node: Annotated[str, typer.Argument(metavar="NODE", help="Whose fence device it is.")],
    fault: Annotated[FenceFault, typer.Argument(metavar="FAULT", help=f"One of {', '.join(FenceFault)}.")],
    json_output: Json = False,
) -> None:
    """Make a node's fence device fail: say off and do nothing, hang, be slow, report early, report wrongly, die too."""
    set_fault(Lab.find(LabPlace.from_environment()).node(node), fault)
    told = "works" if fault is FenceFault.NONE else f"fails: {fault}"
    _say({"node": node, "fault": fault.value}, f"The fence device of {node} {told}", json_output=json_output)


@app.command(epilog="racimo lab partition 'n1,n2|n3'")
def partition(
    groups: Annotated[str, typer.Argument(metavar="GROUPS", help="Nodes that still reach each other: n1,n2|n3")],
    json_output: Json = False,
) -> None:
    """Cut all networks between groups of nodes. Nodes that are not named stay with the first group."""
    lab = Lab.find(LabPlace.from_environment())
    parted = [[name.strip() for name in group.split(",") if name.strip()] for group in groups.split("|")]
    if len(parted) < 2:
        raise BadParameter({"groups": f"'{groups}' has no | in it"}, todo="Write it like 'n1,n2|n3', in quotes")
    for name in (name for group in parted for name in group):
        lab.node(name)
    asyncio.run(lab.network.partition(parted))
    _say(
        {"partition": parted}, "Cut off from each other: " + " | ".join(map(",".join, parted)), json_output=json_output
    )


@app.command(epilog="racimo lab heal")
def heal(json_output: Json = False) -> None:
    """Join the networks again."""
    asyncio.run(Lab.find(LabPlace.from_environment()).network.heal())
    _say({"partition": []}, "All nodes reach each other again.", json_output=json_output)


@app.command(
    "exec", context_settings={"ignore_unknown_options": True}, epilog="racimo lab exec n1 racimo cluster status"
)
def exec_(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    command: Annotated[list[str], typer.Argument(metavar="COMMAND…", help="What to run, with its options.")],
) -> None:
    """Run a command in a node; its exit code is ours."""
    inside = Lab.find(LabPlace.from_environment()).node(node).inside(command)
    sys.stdout.flush()
    os.execvp(inside[0], inside)  # noqa: S606 - a terminal is handed on to it


@app.command(epilog="racimo lab logs n2 -u racimo-ha -n 100", context_settings={"ignore_unknown_options": True})
def logs(
    node: Annotated[str, typer.Argument(metavar="NODE")],
    options: Annotated[list[str] | None, typer.Argument(metavar="OPTIONS…", help="Options of journalctl.")] = None,
    json_output: Json = False,
) -> None:
    """Show the system log of a node, also when it is off. With --json, one object per line."""
    wanted = Lab.find(LabPlace.from_environment()).node(node)
    output = ["--output=json"] if json_output else []
    raise typer.Exit(subprocess.run(wanted.journalctl(*output, *(options or [])), check=False).returncode)


@app.command(epilog="racimo lab journal 100")
def journal(
    vmid: Annotated[int, typer.Argument(metavar="VMID", help="A lab guest.")], json_output: Json = False
) -> None:
    """Say what a lab guest's disk proves: its writes, what was lost, who wrote. Exit code 1 when anything is wrong."""
    lab = Lab.find(LabPlace.from_environment())
    report = asyncio.run(read_journal(vmid, lab.place.shared, [node.disk.upper for node in lab.nodes]))
    running = [asdict(process) for process in guest_processes(lab, vmid)]
    if json_output:
        _print_json({**asdict(report), "sound": report.sound, "processes": running})
    else:
        typer.echo(f"{report.writes} writes on the disk, {report.acknowledged} acknowledged")
        typer.echo(f"lost: {_numbers(report.lost)}; gaps: {_numbers(report.gaps)}")
        typer.echo(f"writers at once: {report.writers_at_once}")
        for span in report.writers:
            by = f"{span.writer.node}, epoch {span.writer.epoch}, boot {span.writer.boot}"
            typer.echo(f"  {span.first} to {span.last} by {by}")
    if not report.sound:
        raise typer.Exit(1)


def _numbers(values: tuple[object, ...]) -> str:
    return ", ".join(map(str, values[:10])) + (f" and {len(values) - 10} more" if len(values) > 10 else "") or "none"


def _each(
    names: list[str], act: Callable[[LabNode], Coroutine[object, object, object]], done: str, *, json_output: bool
) -> None:
    """Do it to all the nodes at once."""
    lab = Lab.find(LabPlace.from_environment())
    demand_root()
    nodes = lab.nodes if names == ["all"] else [lab.node(name) for name in names]
    began = time.monotonic()
    asyncio.run(together(*(act(node) for node in nodes)))
    names = [node.name for node in nodes]
    seconds = round(time.monotonic() - began, 3)
    _say({"nodes": names, "seconds": seconds}, f"{', '.join(names)} {done} ({seconds:.2f} s)", json_output=json_output)


def _teller(*, json_output: bool, steps: list[dict[str, object]] | None = None) -> Tell:
    """Tells each step with its time: to people, on standard error when the result is to be JSON."""

    def tell(what: str, seconds: float) -> None:
        typer.echo(f"{seconds:7.2f} s  {what}", err=json_output)
        if steps is not None:
            steps.append({"step": what, "seconds": round(seconds, 2)})

    return tell


def _say(value: object, text: str, *, json_output: bool) -> None:
    if json_output:
        _print_json(value)
    else:
        typer.echo(text)


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False))
