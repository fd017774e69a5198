"""HA of the whole datacenter: maintenance of nodes, disarming and arming, rebalancing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import Routes, privilege
from racimo.api.parameters import Parameters
from racimo.ha.control import HaControl

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.ha.control import NodeMaintenance
    from racimo.placement.rebalance import Plan

AUDIT = privilege("/", "Sys.Audit")
CONSOLE = privilege("/", "Sys.Console")

routes = Routes()


class OfNode(Parameters):
    """One node."""

    node: Annotated[str, Field(description="The node's name.")]


class BeginMaintenance(OfNode):
    """Why."""

    comment: Annotated[str, Field(max_length=4096, description="A note for people.")] = ""


class Disarm(Parameters):
    """What disarming means for the guests."""

    mode: Annotated[
        Literal["freeze", "ignore"],
        Field(description="freeze: they stay as they are; ignore: they are handled as if they were not under HA."),
    ] = "freeze"


class Rebalance(Parameters):
    """How much."""

    moves: Annotated[int | None, Field(ge=1, le=1000, description="At most so many guests.")] = None


@routes.add("GET", "/cluster/ha/maintenance", permission=AUDIT, summary="Which nodes are in maintenance")
async def list_maintenance(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """Each node, with the HA guests that are still there."""
    return [_maintenance(line) for line in await context.services.need(HaControl).maintenance()]


@routes.add(
    "PUT", "/cluster/ha/maintenance/{node}", permission=CONSOLE, parameters=BeginMaintenance,
    summary="Have HA guests leave a node",
)  # fmt: skip
async def begin_maintenance(context: Context, parameters: BeginMaintenance) -> None:
    """They migrate live, and come back when the maintenance is over. It outlasts reboots and managers."""
    await context.services.need(HaControl).set_maintenance(parameters.node, on=True, comment=parameters.comment)


@routes.add(
    "DELETE", "/cluster/ha/maintenance/{node}", permission=CONSOLE, parameters=OfNode,
    summary="End the maintenance of a node",
)  # fmt: skip
async def end_maintenance(context: Context, parameters: OfNode) -> None:
    """The guests that left it come back."""
    await context.services.need(HaControl).set_maintenance(parameters.node, on=False)


@routes.add("POST", "/cluster/ha/status/disarm-ha", permission=CONSOLE, parameters=Disarm, summary="Have HA do nothing")
async def disarm(context: Context, parameters: Disarm) -> None:
    """The manager finishes what is under way first, a recovery above all."""
    await context.services.need(HaControl).disarm(parameters.mode)


@routes.add("POST", "/cluster/ha/status/arm-ha", permission=CONSOLE, summary="Have HA act again")
async def arm(context: Context, parameters: Parameters) -> None:
    """Also while it is being disarmed."""
    await context.services.need(HaControl).arm()


@routes.add(
    "GET", "/cluster/ha/rebalance", permission=AUDIT, parameters=Rebalance, summary="What rebalancing would move"
)
async def show_rebalance(context: Context, parameters: Rebalance) -> dict[str, JsonValue]:
    """Each move with the imbalance before and after, and why."""
    return _plan(await context.services.need(HaControl).plan(moves=parameters.moves))


@routes.add(
    "POST", "/cluster/ha/rebalance", permission=CONSOLE, parameters=Rebalance, summary="Move guests for balance"
)
async def rebalance(context: Context, parameters: Rebalance) -> dict[str, JsonValue]:
    """The manager carries it out; see the guests' history."""
    return _plan(await context.services.need(HaControl).rebalance(moves=parameters.moves))


def _maintenance(line: NodeMaintenance) -> dict[str, JsonValue]:
    record = line.maintenance
    return {
        "node": line.node, "maintenance": int(record is not None), "comment": record.comment if record else "",
        "since": record.since if record else 0.0, "guests": list(line.guests),
    }  # fmt: skip


def _plan(plan: Plan) -> dict[str, JsonValue]:
    moves: list[JsonValue] = [
        {
            "sid": move.sid, "source": move.source, "target": move.target, "before": move.before, "after": move.after,
            "why": move.why,
        }
        for move in plan.moves
    ]  # fmt: skip
    return {"moves": moves, "before": plan.before, "after": plan.after, "why": plan.why}
