"""Fence devices: what can cut a node's power, and whether it does. Secrets go in and never come out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from racimo.api.endpoint import Answers, Routes, privilege
from racimo.api.parameters import OfNode, Parameters
from racimo.ha.fencing.devices import DeviceChange, FenceDevices, shown
from racimo.ha.fencing.trial import TryFence
from racimo.model.fence import DEFAULT_TIMEOUT_S

if TYPE_CHECKING:
    from pydantic import JsonValue

    from racimo.api.context import Context
    from racimo.ha.fencing.devices import DeviceLine
    from racimo.ha.fencing.metadata import AgentParameter
    from racimo.model.fence import DeviceAnswer, Fencing, PowerReturn
    from racimo.task.upid import Upid

AUDIT = privilege("/", "Sys.Audit")
MODIFY = privilege("/", "Sys.Modify")
POWER = privilege("/nodes/{target}", "Sys.PowerMgmt")
ASK_TIMEOUT = 180.0
"""Seconds: the longest time-out of a device, and what its program takes to begin and end."""

Options = Annotated[
    dict[str, str], Field(default_factory=dict, description="What the agent is told, as it describes itself.")
]
Secrets = Annotated[
    dict[str, str], Field(default_factory=dict, description="Options that are sealed, such as the password.")
]
Level = Annotated[int, Field(description="All devices of level 1 together, else those of level 2, and so on.")]
Timeout = Annotated[float, Field(description="Seconds that one call of the agent may take.")]

PowerOn = Annotated[bool, Field(description="Whether the node is switched on again when its guests are recovered.")]

routes = Routes()


class OfDevice(Parameters):
    """One device."""

    device: Annotated[str, Field(description="The device's name.")]


class OfAgent(Parameters):
    """One program."""

    agent: Annotated[str, Field(description="A fence agent, such as fence_ipmilan.")]


class NewDevice(Parameters):
    """A device and whose power it cuts."""

    structured: ClassVar[bool] = True
    node: Annotated[str, Field(description="The node whose power it cuts.")]
    agent: Annotated[str, Field(description="A fence agent, such as fence_ipmilan.")]
    name: Annotated[str, Field(description="The device's name; without it node and agent.")] = ""
    options: Options
    secrets: Secrets
    level: Level = 1
    timeout: Timeout = DEFAULT_TIMEOUT_S
    power_on: PowerOn = True
    comment: Annotated[str, Field(max_length=4096)] = ""


class ChangedDevice(OfDevice):
    """What is to be changed of a device."""

    structured: ClassVar[bool] = True
    options: Options
    secrets: Secrets
    delete: Annotated[list[str], Field(default_factory=list, description="Options and secrets to be taken away.")]
    level: Level | None = None
    timeout: Timeout | None = None
    enabled: Annotated[bool | None, Field(description="Whether it is used.")] = None
    power_on: PowerOn | None = None
    comment: Annotated[str | None, Field(max_length=4096)] = None


class Asked(OfNode):
    """Which node asks the devices of which."""

    target: Annotated[str, Field(description="The node whose devices are asked.")]


@routes.add("GET", "/racimo/ha/fence/devices", permission=AUDIT, summary="The fence devices, secrets left out")
async def list_devices(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """By node, level and name."""
    return [_device(line) for line in await context.services.need(FenceDevices).lines()]


@routes.add("POST", "/racimo/ha/fence/devices", permission=MODIFY, parameters=NewDevice, summary="Add a fence device")
async def add_device(context: Context, parameters: NewDevice) -> str:
    """Its name. The options must be what the agent, as installed on the node that is asked, says that it takes."""
    device = await context.services.need(FenceDevices).add(
        parameters.node,
        parameters.agent,
        name=parameters.name,
        options=parameters.options,
        secrets=parameters.secrets,
        level=parameters.level,
        timeout=parameters.timeout,
        power_on=parameters.power_on,
        comment=parameters.comment,
    )
    return device.name


@routes.add(
    "PUT", "/racimo/ha/fence/devices/{device}", permission=MODIFY, parameters=ChangedDevice,
    summary="Change a fence device",
)  # fmt: skip
async def change_device(context: Context, parameters: ChangedDevice) -> None:
    """What is not given stays as it is."""
    change = DeviceChange(
        options=parameters.options,
        secrets=parameters.secrets,
        delete=tuple(parameters.delete),
        level=parameters.level,
        timeout=parameters.timeout,
        enabled=parameters.enabled,
        power_on=parameters.power_on,
        comment=parameters.comment,
    )
    await context.services.need(FenceDevices).change(parameters.device, change)


@routes.add(
    "DELETE", "/racimo/ha/fence/devices/{device}", permission=MODIFY, parameters=OfDevice,
    summary="Forget a fence device",
)  # fmt: skip
async def remove_device(context: Context, parameters: OfDevice) -> None:
    """The device itself is not touched."""
    await context.services.need(FenceDevices).remove(parameters.device)


@routes.add("GET", "/racimo/ha/fence/nodes", permission=AUDIT, summary="What can be proven of each node, and how soon")
async def list_proofs(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """By node, with what its devices were last told to do."""
    devices = context.services.need(FenceDevices)
    proofs, fencings = await devices.proofs(), await devices.fencings()
    return [
        {
            "node": node,
            "proofs": [{"kind": proof.kind, "seconds": proof.seconds, "by": list(proof.by)} for proof in each.proofs],
            "failover_s": each.seconds,
            "missing": each.missing,
            "last": _fencing(fencings[node]) if node in fencings else None,
        }
        for node, each in sorted(proofs.items())
    ]


@routes.add("GET", "/racimo/ha/fence/agents", permission=AUDIT, summary="The fence agents installed on this node")
async def list_agents(context: Context, parameters: Parameters) -> list[dict[str, JsonValue]]:
    """By name."""
    return [{"agent": name} for name in context.services.need(FenceDevices).programs.names()]


@routes.add(
    "GET", "/racimo/ha/fence/agents/{agent}", permission=AUDIT, parameters=OfAgent, summary="What a fence agent takes"
)
async def describe_agent(context: Context, parameters: OfAgent) -> dict[str, JsonValue]:
    """As it says itself."""
    description = await context.services.need(FenceDevices).description(parameters.agent)
    return {
        "agent": description.name, "about": description.about, "text": description.text,
        "parameters": [_parameter(each) for each in description.parameters if not each.deprecated],
        "actions": list(description.actions),
    }  # fmt: skip


@routes.add(
    "POST", "/racimo/nodes/{node}/fence/status", permission=POWER, answers=Answers.NODE, parameters=Asked,
    timeout=ASK_TIMEOUT, summary="Ask a node's fence devices whether its power is on",
)  # fmt: skip
async def ask_devices(context: Context, parameters: Asked) -> list[dict[str, JsonValue]]:
    """From the node in the path."""
    answers = await context.services.need(FenceDevices).status(parameters.target)
    return [_answer(answer) for answer in answers]


@routes.add(
    "POST", "/racimo/nodes/{node}/fence/try", permission=POWER, answers=Answers.NODE, parameters=Asked,
    task=True, summary="Have a node's fence devices cut its power, confirm it, and give it back",
)  # fmt: skip
async def try_devices(context: Context, parameters: Asked) -> Upid:
    """From the node in the path. Refused while guests run on the target."""
    return context.submit(TryFence(node=parameters.target), context.services.need(FenceDevices))


def _device(line: DeviceLine) -> dict[str, JsonValue]:
    device, check = line.device, line.check
    return {
        "device": device.name, "node": device.node, "agent": device.agent, "level": device.level,
        "options": dict(shown(device)), "timeout": device.timeout, "enabled": device.enabled,
        "power_on": device.power_on,
        "comment": device.comment, "ok": check.ok if check else None, "why": check.why if check else "not asked yet",
        "since": check.since if check else None,
    }  # fmt: skip


def _fencing(fencing: Fencing) -> dict[str, JsonValue]:
    return {
        "stage": fencing.stage.value, "why": fencing.why, "by": fencing.by, "term": fencing.term,
        "attempt": fencing.attempt, "since": fencing.since, "answers": [_answer(each) for each in fencing.answers],
        "back": _back(fencing.back) if fencing.back else None,
    }  # fmt: skip


def _back(back: PowerReturn) -> dict[str, JsonValue]:
    return {
        "stage": back.stage.value, "why": back.why, "by": back.by, "attempt": back.attempt, "since": back.since,
    }  # fmt: skip


def _answer(answer: DeviceAnswer) -> dict[str, JsonValue]:
    return {
        "device": answer.device, "action": answer.action, "ok": answer.ok, "power": answer.power,
        "said": answer.said, "seconds": answer.seconds,
    }  # fmt: skip


def _parameter(parameter: AgentParameter) -> dict[str, JsonValue]:
    return {
        "name": parameter.name, "kind": parameter.kind, "required": parameter.required, "default": parameter.default,
        "choices": list(parameter.choices), "about": parameter.about, "secret": parameter.secret,
    }  # fmt: skip
