"""The verbs of a scenario's steps: parsed and checked before anything runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.errors import BadRequest
from racimo.ha.simulate.kinds import AIMED, KINDS

if TYPE_CHECKING:
    from collections.abc import Collection

ON_OFF = ("on", "off")
STATES = ("started", "stopped", "disabled", "ignored")
FORMS = {
    "power": "power NODE on|off",
    "network": "network NODE on|off",
    "shutdown": "shutdown NODE",
    "reboot": "reboot NODE",
    "maintenance": "maintenance NODE on|off",
    "ha": "ha NODE start|stop",
    "store": "store NODE ok|fail",
    "pause": "pause NODE SECONDS",
    "partition": "partition NODE,NODE|NODE…",
    "heal": "heal",
    "disarm": "disarm freeze|ignore",
    "arm": "arm",
    "guest": "guest SID VERB …",
    "fault": "fault KIND NODE SECONDS",
}
GUEST_FORMS = {
    **{state: f"guest SID {state}" for state in STATES},
    "migrate": "guest SID migrate NODE",
    "relocate": "guest SID relocate NODE",
    "stop": "guest SID stop SECONDS",
    "lock": "guest SID lock",
    "unlock": "guest SID unlock",
    "add": "guest SID add NODE [STATE]",
    "delete": "guest SID delete",
    "move": "guest SID move NODE",
    "load": "guest SID load CPU MEMORY_MIB",
    "size": "guest SID size CPUS MEMORY_MIB",
}
CHOICES = {
    "power": ON_OFF,
    "network": ON_OFF,
    "maintenance": ON_OFF,
    "ha": ("start", "stop"),
    "store": ("ok", "fail"),
}


@dataclass(frozen=True, slots=True)
class Verb:
    """One thing that is done. ``words`` is the line as it was written; only those that it needs are set."""

    name: str
    words: str
    node: str = ""
    sid: str = ""
    choice: str = ""
    """``on``, ``freeze``, a requested state, a kind of fault."""
    first: float | None = None
    """A number of seconds, CPUs; None where ``-`` leaves it as it is."""
    second: float | None = None
    groups: tuple[tuple[str, ...], ...] = ()


class _Line:
    """The words of one verb, taken one by one."""

    def __init__(self, words: str, form: str) -> None:
        self.words, self.form, self._rest = words, form, words.split()

    def take(self, what: str) -> str:
        if not self._rest:
            raise self.wrong(f"{what} is missing")
        return self._rest.pop(0)

    def among(self, choices: Collection[str], what: str) -> str:
        word = self.take(what)
        if word not in choices:
            raise self.wrong(f"'{word}' is not one of {', '.join(choices)}")
        return word

    def number(self, what: str, *, or_dash: bool = False) -> float | None:
        word = self.take(what)
        if or_dash and word == "-":
            return None
        try:
            value = float(word)
        except ValueError:
            raise self.wrong(f"'{word}' is no number") from None
        if not 0 <= value < float("inf"):
            raise self.wrong(f"'{word}' is not a number of 0 or more")
        return value

    def optional(self) -> bool:
        return bool(self._rest)

    def end(self) -> None:
        if self._rest:
            raise self.wrong(f"'{' '.join(self._rest)}' is too much")

    def wrong(self, why: str) -> BadRequest:
        return BadRequest(f"'{self.words}' cannot be done", why=why, todo=f"Write it as: {self.form}")


def parse_verb(words: str, nodes: Collection[str], guests: Collection[str]) -> Verb:
    """The verb that ``words`` are. Raises ``BadRequest`` that says what is wrong and how it is written.

    ``guests`` are all that there ever are, those added by earlier steps included.
    """
    name = words.split()[0] if words.split() else ""
    if name not in FORMS:
        known = "; ".join(FORMS.values())
        raise BadRequest(f"'{words}' cannot be done", why=f"'{name}' is no verb", todo=f"The verbs are: {known}")
    line = _Line(words, FORMS[name])
    line.take("verb")
    verb = _guest(line, nodes, guests) if name == "guest" else _other(name, line, nodes)
    line.end()
    return verb


def _other(name: str, line: _Line, nodes: Collection[str]) -> Verb:
    words = line.words
    if name in ("heal", "arm"):
        return Verb(name, words)
    if name == "disarm":
        return Verb(name, words, choice=line.among(("freeze", "ignore"), "the mode"))
    if name == "partition":
        return Verb(name, words, groups=_groups(line, nodes))
    if name == "fault":
        kind, node = line.among((*KINDS, *AIMED), "the kind"), line.among(nodes, "the node")
        return Verb(name, words, node=node, choice=kind, first=line.number("the number of seconds"))
    node = line.among(nodes, "the node")
    if name == "pause":
        return Verb(name, words, node=node, first=line.number("the number of seconds"))
    if name in CHOICES:
        return Verb(name, words, node=node, choice=line.among(CHOICES[name], "the choice"))
    return Verb(name, words, node=node)


def _groups(line: _Line, nodes: Collection[str]) -> tuple[tuple[str, ...], ...]:
    groups = tuple(tuple(group.split(",")) for group in line.take("the groups").split("|"))
    named = [node for group in groups for node in group]
    for node in named:
        if node not in nodes:
            raise line.wrong(f"'{node}' is no node")
    if len(set(named)) != len(named):
        raise line.wrong("a node is in two groups")
    return groups


def _guest(line: _Line, nodes: Collection[str], guests: Collection[str]) -> Verb:
    sid = line.take("the guest")
    choice = line.among(GUEST_FORMS, "what is to be done")
    line.form = GUEST_FORMS[choice]
    check_sid(sid, line)
    if choice != "add" and sid not in guests:
        raise line.wrong(f"there is no guest {sid}")
    if choice == "add":
        node = line.among(nodes, "the node")
        state = line.among(STATES, "the state") if line.optional() else "started"
        return Verb("guest add", line.words, node=node, sid=sid, choice=state)
    if choice in STATES:
        return Verb("guest state", line.words, sid=sid, choice=choice)
    if choice in ("migrate", "relocate", "move"):
        return Verb(f"guest {choice}", line.words, sid=sid, choice=choice, node=line.among(nodes, "the node"))
    if choice == "stop":
        return Verb("guest stop", line.words, sid=sid, first=line.number("the number of seconds"))
    if choice in ("load", "size"):
        first = line.number("the CPUs", or_dash=True)
        return Verb(f"guest {choice}", line.words, sid=sid, first=first, second=line.number("the MiB", or_dash=True))
    return Verb(f"guest {choice}", line.words, sid=sid)


def check_sid(sid: str, line: _Line | None = None) -> None:
    """``vm:100`` and the like. Raises ``BadRequest``."""
    kind, _, number = sid.partition(":")
    if kind != "vm" or not number.isascii() or not number.isdigit() or not 1 <= int(number) <= 999_999_999:
        why = f"'{sid}' is not like vm:100"
        raise line.wrong(why) if line else BadRequest(f"'{sid}' is no guest", why=why, todo="Name it like vm:100")
