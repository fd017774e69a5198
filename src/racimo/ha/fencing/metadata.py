"""How a fence agent describes itself, and whether options are what it takes.

The form is the ``resource-agent`` XML that ``action=metadata`` prints (FenceAgentAPI of ClusterLabs).
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, OperationFailed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SECRET = re.compile(r"passw|secret|token|community|api_?key|hexadecimal_kg|cookie")
"""Names of options that are sealed, whoever gives them."""

OWN = re.compile(r"action|help|version|quiet|verbose.*|debug.*|nodename|separator|plug_separator")
"""What Racimo says itself, and what would only make the program talk."""

RUNS_SOMETHING = re.compile(r".*_script|.*_path|ssh_options")
"""Options that name a program to be run as root: not to be had through the API."""

WORDS = {"boolean": "0 or 1", "integer": "a whole number", "second": "a number of seconds"}
VALUES = {
    "boolean": re.compile(r"(?i)0|1|yes|no|on|off|true|false"),
    "integer": re.compile(r"-?\d+"),
    "second": re.compile(r"\d+(\.\d+)?"),
}


@dataclass(frozen=True, slots=True)
class AgentParameter:
    """One option of an agent."""

    name: str
    kind: str
    """``string``, ``boolean``, ``integer``, ``second`` or ``select``."""
    required: bool
    default: str
    choices: tuple[str, ...]
    about: str
    replaces: tuple[str, ...]
    """Older names that it is known by too."""
    deprecated: bool

    @property
    def secret(self) -> bool:
        """Whether it is sealed."""
        return is_secret(self.name)


@dataclass(frozen=True, slots=True)
class AgentDescription:
    """An agent as it describes itself; parameters that Racimo sets itself are left out."""

    name: str
    about: str
    text: str
    parameters: tuple[AgentParameter, ...]
    actions: tuple[str, ...]


def is_secret(option: str) -> bool:
    """Whether the value of ``option`` is never to be shown."""
    return SECRET.search(option) is not None and not option.startswith("use_") and not option.endswith("_file")


def describe(agent: str, xml: str) -> AgentDescription:
    """Read what ``agent`` printed. Raises ``OperationFailed`` when it is not what an agent prints."""
    try:
        root = ET.fromstring(xml[xml.index("<resource-agent") :])  # noqa: S314
    except (ET.ParseError, ValueError) as error:
        raise OperationFailed(f"{agent} describes itself in a way that cannot be read", why=str(error)) from error
    parameters = [_parameter(element) for element in root.iterfind("parameters/parameter")]
    return AgentDescription(
        name=agent,
        about=root.get("shortdesc", ""),
        text=" ".join((root.findtext("longdesc") or "").split()),
        parameters=tuple(each for each in parameters if each.name and not OWN.fullmatch(each.name)),
        actions=tuple(element.get("name", "") for element in root.iterfind("actions/action")),
    )


def _parameter(element: ET.Element) -> AgentParameter:
    content = element.find("content")
    kind, default = ("string", "") if content is None else (content.get("type", "string"), content.get("default", ""))
    return AgentParameter(
        name=element.get("name", ""),
        kind=kind,
        required=element.get("required") == "1",
        default=default,
        choices=tuple(option.get("value", "") for option in element.iterfind("content/option")),
        about=" ".join((element.findtext("shortdesc") or "").split()),
        replaces=tuple(element.get("obsoletes", "").split()),
        deprecated=element.get("deprecated") == "1",
    )


def check_agent(description: AgentDescription) -> None:
    """Raise ``BadParameter`` for an agent that cannot confirm anything: without ``off``, or without ``status``."""
    missing = [action for action in ("off", "status") if description.actions and action not in description.actions]
    if missing:
        why = f"{description.name} knows no {' and no '.join(missing)}, so it can confirm nothing"
        raise BadParameter({"agent": why})


def check_options(description: AgentDescription, options: Mapping[str, str]) -> None:
    """Raise ``BadParameter`` naming each option that is unknown, malformed, not to be had, or missing."""
    known = {parameter.name: parameter for parameter in description.parameters}
    problems = {}
    for name, value in options.items():
        if OWN.fullmatch(name):
            problems[name] = "is not to be set: Racimo says itself what is to be done"
        elif RUNS_SOMETHING.fullmatch(name):
            problems[name] = "is not to be had here: it would run another program as root"
        elif name not in known:
            problems[name] = f"is not an option of {description.name}"
        elif problem := _value_problem(known[name], value):
            problems[name] = problem
    for parameter in description.parameters:
        names = {parameter.name, *parameter.replaces}
        if parameter.required and not parameter.deprecated and not names & options.keys():
            problems[parameter.name] = f"is missing: {parameter.about or 'it is required'}"
    if problems:
        raise BadParameter(problems, todo=f"See: racimo ha fence describe {description.name}")


def _value_problem(parameter: AgentParameter, value: str) -> str:
    shown = "what was given" if parameter.secret else f"'{value}'"
    if any(ord(letter) < 32 for letter in value):
        return "holds a line break or another control character"
    if parameter.kind == "select" and parameter.choices and value not in parameter.choices:
        return f"{shown} is none of {', '.join(parameter.choices)}"
    if parameter.kind in VALUES and not VALUES[parameter.kind].fullmatch(value):
        return f"{shown} is not {WORDS[parameter.kind]}"
    return ""


def sealed(options: Mapping[str, str], secrets: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """``options`` and ``secrets`` with every option that is secret by its name among the secrets."""
    hidden = {name: value for name, value in options.items() if is_secret(name)}
    return {name: value for name, value in options.items() if name not in hidden}, {**hidden, **secrets}


def without(options: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """``options`` without ``names``."""
    left_out = set(names)
    return {name: value for name, value in options.items() if name not in left_out}
