"""A scenario file, as the specification in docs/how-to/simulate.md has it, read into a ``Setup``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from racimo.errors import BadRequest
from racimo.ha.simulate.setup import (
    GIB,
    Durations,
    Failures,
    GuestSetup,
    Known,
    KnownGuest,
    NodeSetup,
    Options,
    RuleSetup,
    Setup,
    Step,
)
from racimo.ha.simulate.verbs import check_sid, parse_verb

if TYPE_CHECKING:
    from pathlib import Path

Count = Annotated[int, Field(ge=0)]
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
GUEST_STATES = Literal[
    "stopped", "request_stop", "request_start", "request_start_balance", "started", "fence", "recovery", "migrate",
    "relocate", "freeze", "error", "queued",
]  # fmt: skip
MOST_NODES = 64


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=False)


class _Node(_Part):
    cpus: Annotated[int, Field(ge=1)] = 24
    memory: Annotated[int, Field(ge=1)] = 128 * GIB
    power: Literal["on", "off"] = "off"


class _Load(_Part):
    cpu: Amount = 2.0
    memory: Count = 2 * GIB


class _Fails(_Part):
    start: Count = 0
    migrate: Count = 0
    stop: bool = False
    missing: bool = False
    only_on: str | None = None


class _Guest(_Part):
    node: str
    state: Literal["started", "stopped", "disabled", "ignored", "enabled"] = "stopped"
    max_restart: Count = 1
    max_relocate: Count = 1
    failback: bool = True
    auto_rebalance: bool = True
    cpus: Annotated[int, Field(ge=1)] = 4
    memory: Annotated[int, Field(ge=1)] = 4 * GIB
    load: _Load = _Load()
    fails: _Fails = _Fails()


class _Rule(_Part):
    id: str
    type: Literal["node-affinity", "resource-affinity"]
    resources: list[str]
    nodes: dict[str, Count] = {}
    strict: bool = False
    affinity: Literal["positive", "negative"] | None = None
    disable: bool = False
    disabled: bool = False
    comment: str = ""


class _Options(_Part):
    profile: Literal["default", "fast", "patient"] = "default"
    shutdown_policy: Literal["conditional", "freeze", "failover", "migrate"] = "conditional"
    crs: Literal["basic", "static", "dynamic"] = "basic"
    rebalance_on_start: bool = False
    auto_rebalance: bool = False
    threshold: Amount = 0.3
    margin: Amount = 0.1
    hold: Count = 3
    method: Literal["bruteforce", "topsis"] = "bruteforce"
    moves_per_hour: Count = 10
    migrate_wait: Count = 180


class _Durations(_Part):
    start: Amount = 0.0
    stop: Amount = 0.0
    migrate: Amount = 0.0


class _Step(_Part):
    at: Amount
    do: list[str]


class _KnownGuest(_Part):
    node: str
    state: GUEST_STATES


class _Known(_Part):
    manager: str = ""
    nodes: dict[str, Literal["online", "maintenance", "unknown", "fence", "gone"]] = {}
    guests: dict[str, _KnownGuest] = {}


class _Scenario(_Part):
    name: str = ""
    nodes: Annotated[dict[str, _Node], Field(min_length=1, max_length=MOST_NODES)]
    guests: dict[str, _Guest] = {}
    rules: list[_Rule] = []
    options: _Options = _Options()
    durations: _Durations = _Durations()
    steps: list[_Step] = []
    end: Amount | None = None
    state: _Known | None = None
    seed: Count = 0
    healed: bool = False
    """Of histories that were drawn by a seed."""
    fences: bool = False
    """Whether each node has a fence device."""
    expect: Any = None
    """What a test expects; not looked at here."""
    about: Any = None
    """A person's remark."""


def read_scenario(path: Path) -> Setup:
    """The scenario in the file. Raises ``BadRequest`` that names the line or the field and says what to do."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadRequest(f"{path} cannot be read", why=str(error), todo="Name a scenario file") from error
    return parse_scenario(text, str(path))


def parse_scenario(text: str, where: str = "the scenario") -> Setup:
    """The scenario that ``text`` is. Raises ``BadRequest``."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise BadRequest(f"{where} is not JSON", why=str(error), todo="Correct it at that place") from error
    try:
        scenario = _Scenario.model_validate(value)
    except ValidationError as error:
        why = "; ".join(f"{_place(fault['loc'])}: {fault['msg']}" for fault in error.errors())
        todo = "Correct these fields; docs/how-to/simulate.md lists all"
        raise BadRequest(f"{where} cannot be played", why=why, todo=todo) from error
    try:
        return _setup(scenario)
    except BadRequest as error:
        raise BadRequest(f"{where} cannot be played", why=f"{error.what}: {error.why}", todo=error.todo) from error


