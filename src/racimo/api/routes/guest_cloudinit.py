"""A guest's cloud-init seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.routes.guests import AUDIT, OfGuest, of_node, pending_of
from racimo.guest.cloudinit_operations import RegenerateSeed, is_cloud_init_key, seed_part
from racimo.guest.lifecycle import Lifecycle

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context

BASE = "/nodes/{node}/qemu/{vmid}/cloudinit"

routes = Routes()


class SeedPart(OfGuest):
    """One file of the seed."""

    type: Annotated[Literal["user", "network", "meta"], Field(description="Which file.")]


@routes.add("GET", BASE, permission=AUDIT, answers=Answers.NODE, parameters=OfGuest, summary="Settings of cloud-init")
async def cloud_init_settings(context: Context, parameters: OfGuest) -> list[dict[str, JsonValue]]:
    """As they are in the seed, with what waits for the next one."""
    return [entry for entry in pending_of(context, parameters) if is_cloud_init_key(str(entry["key"]))]


@routes.add(
    "PUT", BASE, permission=privilege("/vms/{vmid}", "VM.Config.Cloudinit"), answers=Answers.NODE, parameters=OfGuest,
    summary="Make a guest's cloud-init seed anew",
)  # fmt: skip
async def regenerate(context: Context, parameters: OfGuest) -> None:
    """A running guest finds another disc in its drive."""
    of_node(context, parameters)
    operation = RegenerateSeed(vmid=parameters.vmid)
    await context.services.tasks.run(operation, context.services.need(Lifecycle), context.who.user)


@routes.add(
    "GET", f"{BASE}/dump", permission=AUDIT, answers=Answers.NODE, parameters=SeedPart,
    summary="A file of a guest's cloud-init seed",
)  # fmt: skip
async def dump(context: Context, parameters: SeedPart) -> str:
    """As it would be made now."""
    return seed_part(of_node(context, parameters).config, parameters.vmid, parameters.type)
