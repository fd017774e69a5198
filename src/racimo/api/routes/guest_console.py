"""Looking at a guest from outside: its serial console's log, its agent."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.routes.guests import OfGuest, of_node
from racimo.guest.agent import agent_ping
from racimo.guest.console import serial_tail

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context

SERIAL_BYTES = 65536

routes = Routes()


class SerialTail(OfGuest):
    """How much of the serial console's log."""

    size: Annotated[int, Field(ge=1, le=SERIAL_BYTES, description="Bytes from its end.")] = 4096


@routes.add(
    "GET", "/nodes/{node}/qemu/{vmid}/serial", permission=privilege("/vms/{vmid}", "VM.Console"), answers=Answers.NODE,
    parameters=SerialTail, summary="The end of a guest's serial console log",
)  # fmt: skip
async def tail_serial(context: Context, parameters: SerialTail) -> str:
    """What it printed on this node."""
    return await asyncio.to_thread(serial_tail, context.services.paths, parameters.vmid, parameters.size)


@routes.add(
    "POST", "/nodes/{node}/qemu/{vmid}/agent/ping",
    permission=privilege("/vms/{vmid}", "VM.GuestAgent.Audit", "VM.GuestAgent.Unrestricted"),
    answers=Answers.NODE, parameters=OfGuest, summary="Does the guest's agent answer?",
)  # fmt: skip
async def ping_agent(context: Context, parameters: OfGuest) -> dict[str, JsonValue]:
    """Raises what kept it from answering."""
    of_node(context, parameters)
    await agent_ping(context.services.paths, parameters.vmid)
    return {"result": {}}
