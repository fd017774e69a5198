"""Looking at a guest from outside: its serial console's log."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.routes.guests import OfGuest
from racimo.errors import NotFound

if TYPE_CHECKING:
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
async def serial_tail(context: Context, parameters: SerialTail) -> str:
    """What it printed on this node."""
    path = context.services.paths.guest_log(parameters.vmid) / "serial.log"

    def read() -> bytes:
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - parameters.size))
            return log.read(parameters.size)

    try:
        return (await asyncio.to_thread(read)).decode(errors="replace")
    except FileNotFoundError as error:
        raise NotFound(
            f"Guest {parameters.vmid} has no serial log on {parameters.node}",
            why="it has not run there, or has no serial port",
            todo=f"Give it one: racimo guest set {parameters.vmid} serial0=socket",
        ) from error