def _place(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "the whole"


def _setup(scenario: _Scenario) -> Setup:
    nodes = {name: NodeSetup(node.cpus, node.memory, node.power == "on") for name, node in scenario.nodes.items()}
    guests = {sid: _guest(sid, guest, nodes) for sid, guest in scenario.guests.items()}
    steps = _steps(scenario, nodes, set(guests))
    last = steps[-1].at if steps else 0.0
    end = scenario.end if scenario.end is not None else last + 600.0
    if end < last:
        raise BadRequest("end: it is before the last step", why=f"{end:g} < {last:g}", todo="Let it end later")
    return Setup(
        name=scenario.name,
        nodes=nodes,
        guests=guests,
        rules=tuple(_rule(rule, nodes) for rule in scenario.rules),
        options=Options(**scenario.options.model_dump()),
        durations=Durations(**scenario.durations.model_dump()),
        steps=steps,
        end=end,
        known=_known(scenario.state, nodes, guests) if scenario.state else None,
        seed=scenario.seed,
        healed=scenario.healed,
        fences=scenario.fences,
    )


def _demand(name: str, nodes: dict[str, NodeSetup], field: str) -> str:
    if name not in nodes:
        raise BadRequest(f"{field}", why=f"there is no node '{name}'", todo=f"Name one of {', '.join(nodes)}")
    return name


def _guest(sid: str, guest: _Guest, nodes: dict[str, NodeSetup]) -> GuestSetup:
    check_sid(sid)
    if guest.fails.only_on is not None:
        _demand(guest.fails.only_on, nodes, f"guests.{sid}.fails.only_on")
    return GuestSetup(
        sid=sid,
        node=_demand(guest.node, nodes, f"guests.{sid}.node"),
        state="started" if guest.state == "enabled" else guest.state,
        max_restart=guest.max_restart,
        max_relocate=guest.max_relocate,
        failback=guest.failback,
        auto_rebalance=guest.auto_rebalance,
        cpus=guest.cpus,
        memory=guest.memory,
        load_cpu=guest.load.cpu,
        load_memory=guest.load.memory,
        fails=Failures(**guest.fails.model_dump()),
    )


def _rule(rule: _Rule, nodes: dict[str, NodeSetup]) -> RuleSetup:
    field = f"rules.{rule.id}"
    for name in rule.nodes:
        _demand(name, nodes, f"{field}.nodes")
    if rule.type == "node-affinity" and not rule.nodes:
        raise BadRequest(f"{field}.nodes", why="a node-affinity rule names nodes", todo="Give it some")
    if rule.type == "resource-affinity" and rule.affinity is None:
        raise BadRequest(f"{field}.affinity", why="it is missing", todo="Write positive or negative")
    for sid in rule.resources:
        check_sid(sid)
    return RuleSetup(
        id=rule.id,
        type=rule.type,
        resources=tuple(rule.resources),
        nodes=dict(rule.nodes),
        strict=rule.strict,
        affinity=rule.affinity or "positive",
        disabled=rule.disabled or rule.disable,
    )


def _steps(scenario: _Scenario, nodes: dict[str, NodeSetup], guests: set[str]) -> tuple[Step, ...]:
    """In order of time; a guest may be named once a step has added it."""
    steps = []
    last = 0.0
    for number, step in enumerate(scenario.steps):
        if step.at < last:
            todo = "Put the steps in order of time"
            raise BadRequest(f"steps.{number}.at", why=f"{step.at:g} is before the step before ({last:g})", todo=todo)
        last = step.at
        verbs = []
        for words in step.do:
            try:
                verb = parse_verb(words, nodes, guests)
            except BadRequest as error:
                raise BadRequest(f"steps.{number}.do: {error.what}", why=error.why, todo=error.todo) from error
            if verb.name == "guest add":
                guests.add(verb.sid)
            verbs.append(verb)
        steps.append(Step(step.at, tuple(verbs)))
    return tuple(steps)


def _known(known: _Known, nodes: dict[str, NodeSetup], guests: dict[str, GuestSetup]) -> Known:
    if known.manager:
        _demand(known.manager, nodes, "state.manager")
    for name in known.nodes:
        _demand(name, nodes, "state.nodes")
    for sid, guest in known.guests.items():
        if sid not in guests:
            raise BadRequest(f"state.guests.{sid}", why="there is no such guest", todo="Put it under guests too")
        _demand(guest.node, nodes, f"state.guests.{sid}.node")
    known_guests = {sid: KnownGuest(guest.state, guest.node) for sid, guest in known.guests.items()}
    return Known(known.manager, dict(known.nodes), known_guests)
