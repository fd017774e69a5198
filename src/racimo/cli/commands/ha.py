"""``racimo ha``: which guests outlive their node, and what is being done about them."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Annotated

import typer

from racimo.cli.answer import Row, row, rows
from racimo.cli.command import command, group
from racimo.cli.completion import complete_sids
from racimo.cli.parameters import NodeName, Sid, sid_of
from racimo.cli.run import Started
from racimo.cli.session import Session, part
from racimo.cli.units import moment
from racimo.cli.view import Column, Done, Facts, Page, Table
from racimo.errors import BadParameter

app = group("ha", "High availability: guests that run again elsewhere when their node is gone.")

State = Annotated[
    str | None,
    typer.Option("--state", metavar="STATE", help="What you want of it: started, stopped, disabled or ignored."),
]
MaxRestart = Annotated[
    int | None, typer.Option("--max-restart", min=0, help="How often it is started again on the same node.")
]
MaxRelocate = Annotated[int | None, typer.Option("--max-relocate", min=0, help="How often it is tried elsewhere.")]
Comment = Annotated[str | None, typer.Option("--comment", metavar="TEXT", help="A note for people.")]
Failback = Annotated[
    bool | None, typer.Option("--failback/--no-failback", help="Go back to a better node when it is there again.")
]
Probe = Annotated[
    str | None,
    typer.Option(
        "--probe", metavar="PROBE", help="Ask its application: agent, tcp:HOST:PORT or an http:// URL; '' for none."
    ),
]
ProbeFailures = Annotated[
    int | None, typer.Option("--probe-failures", min=1, help="So many probes in a row that fail count as a failure.")
]
ProbeInterval = Annotated[
    float | None, typer.Option("--probe-interval", metavar="SECONDS", help="From one probe to the next.")
]
ProbeGrace = Annotated[
    float | None, typer.Option("--probe-grace", metavar="SECONDS", help="Failures so soon after a start do not count.")
]


def _proofs(entry: Row) -> str:
    """What its silence can be proven by, and when its guests would have been commanded to start elsewhere."""
    kinds, seconds = entry.fields.get("proofs"), entry.number("failover_s")
    return f"{', '.join(map(str, kinds))}: {seconds:g} s" if isinstance(kinds, list) and seconds else ""


_COLUMNS = (
    Column("Guest", lambda entry: entry.text("sid")),
    Column("State", lambda entry: entry.text("state")),
    Column("Wanted", lambda entry: entry.text("request_state")),
    Column("Node", lambda entry: entry.text("node")),
    Column("Proof", lambda entry: entry.text("proof_short")),
    Column("Why", lambda entry: entry.text("why") or entry.text("status")),
)
_NODES = (
    Column("Node", lambda entry: entry.text("node")),
    Column("State", lambda entry: entry.text("status")),
    Column("Proof", _proofs),
    Column("Watchdog", lambda entry: entry.text("watchdog") or "none"),
    Column("Why", lambda entry: entry.text("why")),
)
HISTORY = (
    Column("When", lambda entry: moment(entry.number("at"))),
    Column("What", lambda entry: entry.text("what")),
    Column("Why", lambda entry: entry.text("why")),
)


@dataclass(frozen=True, slots=True)
class ResourceOptions:
    """What can be set of a guest under HA; None for what was not given. The fields are named as in the API."""

    state: State = None
    max_restart: MaxRestart = None
    max_relocate: MaxRelocate = None
    failback: Failback = None
    probe: Probe = None
    probe_failures: ProbeFailures = None
    probe_interval: ProbeInterval = None
    probe_grace: ProbeGrace = None
    comment: Comment = None


@command(
    app, "add",
    example="racimo ha add vm:100\nracimo ha add 100 --max-restart 2 --comment 'the web shop'",
    then="racimo ha status",
)  # fmt: skip
async def add(session: Session, sid: Sid, options: ResourceOptions) -> Done:
    """Put a guest under HA: it is started, and started elsewhere when its node is gone."""
    sid = sid_of(sid)
    answer = await session.post("/cluster/ha/resources", sid=sid, **asdict(options))
    return Done(f"{sid} is under HA.", answer, "racimo ha status")


@command(app, "remove", example="racimo ha remove vm:100", then="racimo ha status")
async def remove(
    session: Session,
    sid: Sid,
    purge: Annotated[bool, typer.Option("--purge/--no-purge", help="Take it out of its rules too.")] = True,
) -> Done:
    """Take a guest out of HA and out of its rules. It goes on as it is."""
    sid = sid_of(sid)
    answer = await session.delete(f"/cluster/ha/resources/{part(sid)}", purge=None if purge else 0)
    return Done(f"{sid} is no longer under HA; it goes on as it is.", answer)


@command(app, "set", example="racimo ha set vm:100 --state stopped", then="racimo ha status")
async def change(session: Session, sid: Sid, options: ResourceOptions) -> Done:
    """Change what HA shall do with a guest. Setting the state to disabled, then to started, clears an error."""
    sid = sid_of(sid)
    given = asdict(options)
    if all(value is None for value in given.values()):
        raise BadParameter({"--state": "nothing to change was given"}, todo=f"racimo ha set {sid} --state started")
    answer = await session.put(f"/cluster/ha/resources/{part(sid)}", **given)
    return Done(f"{sid} is changed.", answer, "racimo ha status")


@command(
    app, "status",
    example="racimo ha status\nracimo ha status vm:100",
    then="racimo ha set SID --state disabled clears an error",
)  # fmt: skip
async def status(
    session: Session,
    sid: Annotated[
        str | None,
        typer.Argument(metavar="SID", help="One guest, with its history.", autocompletion=complete_sids),
    ] = None,
) -> Page:
    """Show who is manager, how it sees the nodes, and what it does about each guest, with the reason."""
    if sid:
        return await _history(session, sid_of(sid))
    answer = await session.get("/cluster/ha/status/current")
    entries = rows(answer)
    manager = next((entry.text("status") for entry in entries if entry.text("type") == "master"), "none")
    nodes = [entry for entry in entries if entry.text("type") == "lrm"]
    guests = [entry for entry in entries if "sid" in entry]
    empty = "No guest is under HA. Put one: racimo ha add vm:100"
    arming = next((entry for entry in entries if entry.text("type") == "fencing"), None)
    acts = "" if arming is None else arming.text("status") + (f": {arming.text('why')}" if arming.text("why") else "")
    parts = [Facts([("Manager", manager), ("HA", acts)], None), Table(_NODES, nodes, "No node reports to HA.")]
    return Page([*parts, Table(_COLUMNS, guests, empty)], answer)


async def _history(session: Session, sid: str) -> Page:
    answer = row(await session.get(f"/cluster/ha/resources/{part(sid)}"))
    names = (
        "state", "request_state", "node", "home", "why", "proof", "max_restart", "max_relocate", "failback", "probe",
        "comment",
    )  # fmt: skip
    facts = Facts([(name.replace("_", " "), answer.text(name)) for name in names if answer.text(name)], None)
    return Page([facts, Table(HISTORY, rows(answer.fields.get("history")), "Nothing has happened yet.")], answer.fields)


@command(app, "migrate", task=True, example="racimo ha migrate vm:100 n2", then="racimo ha status")
async def migrate(session: Session, sid: Sid, node: NodeName) -> Started:
    """Ask HA to move a guest live."""
    return await _move(session, sid, node, "migrate")


@command(app, "relocate", task=True, example="racimo ha relocate vm:100 n2", then="racimo ha status")
async def relocate(session: Session, sid: Sid, node: NodeName) -> Started:
    """Ask HA to stop a guest, move it and start it again."""
    return await _move(session, sid, node, "relocate")


async def _move(session: Session, sid: str, node: str, verb: str) -> Started:
    sid = sid_of(sid)
    answer = await session.post(f"/cluster/ha/resources/{part(sid)}/{verb}", node=node)
    return Started(answer, f"HA was asked to {verb} {sid} to {node}.", "racimo ha status")


def troubled(entry: Row) -> bool:
    """Whether a guest under HA is not as it should be."""
    wanted, state = entry.text("request_state"), entry.text("state")
    return state in ("error", "fence", "recovery") or (wanted == "started" and state != "started")
