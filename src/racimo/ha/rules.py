"""Rules as administrators handle them: add, change, remove, and see which hold."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound
from racimo.ha.resources import vmid_of
from racimo.model.rule import Affinity, RuleKind
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from racimo.model.rule import Rule
    from racimo.store.collection import Held
    from racimo.store.layout import Layout

NAME = re.compile(r"[A-Za-z][A-Za-z0-9_-]{0,127}")
ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class RuleStatus:
    """A rule, and why it does not hold; ``left_out`` is empty for one that does, or that is switched off."""

    rule: Rule
    left_out: str


@dataclass(frozen=True, slots=True)
class RuleList:
    """All rules in order of their names. ``digest`` changes when any of them does."""

    rules: tuple[RuleStatus, ...]
    digest: str


class HaRules:
    """What is refused: a rule that contradicts another, names unknown nodes, or guests that are not under HA."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    async def list(self) -> RuleList:
        """All rules, those that do not hold with the reason."""
        held = await self._layout.rules.all()
        rules = [held[name].record for name in sorted(held)]
        left_out = compile_rules(rules, await self._nodes()).left_out
        return RuleList(tuple(RuleStatus(rule, left_out.get(rule.name, "")) for rule in rules), _digest(held.values()))

    async def get(self, name: str) -> RuleStatus:
        """One rule; ``NotFound`` if there is none of that name."""
        for status in (await self.list()).rules:
            if status.rule.name == name:
                return status
        raise _no_such_rule(name)

    async def add(self, rule: Rule) -> None:
        """Write a new rule. Raises ``BadParameter`` for one that cannot be kept, ``AlreadyExists``."""
        _check_form(rule)

        def new(held: Held[Rule] | None) -> Rule:
            if held is not None:
                raise AlreadyExists(
                    f"HA rule '{rule.name}' already exists", todo=f"See: racimo ha rule set {rule.name}"
                )
            return rule

        await self._write(rule.name, new)

    async def change(self, name: str, change: Callable[[Rule], Rule], *, digest: str = "") -> None:
        """Change a rule. ``change`` must be pure. ``digest``: only if the rules are still those."""

        def changed(held: Held[Rule] | None) -> Rule:
            if held is None:
                raise _no_such_rule(name)
            new = change(held.record)
            _check_form(new)
            return new

        await self._write(name, changed, digest)

    async def remove(self, name: str) -> None:
        """Forget the rule."""
        if await self._layout.rules.find(name) is None:
            raise _no_such_rule(name)
        await self._layout.rules.remove(name)

    async def _write(self, name: str, change: Callable[[Held[Rule] | None], Rule], digest: str = "") -> None:
        """Checked against all other rules as they are when it is written."""
        layout = self._layout
        for _ in range(ATTEMPTS):
            held = await layout.rules.all()
            if digest and digest != _digest(held.values()):
                raise Conflict("detected modified configuration - file changed by other user? Try again.")
            old = held.get(name)
            rule = change(old)
            await self._check_names(rule)
            others = [one.record for key, one in held.items() if key != name]
            why = compile_rules([*others, rule], await self._nodes()).left_out.get(name)
            if why and not rule.disable:
                raise BadParameter({"resources": f"rule '{name}' cannot be kept: {why}"}, todo="Change or disable one")
            compares = [one.compare for one in held.values()]
            absent = [] if old else [layout.rules.absent(name)]
            if await layout.store.txn([*compares, *absent], [layout.rules.put(name, rule, old)]) is not None:
                return
        raise Conflict(f"HA rule '{name}' cannot be written now", why="the rules change all the time", todo="Try again")

    async def _check_names(self, rule: Rule) -> None:
        nodes, known = await self._nodes(), await self._layout.resources.all()
        problems = {}
        if strange := sorted(set(rule.nodes) - nodes):
            problems["nodes"] = f"there is no node {', '.join(strange)} that runs guests"
        if strange := sorted(set(rule.resources) - set(known)):
            problems["resources"] = f"not under HA: {', '.join(strange)}"
        if problems:
            raise BadParameter(problems, todo="See: racimo ha status")

    async def _nodes(self) -> set[str]:
        return {node.name for node in await self._layout.nodes.records() if not node.witness}


def parse_resources(words: Iterable[str]) -> tuple[str, ...]:
    """``vm:100`` or ``100``, each once and in order. Raises ``BadParameter``."""
    return tuple(f"vm:{vmid}" for vmid in sorted({vmid_of(word) for word in words}))


def parse_nodes(words: Iterable[str]) -> dict[str, int]:
    """``n1`` or ``n1:2``, the number being the priority (0 to 1000). Raises ``BadParameter``."""
    nodes = {}
    for word in words:
        name, _, priority = word.partition(":")
        if not name or not re.fullmatch(r"[0-9]{0,4}", priority) or int(priority or 0) > 1000:
            raise BadParameter({"nodes": f"'{word}' is not like n1 or n1:2, with a priority of up to 1000"})
        nodes[name] = int(priority or 0)
    return dict(sorted(nodes.items()))


def _check_form(rule: Rule) -> None:
    """What a rule of its kind must have, and must not have."""
    problems = {}
    if not NAME.fullmatch(rule.name):
        problems["rule"] = f"'{rule.name}' is not a name: a letter, then letters, digits, - and _"
    if not rule.resources:
        problems["resources"] = "is missing, and it is not optional"
    if rule.kind is RuleKind.NODES and not rule.nodes:
        problems["nodes"] = "is missing, and it is not optional for node-affinity"
    if rule.kind is RuleKind.NODES and rule.affinity is not Affinity.POSITIVE:
        problems["affinity"] = "can only be positive for node-affinity"
    if rule.kind is RuleKind.RESOURCES and (rule.nodes or rule.strict):
        problems["nodes" if rule.nodes else "strict"] = "is for node-affinity only"
    if problems:
        raise BadParameter(problems)


def set_back(rule: Rule, fields: Iterable[str]) -> Rule:
    """``rule`` with comment, disable or strict as they are by default. Raises ``BadParameter`` for other ``fields``."""
    defaults: dict[str, Any] = {"comment": "", "disable": False, "strict": False}
    unknown = sorted(set(fields) - set(defaults))
    if unknown:
        raise BadParameter({"delete": f"'{unknown[0]}' cannot be deleted; {', '.join(defaults)} can"})
    return replace(rule, **{name: defaults[name] for name in fields})


def _no_such_rule(name: str) -> NotFound:
    return NotFound(f"no such ha rule '{name}'", todo="See: racimo ha rule list")


def _digest(held: Iterable[Held[Rule]]) -> str:
    revisions = " ".join(f"{one.record.name}:{one.revision}" for one in sorted(held, key=lambda one: one.key))
    return hashlib.sha1(revisions.encode(), usedforsecurity=False).hexdigest()
