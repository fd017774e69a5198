"""Making a machine a node: asked before it is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Protocol

from pydantic import Field

from racimo.api.endpoint import Routes, privilege
from racimo.api.parameters import Parameters

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.datacenter.identity import Identity
    from racimo.task.upid import Upid

MODIFY = privilege("/", "Sys.Modify")

routes = Routes()


class Initialise(Parameters):
    """Who the node is."""

    name: Annotated[str, Field(description="The node's name; left out: the machine's host name.")] = ""
    address: Annotated[str, Field(description="Its address on the cluster network; left out: found out.")] = ""


class Witness(Parameters):
    """Which cluster to be a witness of."""

    text: Annotated[str, Field(description="What 'racimo cluster join-info --witness' printed.")] = ""
    name: Annotated[str, Field(description="The witness's name; left out: the machine's host name.")] = ""
    link0: Annotated[str, Field(description="Its address on the cluster network; left out: found out.")] = ""


class Recover(Parameters):
    """How to recover from one survivor."""

    confirmed: Annotated[bool, Field(description="You know that the other voters are gone for good.")] = False
    backup: Annotated[str, Field(description="A backup to begin from instead of this node's data.")] = ""
    member: Annotated[str, Field(description="Address of the recovered node, to follow it from another.")] = ""


class SetupSteps:
    """What the daemon does for these calls."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps


class Steps(Protocol):
    """Implemented by the daemon."""

    async def initialise(self, name: str, address: str) -> Identity:
        """Make this machine a node that stands alone, and begin to serve as one."""

    def witness(self, text: str, name: str, address: str, user: str) -> Upid:
        """Make this machine a witness, as a task."""

    def recover(self, *, confirmed: bool, backup: str, member: str, user: str) -> Upid:
        """Make this node's member of the store the only one, as a task."""


@routes.add(
    "POST", "/racimo/init", permission=MODIFY, parameters=Initialise, summary="Make this machine a node", timeout=120
)
async def initialise(context: Context, parameters: Initialise) -> dict[str, JsonValue]:
    """It stands alone then, with a storage 'local'."""
    steps = context.services.need(SetupSteps).steps
    identity = await steps.initialise(parameters.name, parameters.address)
    return {"name": identity.name, "id": identity.id, "address": identity.address}


@routes.add(
    "POST", "/racimo/witness", permission=MODIFY, parameters=Witness, task=True, summary="Make this machine a witness"
)
async def witness(context: Context, parameters: Witness) -> Upid:
    """It votes, and runs nothing else."""
    steps = context.services.need(SetupSteps).steps
    return steps.witness(parameters.text, parameters.name, parameters.link0, context.who.user)


@routes.add(
    "POST", "/racimo/recover", permission=MODIFY, parameters=Recover, task=True,
    summary="Go on with this node as the only voter, after the others are gone for good",
)  # fmt: skip
async def recover(context: Context, parameters: Recover) -> Upid:
    """Refused while there is a quorum."""
    return context.services.need(SetupSteps).steps.recover(
        confirmed=parameters.confirmed, backup=parameters.backup, member=parameters.member, user=context.who.user
    )
