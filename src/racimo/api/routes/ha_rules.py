"""Rules of high availability: on which nodes guests belong, and which of them belong together or apart."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.api.endpoint import Routes, privilege
from racimo.api.parameters import Parameters, or_kept
from racimo.errors import BadParameter
from racimo.ha.rules import HaRules, parse_nodes, parse_resources, set_back
from racimo.model.rule import Affinity, Rule, RuleKind

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.ha.rules import RuleStatus

AUDIT = privilege("/", "Sys.Audit")
CONSOLE = privilege("/", "Sys.Console")

routes = Routes()


class OfRule(Parameters):
    """One rule."""

    rule: Annotated[str, Field(description="The rule's name.")]


class ListRules(Parameters):
    """Which rules to list."""

    type: Annotated[RuleKind | None, Field(description="Only those of this type.")] = None
    resource: Annotated[str | None, Field(description="Only those that name this guest.")] = None


class RuleOptions(OfRule):
    """What can be set of a rule."""

    resources: Annotated[tuple[str, ...] | None, Field(description="Guests under HA, such as vm:100.")] = None
    nodes: Annotated[tuple[str, ...] | None, Field(description="Nodes with priorities: n1:2, n2:1.")] = None
    strict: Annotated[bool | None, Field(description="Run on no other node.")] = None
    affinity: Annotated[Affinity | None, Field(description="Keep them together or apart.")] = None
    disable: Annotated[bool | None, Field(description="Switch the rule off.")] = None
    comment: Annotated[str | None, Field(max_length=4096)] = None

    def onto(self, rule: Rule) -> Rule:
        """``rule`` with what was given. Raises ``BadParameter``."""
        return replace(
            rule, resources=rule.resources if self.resources is None else parse_resources(self.resources),
            nodes=rule.nodes if self.nodes is None else parse_nodes(self.nodes),
            strict=or_kept(self.strict, rule.strict), affinity=or_kept(self.affinity, rule.affinity),
            disable=or_kept(self.disable, rule.disable), comment=or_kept(self.comment, rule.comment),
        )  # fmt: skip


class NewRule(RuleOptions):
    """A new rule."""

    type: Annotated[RuleKind, Field(description="node-affinity or resource-affinity.")]


class ChangeRule(RuleOptions):
    """A changed rule; its type cannot change."""

    type: Annotated[RuleKind | None, Field(description="The type that it has.")] = None
    delete: Annotated[tuple[str, ...], Field(description="Set these back: comment, disable, strict.")] = ()
    digest: Annotated[str, Field(description="Only if the rules still have this digest.")] = ""


@routes.add("GET", "/cluster/ha/rules", permission=AUDIT, parameters=ListRules, summary="The rules of HA")
async def list_rules(context: Context, parameters: ListRules) -> list[dict[str, JsonValue]]:
    """By name. ``why`` says of a rule that does not hold what it contradicts."""
    found = await context.services.need(HaRules).list()
    wanted = parse_resources([parameters.resource])[0] if parameters.resource else None
    return [
        {**_shown(status), "order": order, "digest": found.digest}
        for order, status in enumerate(found.rules, start=1)
        if parameters.type in (None, status.rule.kind) and (wanted is None or wanted in status.rule.resources)
    ]


@routes.add("GET", "/cluster/ha/rules/{rule}", permission=AUDIT, parameters=OfRule, summary="A rule of HA")
async def get_rule(context: Context, parameters: OfRule) -> dict[str, JsonValue]:
    """As it is set, and whether it holds."""
    return _shown(await context.services.need(HaRules).get(parameters.rule))


@routes.add("POST", "/cluster/ha/rules", permission=CONSOLE, parameters=NewRule, summary="Add a rule of HA")
async def add_rule(context: Context, parameters: NewRule) -> None:
    """Refused when it contradicts the rules that there are, unless it is disabled."""
    if parameters.type is RuleKind.RESOURCES and parameters.affinity is None:
        raise BadParameter({"affinity": "is missing, and it is not optional for resource-affinity"})
    rule = Rule(name=parameters.rule, kind=parameters.type, resources=())
    await context.services.need(HaRules).add(parameters.onto(rule))


@routes.add("PUT", "/cluster/ha/rules/{rule}", permission=CONSOLE, parameters=ChangeRule, summary="Change a rule")
async def change_rule(context: Context, parameters: ChangeRule) -> None:
    """What is not given stays as it is."""

    def change(rule: Rule) -> Rule:
        if parameters.type not in (None, rule.kind):
            raise BadParameter(
                {"type": f"the rule is {rule.kind}, and that cannot change"}, todo="Remove it and add it"
            )
        return set_back(parameters.onto(rule), parameters.delete)

    await context.services.need(HaRules).change(parameters.rule, change, digest=parameters.digest)


@routes.add("DELETE", "/cluster/ha/rules/{rule}", permission=CONSOLE, parameters=OfRule, summary="Remove a rule")
async def remove_rule(context: Context, parameters: OfRule) -> None:
    """Guests stay where they are, and are free to go elsewhere."""
    await context.services.need(HaRules).remove(parameters.rule)


def _shown(status: RuleStatus) -> dict[str, JsonValue]:
    """As clients of the Proxmox VE API expect: lists with commas, and only what was set of comment and disable."""
    rule = status.rule
    shown: dict[str, JsonValue] = {"rule": rule.name, "type": str(rule.kind), "resources": ",".join(rule.resources)}
    if rule.kind is RuleKind.NODES:
        nodes = sorted(rule.nodes.items())
        shown |= {"nodes": ",".join(f"{n}:{p}" if p else n for n, p in nodes), "strict": int(rule.strict)}
    else:
        shown["affinity"] = str(rule.affinity)
    if rule.disable:
        shown["disable"] = 1
    if rule.comment:
        shown["comment"] = rule.comment
    if status.left_out:
        shown["why"] = status.left_out
    return shown
