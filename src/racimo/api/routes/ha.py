"""High availability: which guests are kept running, and what is being done about it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from racimo.api.endpoint import Routes, privilege
from racimo.api.parameters import Parameters
from racimo.ha.control import HaControl
from racimo.ha.fencing.devices import FenceDevices
from racimo.ha.probe import ProbeSettings
from racimo.ha.resources import HaResources
from racimo.model.ha import ArmPhase, Requested

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.ha.fencing.proofs import NodeProofs
    from racimo.ha.resources import NodeLine, ResourceStatus
    from racimo.model.ha import HistoryEntry

AUDIT = privilege("/", "Sys.Audit")
CONSOLE = privilege("/", "Sys.Console")
SID = Annotated[str, Field(description="The guest, such as vm:100.")]
COUNT = Field(ge=0, le=10)

routes = Routes()


class OfResource(Parameters):
    """One resource."""

    sid: SID


class ResourceOptions(OfResource):
    """What can be set of a resource."""

    state: Annotated[Requested | None, Field(description="started, stopped, disabled or ignored.")] = None
    max_restart: Annotated[int | None, COUNT] = None
    max_relocate: Annotated[int | None, COUNT] = None
    failback: Annotated[bool | None, Field(description="Go back to a better node when it returns.")] = None
    comment: Annotated[str | None, Field(max_length=4096)] = None
    probe: Annotated[
        str | None, Field(max_length=512, description="agent, tcp:HOST:PORT, an HTTP URL, or empty for none.")
    ] = None
    probe_interval: Annotated[float | None, Field(ge=1, le=3600, description="Seconds between two probes.")] = None
    probe_timeout: Annotated[float | None, Field(gt=0, le=60, description="Seconds for an answer.")] = None
    probe_failures: Annotated[int | None, Field(ge=1, le=100, description="In a row, that count as a failure.")] = None
    probe_grace: Annotated[
        float | None, Field(ge=0, le=86400, description="Seconds after a start in which none counts.")
    ] = None

    def probing(self) -> ProbeSettings:
        """What was given about the probe."""
        return ProbeSettings(self.probe, self.probe_interval, self.probe_timeout, self.probe_failures, self.probe_grace)


class RemoveResource(OfResource):
    """What to do about the rules that name it."""

    purge: Annotated[bool, Field(description="Out of its rules too; a rule of it alone is removed.")] = True


class MoveResource(OfResource):
    """Where a resource is to go."""

    node: str


@routes.add("GET", "/cluster/ha/resources", permission=AUDIT, summary="The guests under HA")
async def list_resources(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """By vmid."""
    return [_resource(status) for status in await context.services.need(HaResources).list()]


@routes.add("GET", "/cluster/ha/resources/{sid}", permission=AUDIT, parameters=OfResource, summary="A guest under HA")
async def get_resource(context: Context, parameters: OfResource) -> dict[str, JsonValue]:
    """With its HA history, newest last."""
    status = await context.services.need(HaResources).get(parameters.sid)
    history = status.service.history if status.service else ()
    return {**_resource(status), "history": [_step(entry) for entry in history]}


@routes.add(
    "GET", "/cluster/ha/resources/{sid}/history", permission=AUDIT, parameters=OfResource,
    summary="What HA did with a guest",
)  # fmt: skip
async def resource_history(context: Context, parameters: OfResource) -> list[dict[str, JsonValue]]:
    """Each step with one sentence of why, newest last."""
    status = await context.services.need(HaResources).get(parameters.sid)
    return [_step(entry) for entry in (status.service.history if status.service else ())]


@routes.add("POST", "/cluster/ha/resources", permission=CONSOLE, parameters=ResourceOptions, summary="Put under HA")
async def add_resource(context: Context, parameters: ResourceOptions) -> None:
    """The guest's node has to answer: its guard must know the guest first."""
    await context.services.need(HaResources).add(
        parameters.sid,
        requested=parameters.state or Requested.STARTED,
        max_restart=1 if parameters.max_restart is None else parameters.max_restart,
        max_relocate=1 if parameters.max_relocate is None else parameters.max_relocate,
        failback=parameters.failback is not False,
        comment=parameters.comment or "",
        probing=parameters.probing(),
    )


@routes.add(
    "PUT", "/cluster/ha/resources/{sid}", permission=CONSOLE, parameters=ResourceOptions, summary="Change a resource"
)
async def change_resource(context: Context, parameters: ResourceOptions) -> None:
    """What is not given stays as it is."""
    await context.services.need(HaResources).change(
        parameters.sid,
        requested=parameters.state,
        max_restart=parameters.max_restart,
        max_relocate=parameters.max_relocate,
        failback=parameters.failback,
        comment=parameters.comment,
        probing=parameters.probing(),
    )


