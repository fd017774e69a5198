"""The key that secrets in the store are sealed with: handed to the other nodes, and changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.api.context import Origin
from racimo.api.endpoint import NODES, Routes, privilege
from racimo.api.inventory import Inventory
from racimo.api.parameters import Parameters
from racimo.datacenter.sealing import SealingKeeper
from racimo.errors import Unauthorised
from racimo.store.sealing import RING

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context

MODIFY = privilege("/", "Sys.Modify")
ROTATE_TIMEOUT_S = 60.0

routes = Routes()


class Rotate(Parameters):
    """How to change the key."""

    force: Annotated[bool, Field(description="Though this node lacks the present key: what it sealed is lost.")] = False


@routes.add("GET", "/racimo/sealing", permission=NODES, summary="The sealing keys, for the other nodes alone")
async def hand_over(context: Context, parameters: Parameters) -> JsonValue:
    """Not for a witness, which opens nothing, nor for root of this node, who has the file."""
    node = context.services.need(Inventory).nodes().get(context.who.node)
    if context.who.origin is not Origin.PEER or node is None or node.witness:
        raise Unauthorised("The sealing keys are not handed over", why="only nodes that run guests get them")
    ring: JsonValue = RING.dump_python(context.services.need(SealingKeeper).sealing.reload(), mode="json")
    return ring


@routes.add(
    "POST", "/racimo/sealing/rotate", permission=MODIFY, parameters=Rotate, timeout=ROTATE_TIMEOUT_S,
    summary="Make a new sealing key, and seal all secrets in the store with it",
)  # fmt: skip
async def rotate(context: Context, parameters: Rotate) -> dict[str, JsonValue]:
    """Waits until the nodes in reach have it. ``lost``: secrets that could not be opened, to be set anew."""
    keeper = context.services.need(SealingKeeper)
    done = await keeper.rotate(force=parameters.force)
    return {"key": keeper.sealing.ring.current, "records": done.records, "lost": list(done.lost)}
