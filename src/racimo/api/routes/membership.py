"""Membership: create a cluster, join it, leave it, remove what is dead; backups of the store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from racimo.api.endpoint import ANYBODY, Routes, privilege
from racimo.api.parameters import Parameters
from racimo.datacenter.create import CreateRequest, check_create
from racimo.datacenter.join_message import JoinRequest
from racimo.datacenter.join_text import LIFE_S, read_text
from racimo.datacenter.remove import RemoveRequest
from racimo.datacenter.service import DatacenterService
from racimo.errors import Conflict
from racimo.model.guest import Guest, Runtime
from racimo.model.node import NodeFacts
from racimo.model.storage import Storage
from racimo.task.operation import Operation
from racimo.task.record import TaskFilter

if TYPE_CHECKING:
    from contextlib import AsyncExitStack

    from racimo.api.context import Context
    from racimo.datacenter.join_message import JoinCheck, JoinGrant
    from racimo.task.operation import Report
    from racimo.task.upid import Upid

MODIFY = privilege("/", "Sys.Modify")

routes = Routes()


class NewCluster(Parameters):
    """A cluster to be made."""

    clustername: Annotated[str, Field(description="1 to 15 letters, digits and hyphens.")]
    link0: Annotated[
        str, Field(description="This node's address on the cluster network; left out: the one it has.")
    ] = ""


class JoinInfo(Parameters):
    """What the join text is for."""

    witness: Annotated[bool, Field(description="For a witness: it votes and runs nothing.")] = False
    life: Annotated[float, Field(gt=0, le=7 * 86400, description="Seconds until it expires.")] = LIFE_S


class Join(Parameters):
    """How this node joins."""

    text: Annotated[str, Field(description="What 'racimo cluster join-info' printed on a member.")]
    link0: Annotated[
        str, Field(description="This node's address on the cluster network; left out: the one it has.")
    ] = ""
    renumber: Annotated[bool, Field(description="Give guests whose number is taken a free one.")] = False


class Leave(Parameters):
    """How this node leaves."""

    force: Annotated[bool, Field(description="Also when the others do not answer; they must remove it then.")] = False


class Remove(Parameters):
    """A dead node or a witness."""

    name: str
    guests_to: Annotated[str, Field(alias="guests-to", description="Node that gets its guests.")] = ""
    forget_guests: Annotated[bool, Field(alias="forget-guests", description="Delete its guests' records.")] = False
    powered_off: Annotated[
        bool, Field(alias="powered-off", description="You vouch that the node is off, and stays off.")
    ] = False


@dataclass(frozen=True, slots=True)
class CreateCluster(Operation[DatacenterService]):
    """Make this node the first of a cluster."""

    kind: ClassVar[str] = "clustercreate"
    request: CreateRequest

    @property
    def subject(self) -> str:
        return self.request.name

    async def precheck(self, services: DatacenterService) -> None:
        check_create(services.host, self.request)

    async def execute(self, services: DatacenterService, report: Report, undo: AsyncExitStack) -> None:
        await services.create(self.request, report)


@dataclass(frozen=True, slots=True)
class JoinCluster(Operation[DatacenterService]):
    """Join a cluster with this node's guests."""

    kind: ClassVar[str] = "clusterjoin"
    node: str
    text: str
    address: str
    renumber: bool

    @property
    def subject(self) -> str:
        return self.node

    def validate(self) -> None:
        read_text(self.text)

    async def execute(self, services: DatacenterService, report: Report, undo: AsyncExitStack) -> None:
        await services.join(self.text, self.address, report, renumber=self.renumber)


@dataclass(frozen=True, slots=True)
class LeaveCluster(Operation[DatacenterService]):
    """Leave the cluster and stand alone."""

    kind: ClassVar[str] = "clusterleave"
    node: str
    force: bool

    @property
    def subject(self) -> str:
        return self.node

    async def execute(self, services: DatacenterService, report: Report, undo: AsyncExitStack) -> None:
        await services.leave(report, force=self.force)


@dataclass(frozen=True, slots=True)
class RemoveNode(Operation[DatacenterService]):
    """Remove a dead node, or a witness."""

    kind: ClassVar[str] = "clusterremove"
    request: RemoveRequest

    @property
    def subject(self) -> str:
        return self.request.node

    async def execute(self, services: DatacenterService, report: Report, undo: AsyncExitStack) -> None:
        await services.remove(self.request, report)


