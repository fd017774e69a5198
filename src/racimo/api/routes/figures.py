"""What nodes and guests used over time."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.history import History
from racimo.api.parameters import OfNode
from racimo.api.routes.guests import AUDIT, OfGuest, of_node

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context

Timeframe = Annotated[Literal["hour", "day", "week", "month", "year"], Field(description="The span that ends now.")]
Kind = Annotated[Literal["AVERAGE", "MAX"], Field(description="Of each slot its average, or its largest.")]

routes = Routes()


class NodeSpan(OfNode):
    """A span of a node."""

    timeframe: Timeframe
    cf: Kind = "AVERAGE"


class GuestSpan(OfGuest):
    """A span of a guest."""

    timeframe: Timeframe
    cf: Kind = "AVERAGE"


@routes.add(
    "GET", "/nodes/{node}/rrddata", permission=privilege("/nodes/{node}", "Sys.Audit"), answers=Answers.NODE,
    parameters=NodeSpan, summary="What a node used over time",
)  # fmt: skip
async def node_history(context: Context, parameters: NodeSpan) -> list[dict[str, JsonValue]]:
    """Oldest first; slots without a look are left out."""
    return await _told(context, "node", parameters.timeframe, parameters.cf)


@routes.add(
    "GET", "/nodes/{node}/qemu/{vmid}/rrddata", permission=AUDIT, answers=Answers.NODE, parameters=GuestSpan,
    summary="What a guest used over time",
)  # fmt: skip
async def guest_history(context: Context, parameters: GuestSpan) -> list[dict[str, JsonValue]]:
    """While it ran on this node. Traffic in bytes a second."""
    of_node(context, parameters)
    return await _told(context, f"guest/{parameters.vmid}", parameters.timeframe, parameters.cf)


async def _told(context: Context, subject: str, span: str, kind: str) -> list[dict[str, JsonValue]]:
    slots = await context.services.need(History).read(subject, span, time.time(), largest=kind == "MAX")
    return [{"time": slot.at, **slot.figures} for slot in slots]