@routes.add("DELETE", "/cluster/ha/resources/{sid}", permission=CONSOLE, parameters=RemoveResource, summary="Out of HA")
async def remove_resource(context: Context, parameters: RemoveResource) -> None:
    """The guest goes on as it is."""
    await context.services.need(HaResources).remove(parameters.sid, purge=parameters.purge)


@routes.add(
    "POST", "/cluster/ha/resources/{sid}/migrate", permission=CONSOLE, parameters=MoveResource,
    summary="Move a guest under HA without stopping it",
)  # fmt: skip
async def migrate_resource(context: Context, parameters: MoveResource) -> None:
    """The manager takes it up; see the resource's state."""
    await context.services.need(HaResources).migrate(parameters.sid, parameters.node)


@routes.add(
    "POST", "/cluster/ha/resources/{sid}/relocate", permission=CONSOLE, parameters=MoveResource,
    summary="Stop a guest under HA, move it and start it there",
)  # fmt: skip
async def relocate_resource(context: Context, parameters: MoveResource) -> None:
    """The manager takes it up; see the resource's state."""
    await context.services.need(HaResources).relocate(parameters.sid, parameters.node)


@routes.add("GET", "/cluster/ha/status/current", permission=AUDIT, summary="Manager, nodes and resources of HA")
async def ha_status(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """One entry for the manager, one per node, one per resource, as clients of the Proxmox VE API expect."""
    status = await context.services.need(HaResources).status()
    manager: dict[str, JsonValue] = {
        "id": "master", "type": "master", "node": status.manager, "term": status.term,
        "status": f"{status.manager} (term {status.term})" if status.manager else "there is no manager",
    }  # fmt: skip
    proofs = await context.services.need(FenceDevices).proofs()
    nodes = [{**_node(line), **_failover(proofs.get(line.name))} for line in status.nodes]
    services = [{**_resource(each), **_guest_failover(each, proofs.get(each.node))} for each in status.resources]
    arming = await context.services.need(HaControl).arming()
    if (arming.phase, arming.mode) == (ArmPhase.DISARMED, "ignore"):
        services = [{**each, "state": "ignored", "why": "HA is disarmed"} for each in services]
    fencing: dict[str, JsonValue] = {
        "id": "fencing", "type": "fencing", "status": str(arming.phase), "armed-state": str(arming.phase),
        "resource_mode": arming.mode, "why": arming.why, "node": status.manager,
    }  # fmt: skip
    return [
        manager,
        fencing,
        *nodes,
        *({**each, "id": f"service:{each['sid']}", "type": "service"} for each in services),
    ]


def _resource(status: ResourceStatus) -> dict[str, JsonValue]:
    resource = status.resource
    return {
        "sid": resource.sid, "type": "vm", "state": status.state, "status": f"{resource.sid} ({status.state})",
        "request_state": str(resource.requested), "node": status.node, "max_restart": resource.max_restart,
        "max_relocate": resource.max_relocate, "failback": int(resource.failback), "comment": resource.comment,
        "why": status.why, "proof": status.proof, "home": status.service.home if status.service else "",
        "probe": resource.probe, "probe_interval": resource.probe_interval, "probe_timeout": resource.probe_timeout,
        "probe_failures": resource.probe_failures, "probe_grace": resource.probe_grace,
    }  # fmt: skip


def _node(line: NodeLine) -> dict[str, JsonValue]:
    status = line.status
    return {
        "id": f"lrm:{line.name}", "type": "lrm", "node": line.name, "status": line.health,
        "why": "; ".join(filter(None, (status.why, status.power))) if status else "",
        "proof": status.proof if status else "", "profile": line.profile,
        "watchdog": line.watchdog, "commit_ms": line.commit_ms,
    }  # fmt: skip


def _failover(proofs: NodeProofs | None) -> dict[str, JsonValue]:
    if proofs is None:
        return {}
    return {
        "failover_s": proofs.seconds, "proofs": [proof.kind for proof in proofs.proofs], "unproven": proofs.missing
    }  # fmt: skip


def _guest_failover(status: ResourceStatus, proofs: NodeProofs | None) -> dict[str, JsonValue]:
    """By what the guest may be started elsewhere when its node is silent, and how soon that is."""
    if proofs is None or status.service is None or not status.service.guarded:
        return {"failover_s": None, "proof_short": "orderly stop only"}
    kinds = ", ".join(proof.kind for proof in proofs.proofs)
    return {"failover_s": proofs.seconds, "proof_short": f"{kinds}: {proofs.seconds:g} s"}


def _step(entry: HistoryEntry) -> dict[str, JsonValue]:
    return {"at": entry.at, "what": entry.what, "why": entry.why, "term": entry.term}
