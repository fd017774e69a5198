"""Fence devices as administrators handle them: add, change, remove, list, ask, try out."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound, Refused
from racimo.ha.fencing.metadata import (
    AgentDescription,
    check_agent,
    check_options,
    describe,
    sealed,
    without,
)
from racimo.ha.fencing.proofs import NodeProofs, levels, proofs_of
from racimo.ha.timing import profile_named
from racimo.model.fence import DEFAULT_TIMEOUT_S, FenceDevice

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from racimo.ha.fencing.agents import FencePrograms
    from racimo.model.fence import DeviceAnswer, FenceCheck, Fencing
    from racimo.store.layout import Layout

NAME = re.compile(r"[a-zA-Z][a-zA-Z0-9-]{0,39}")
MOST_LEVELS = 9
SHORTEST_S, LONGEST_S = 1.0, 120.0
ATTEMPTS = 8


@dataclass(frozen=True, slots=True)
class DeviceLine:
    """A device with its last check; None: it was not asked yet."""

    device: FenceDevice
    check: FenceCheck | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceChange:
    """What is to be changed of a device; None leaves a field as it is."""

    options: Mapping[str, str] | None = None
    secrets: Mapping[str, str] | None = None
    delete: Collection[str] = ()
    """Options and secrets to be taken away."""
    level: int | None = None
    timeout: float | None = None
    enabled: bool | None = None
    power_on: bool | None = None
    comment: str | None = None


class FenceDevices:
    """The devices of the datacenter. Programs are looked for on this node, ``node``."""

    def __init__(self, layout: Layout, programs: FencePrograms, node: str) -> None:
        self._layout, self.programs, self.node = layout, programs, node

    async def add(
        self,
        node: str,
        agent: str,
        *,
        name: str = "",
        options: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        level: int = 1,
        timeout: float = DEFAULT_TIMEOUT_S,
        power_on: bool = True,
        comment: str = "",
    ) -> FenceDevice:
        """Define a device that cuts the power of ``node``. Its options must be what the agent takes."""
        name = name or f"{node}-{agent.removeprefix('fence_').replace('_', '-')}"
        plain, hidden = sealed(options or {}, secrets or {})
        device = FenceDevice(
            name=name, node=node, agent=agent, level=level, options=plain, secrets=hidden, timeout=timeout,
            power_on=power_on, comment=comment,
        )  # fmt: skip
        await self._check(device)
        devices = self._layout.fence_devices
        held = await self._layout.nodes.find(node)
        if held is None or held.record.witness:
            if held is None:
                raise _no_such_node(node)
            raise Refused(
                f"No device for {node}", why=f"{node} is a witness and runs no guests", todo="Only nodes need one"
            )
        device = self.programs.sealing.seal_record(devices.key(name), device)
        if await self._layout.store.txn([held.compare, devices.absent(name)], [devices.put(name, device)]) is not None:
            return device
        if await devices.find(name) is not None:
            raise AlreadyExists(f"Fence device '{name}' already exists", todo="Give another --name, or change that one")
        raise Conflict(f"Fence device '{name}' could not be added", why=f"{node} is changing", todo="Try again")

    async def change(self, name: str, change: DeviceChange) -> FenceDevice:
        """Change what is given. The device is asked anew before anything is held against it."""
        devices, checks = self._layout.fence_devices, self._layout.fence_checks
        for _ in range(ATTEMPTS):
            held = await devices.find(name)
            if held is None:
                raise _no_device(name)
            sealing = self.programs.sealing
            opened = sealing.open_what_opens(held.key, held.record)
            new = _changed(opened, change)
            await self._check(new)
            new = sealing.seal_record(held.key, new, before=held.record, opened=opened)
            if await self._layout.store.txn([held.compare], [devices.put(name, new, held)], [checks.key(name)]):
                return new
        raise Conflict(f"Fence device '{name}' could not be changed", why="others change it too", todo="Try again")

    async def remove(self, name: str) -> None:
        """Forget a device."""
        held = await self._layout.fence_devices.find(name)
        if held is None:
            raise _no_device(name)
        deletes = [held.key, self._layout.fence_checks.key(name)]
        if await self._layout.store.txn([held.compare], deletes=deletes) is None:
            raise Conflict(f"Fence device '{name}' could not be removed", why="it was just changed", todo="Try again")

    async def lines(self) -> list[DeviceLine]:
        """All devices: by node, level and name."""
        checks = await self._checks()
        devices = await self._layout.fence_devices.records()
        order = sorted(devices, key=lambda device: (device.node, device.level, device.name))
        return [DeviceLine(device, checks.get(device.name)) for device in order]

    async def fencings(self) -> dict[str, Fencing]:
        """What was last ordered about each node."""
        return {name: held.record for name, held in (await self._layout.fencings.all()).items()}

    async def proofs(self) -> dict[str, NodeProofs]:
        """What can be proven of each node that runs guests."""
        settings = await self._layout.datacenter.find("settings")
        profile = profile_named(settings.record.ha_profile if settings else "default")
        devices, checks = await self._devices(), await self._checks()
        members = [node.name for node in await self._layout.nodes.records() if not node.witness]
        return {name: proofs_of(name, devices, checks, profile) for name in members}

    async def description(self, agent: str) -> AgentDescription:
        """What ``agent`` is and takes, as it says itself on this node."""
        return describe(agent, await self.programs.metadata(agent))

    async def status(self, node: str) -> list[DeviceAnswer]:
        """Ask every device of ``node`` whether the power is on, from this node, all at once."""
        devices = [device for device in (await self._devices()).values() if device.node == node]
        if not devices:
            await self._demand_devices(node)
        return list(await asyncio.gather(*(self.programs.ask(device, "status") for device in devices)))

    async def levels_of(self, node: str) -> tuple[tuple[FenceDevice, ...], ...]:
        """The devices of ``node`` by level, whatever their last check said. Raises ``NotFound`` if there is none."""
        found = levels(node, await self._devices(), {})
        if not found:
            await self._demand_devices(node)
        return found

    async def _demand_devices(self, node: str) -> None:
        if await self._layout.nodes.find(node) is None:
            raise _no_such_node(node)
        raise NotFound(
            f"{node} has no fence device", why="none is defined, or all are switched off", todo="racimo ha fence add"
        )

    async def running_guests(self, node: str) -> list[int]:
        """The vmids of the guests that run on ``node``, as it said itself."""
        runtimes = await self._layout.runtimes.records()
        return sorted(each.vmid for each in runtimes if each.node == node and each.state.value != "stopped")

    async def _check(self, device: FenceDevice) -> None:
        self.programs.program(device.agent)
        problems = {}
        if not NAME.fullmatch(device.name):
            problems["name"] = f"'{device.name}' is not a name: letters, digits and hyphens, at most 40"
        if not 1 <= device.level <= MOST_LEVELS:
            problems["level"] = f"{device.level} is not from 1 to {MOST_LEVELS}"
        if not SHORTEST_S <= device.timeout <= LONGEST_S:
            problems["timeout"] = f"{device.timeout:g} is not from {SHORTEST_S:g} to {LONGEST_S:g} seconds"
        if problems:
            raise BadParameter(problems)
        description = await self.description(device.agent)
        check_agent(description)
        check_options(description, {**device.options, **device.secrets})

    async def _devices(self) -> dict[str, FenceDevice]:
        return {name: held.record for name, held in (await self._layout.fence_devices.all()).items()}

    async def _checks(self) -> dict[str, FenceCheck]:
        return {name: held.record for name, held in (await self._layout.fence_checks.all()).items()}


def _changed(old: FenceDevice, change: DeviceChange) -> FenceDevice:
    plain, hidden = sealed(change.options or {}, change.secrets or {})
    unknown = [name for name in change.delete if name not in old.options and name not in old.secrets]
    if unknown:
        raise BadParameter(dict.fromkeys(unknown, "is not set, so it cannot be taken away"))
    return replace(
        old,
        options={**without(old.options, {*change.delete, *hidden}), **plain},
        secrets={**without(old.secrets, {*change.delete, *plain}), **hidden},
        level=old.level if change.level is None else change.level,
        timeout=old.timeout if change.timeout is None else change.timeout,
        enabled=old.enabled if change.enabled is None else change.enabled,
        power_on=old.power_on if change.power_on is None else change.power_on,
        comment=old.comment if change.comment is None else change.comment,
    )


def shown(device: FenceDevice) -> dict[str, str]:
    """The options as people may see them: of the sealed ones only that they are set."""
    return {**device.options, **dict.fromkeys(device.secrets, "***")}


def _no_such_node(name: str) -> NotFound:
    return NotFound(f"Node '{name}' does not exist", todo="See: racimo node list")


def _no_device(name: str) -> NotFound:
    return NotFound(f"Fence device '{name}' does not exist", todo="See: racimo ha fence list")