@routes.add("POST", "/cluster/config", permission=MODIFY, parameters=NewCluster, task=True, summary="Create a cluster")
async def create_cluster(context: Context, parameters: NewCluster) -> Upid:
    """This node becomes its first; its guests go on."""
    _refuse_while_busy(context)
    datacenter = context.services.need(DatacenterService)
    address = parameters.link0 or datacenter.identity.address
    return context.submit(CreateCluster(CreateRequest(name=parameters.clustername, address=address)), datacenter)


@routes.add("POST", "/racimo/join-info", permission=MODIFY, parameters=JoinInfo, summary="A one-time join text")
async def join_info(context: Context, parameters: JoinInfo) -> str:
    """Paste it on the machine that is to join."""
    datacenter = context.services.need(DatacenterService)
    return await datacenter.join_info(life=parameters.life, witness=parameters.witness)


@routes.add("POST", "/cluster/config/join", permission=MODIFY, parameters=Join, task=True, summary="Join a cluster")
async def join_cluster(context: Context, parameters: Join) -> Upid:
    """Asked of the node that is to join."""
    _refuse_while_busy(context)
    datacenter = context.services.need(DatacenterService)
    identity = datacenter.identity
    operation = JoinCluster(identity.name, parameters.text, parameters.link0 or identity.address, parameters.renumber)
    return context.submit(operation, datacenter)


@routes.add(
    "POST", "/cluster/config/leave", permission=MODIFY, parameters=Leave, task=True, summary="Leave the cluster"
)
async def leave_cluster(context: Context, parameters: Leave) -> Upid:
    """Asked of the node that is to leave."""
    _refuse_while_busy(context)
    datacenter = context.services.need(DatacenterService)
    return context.submit(LeaveCluster(datacenter.identity.name, parameters.force), datacenter)


@routes.add(
    "DELETE", "/cluster/config/nodes/{name}", permission=MODIFY, parameters=Remove, task=True,
    summary="Remove a dead node or a witness",
)  # fmt: skip
async def remove_node(context: Context, parameters: Remove) -> Upid:
    """Asked of any other node."""
    request = RemoveRequest(
        node=parameters.name,
        guests_to=parameters.guests_to,
        forget_guests=parameters.forget_guests,
        powered_off=parameters.powered_off,
    )
    return context.submit(RemoveNode(request), context.services.need(DatacenterService))


class JoinMessage(Parameters):
    """A joining machine's request: the fields of ``JoinRequest``."""

    structured: ClassVar[bool] = True
    secret: str
    name: str
    node_id: str
    address: str
    witness: bool = False
    facts: NodeFacts = NodeFacts()
    clock: float = 0.0
    guests: tuple[Guest, ...] = ()
    runtimes: tuple[Runtime, ...] = ()
    storages: tuple[Storage, ...] = ()
    networks: dict[str, str] = Field(default_factory=dict)
    renumber: bool = False
    csr: str = ""

    def request(self) -> JoinRequest:
        """As the datacenter room reads it."""
        return JoinRequest(**{name: getattr(self, name) for name in type(self).model_fields})


@routes.add("POST", "/racimo/join/check", permission=ANYBODY, parameters=JoinMessage, summary="May this machine join?")
async def check_join(context: Context, parameters: JoinMessage) -> JoinCheck:
    """The secret of a join text stands for a login."""
    return await context.services.need(DatacenterService).check_join(parameters.request())


@routes.add("POST", "/racimo/join/commit", permission=ANYBODY, parameters=JoinMessage, summary="A machine joins")
async def commit_join(context: Context, parameters: JoinMessage) -> JoinGrant:
    """The secret of a join text stands for a login. Repeated by the same machine it has the effect of one."""
    return await context.services.need(DatacenterService).commit_join(parameters.request())


@routes.add("POST", "/racimo/backup", permission=MODIFY, summary="Back the store up now", timeout=300)
async def back_up(context: Context, parameters: Parameters) -> str:
    """Returns the file on this node."""
    return str(await context.services.need(DatacenterService).backup())


def _refuse_while_busy(context: Context) -> None:
    """A node's store is changed under its tasks: none may run meanwhile."""
    running = context.services.tasks.list(TaskFilter(running=True))
    if running:
        raise Conflict(
            "The node is busy",
            why=f"{len(running)} tasks run on it, such as {running[0].upid.kind} {running[0].upid.subject}",
            todo="Wait for them, or cancel them: racimo task list",
        )
