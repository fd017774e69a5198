"""HA resources as administrators handle them: add, change, remove, ask to move, and see how they are."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from racimo.errors import AlreadyExists, BadParameter, Conflict, NotFound, Refused
from racimo.ha.probe import AS_IT_IS, ProbeSettings
from racimo.model.ha import NodeHealth, Requested, Resource, ServiceState
from racimo.placement.rules import compile_rules

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from racimo.model.guest import Guest
    from racimo.model.ha import Heartbeat, NodeStatus, Service
    from racimo.store.collection import Held
    from racimo.store.layout import Layout

MARK_TIMEOUT_S = 10.0
ATTEMPTS = 16


@dataclass(frozen=True, slots=True)
class ResourceStatus:
    """A resource with what the manager makes of it."""

    resource: Resource
    service: Service | None
    node: str
    """The node that the guest belongs to; empty when the guest does not exist."""

    @property
    def state(self) -> str:
        """For people: the manager's state, ``queued`` until it has seen the resource, or ``ignored``."""
        if self.resource.requested is Requested.IGNORED:
            return Requested.IGNORED.value
        return self.service.state.value if self.service else ServiceState.QUEUED.value

    @property
    def why(self) -> str:
        """The reason of the present state."""
        return self.service.why if self.service else "the manager has not seen it yet"

    @property
    def proof(self) -> str:
        """What allows another node to start the guest when its node is gone."""
        if self.service is None or not self.service.guarded:
            return "only an orderly stop: its node has not confirmed the guard's mark yet"
        return "the lease of its node, or an orderly stop"


@dataclass(frozen=True, slots=True)
class NodeLine:
    """A node as HA sees it."""

    name: str
    status: NodeStatus | None
    incarnation: str = ""
    sequence: int = 0
    profile: str = ""
    """By which it beats; empty while it shows no life."""
    watchdog: str = ""
    """For people; empty where it has none."""
    commit_ms: int = 0
    """How quickly the store takes its heartbeats, in milliseconds; 0 while not known."""

    @property
    def health(self) -> str:
        """For people."""
        return (self.status.health if self.status else NodeHealth.UNKNOWN).value


@dataclass(frozen=True, slots=True)
class HaStatus:
    """The whole of HA at one look. ``manager`` is empty while there is none."""

    manager: str
    term: int
    nodes: tuple[NodeLine, ...]
    resources: tuple[ResourceStatus, ...]


class HaResources:
    """``mark(node, vmid)`` has the owning node mark the guest for its guard, and raises when the node does not."""

    def __init__(self, layout: Layout, mark: Callable[[str, int], Awaitable[None]]) -> None:
        self._layout, self._mark = layout, mark

    async def add(
        self,
        sid: str,
        *,
        requested: Requested = Requested.STARTED,
        max_restart: int = 1,
        max_relocate: int = 1,
        failback: bool = True,
        comment: str = "",
        probing: ProbeSettings = AS_IT_IS,
    ) -> Resource:
        """Put a guest under HA. Its node has to answer: the guard must know the guest first."""
        vmid = vmid_of(sid)
        resource = probing.onto(
            Resource(
                sid=f"vm:{vmid}", requested=requested, max_restart=max_restart, max_relocate=max_relocate,
                failback=failback, comment=comment,
            )
        )  # fmt: skip
        layout = self._layout
        for _ in range(ATTEMPTS):
            guest = await layout.guests.hold(vmid)
            if await layout.resources.find(resource.sid) is not None:
                raise AlreadyExists(f"{resource.sid} is an HA resource already", todo="Use ha set to change it")
            if await layout.locks.find(f"guests/{vmid}") is not None:
                raise Conflict(
                    f"{resource.sid} cannot be put under HA now",
                    why="a task is working on it",
                    todo="Try again when that has ended",
                )
            await self._have_marked(guest.record.node, vmid, resource.sid)
            compares = [guest.compare, layout.resources.absent(resource.sid), layout.locks.absent(f"guests/{vmid}")]
            puts = [layout.resources.put(resource.sid, resource)]
            if await layout.store.txn(compares, puts) is not None:
                return resource
        raise Conflict(
            f"{resource.sid} cannot be put under HA now", why="it is changing all the time", todo="Try again"
        )

    async def _have_marked(self, node: str, vmid: int, sid: str) -> None:
        try:
            async with asyncio.timeout(MARK_TIMEOUT_S):
                await self._mark(node, vmid)
        except TimeoutError as error:
            raise Refused(
                f"{sid} cannot be put under HA now",
                why=f"{node}, which owns it, did not mark it for its guard within {MARK_TIMEOUT_S:g} s",
                todo=f"Bring {node} back first",
            ) from error

    async def change(
        self,
        sid: str,
        *,
        requested: Requested | None = None,
        max_restart: int | None = None,
        max_relocate: int | None = None,
        failback: bool | None = None,
        comment: str | None = None,
        probing: ProbeSettings = AS_IT_IS,
    ) -> Resource:
        """Change what is given; None leaves a field as it is."""

        def changed(old: Resource) -> Resource:
            return replace(
                probing.onto(old),
                requested=old.requested if requested is None else requested,
                max_restart=old.max_restart if max_restart is None else max_restart,
                max_relocate=old.max_relocate if max_relocate is None else max_relocate,
                failback=old.failback if failback is None else failback,
                comment=old.comment if comment is None else comment,
            )

        return await self._layout.resources.update(await self._name(sid), changed)

    async def remove(self, sid: str, *, purge: bool = True) -> None:
        """Take the guest out of HA; it goes on as it is. What the manager and the agent noted goes with it.

        With ``purge`` it goes out of the rules too, and a rule that named it alone is removed.
        """
        name, layout = await self._name(sid), self._layout
        for _ in range(ATTEMPTS):
            held = await layout.resources.find(name)
            if held is None:
                raise _no_such_resource(name)
            rules = await layout.rules.all() if purge else {}
            naming = {key: rule for key, rule in rules.items() if name in rule.record.resources}
            left = {key: tuple(sid for sid in rule.record.resources if sid != name) for key, rule in naming.items()}
            deletes = [held.key, layout.services.key(name), layout.outcomes.key(name)]
            deletes += [rule.key for key, rule in naming.items() if not left[key]]
            puts = [
                layout.rules.put(key, replace(rule.record, resources=left[key]), rule)
                for key, rule in naming.items()
                if left[key]
            ]
            compares = [held.compare, *(rule.compare for rule in naming.values())]
            if await layout.store.txn(compares, puts, deletes) is not None:
                return
        raise Conflict(f"{name} could not be removed from HA", why="it is changing all the time", todo="Try again")

    async def migrate(self, sid: str, target: str) -> None:
        """Ask the manager to move the guest to ``target`` without stopping it."""
        await self._ask_to_move(sid, target, "migrate")

    async def relocate(self, sid: str, target: str) -> None:
        """Ask the manager to stop the guest, move it to ``target`` and start it there."""
        await self._ask_to_move(sid, target, "relocate")

    async def _ask_to_move(self, sid: str, target: str, mode: str) -> None:
        name = await self._name(sid)
        node = await self._layout.nodes.find(target)
        if node is None:
            raise NotFound(f"Node '{target}' does not exist", todo="See: racimo node list")
        if node.record.witness:
            raise Refused(
                f"{name} cannot move to {target}",
                why=f"{target} is a witness and runs no guests",
                todo="Name a node that runs guests: racimo node list",
            )
        guest = await self._layout.guests.get(vmid_of(name))
        if guest.node == target:
            raise Conflict(f"{name} is on {target} already", todo="Nothing is to be done")
        service = await self._layout.services.find(name)
        if service is None:
            raise Conflict(
                f"{name} cannot be moved now", why="the manager has not taken it up yet", todo="Try again in a moment"
            )
        if service.record.state is ServiceState.ERROR:
            raise Conflict(
                f"{name} cannot be moved now",
                why=f"it is in error: {service.record.why}",
                todo=f"Mend that, then clear it: racimo ha set {name} --state disabled",
            )
        for each in await self._with_group(name, target):
            await self._layout.resources.update(each, lambda old: replace(old, target=target, target_mode=mode))

    async def _with_group(self, name: str, target: str) -> list[str]:
        """The guest, and those that rules keep together with it and that are not on ``target``: they move with it."""
        members = [node.name for node in await self._layout.nodes.records() if not node.witness]
        rules = compile_rules(await self._layout.rules.records(), members)
        found, known = [name], await self._layout.resources.all()
        for other in rules.together.get(name, ()):
            guest = await self._layout.guests.find(vmid_of(other))
            if other != name and other in known and guest is not None and guest.record.node != target:
                found.append(other)
        return found

    async def status(self) -> HaStatus:
        """Manager, nodes and resources."""
        layout = self._layout
        term = await layout.manager.find("term")
        statuses, beats = await layout.node_statuses.all(), await layout.heartbeats.all()
        members = [node.name for node in await layout.nodes.records() if not node.witness]
        nodes = []
        for name in sorted({*members, *statuses}):
            status, beat = statuses.get(name), beats.get(name)
            nodes.append(_node_line(name, status.record if status else None, beat.record if beat else None))
        return HaStatus(
            manager=term.record.node if term else "",
            term=term.record.term if term else 0,
            nodes=tuple(nodes),
            resources=tuple(await self.list()),
        )

    async def list(self) -> list[ResourceStatus]:
        """All resources, by vmid."""
        resources, services = await self._layout.resources.records(), await self._layout.services.all()
        guests = await self._layout.guests.all()
        found = [self._status(resource, services.get(resource.sid), guests) for resource in resources]
        return sorted(found, key=lambda status: vmid_of(status.resource.sid))

    async def get(self, sid: str) -> ResourceStatus:
        """One resource; ``NotFound`` if the guest is not under HA."""
        name = await self._name(sid)
        service = await self._layout.services.find(name)
        guest = await self._layout.guests.find(vmid_of(name))
        guests = {str(vmid_of(name)): guest} if guest else {}
        return self._status(await self._layout.resources.get(name), service, guests)

    @staticmethod
    def _status(resource: Resource, service: Held[Service] | None, guests: dict[str, Held[Guest]]) -> ResourceStatus:
        guest = guests.get(str(vmid_of(resource.sid)))
        return ResourceStatus(resource, service.record if service else None, guest.record.node if guest else "")

    async def _name(self, sid: str) -> str:
        name = f"vm:{vmid_of(sid)}"
        if await self._layout.resources.find(name) is None:
            raise _no_such_resource(name)
        return name


def _node_line(name: str, status: NodeStatus | None, beat: Heartbeat | None) -> NodeLine:
    if beat is None:
        return NodeLine(name, status)
    return NodeLine(name, status, beat.incarnation, beat.sequence, beat.profile, beat.watchdog, beat.commit_ms)


def _no_such_resource(name: str) -> NotFound:
    return NotFound(f"{name} is not an HA resource", todo="See: racimo ha status")


def vmid_of(sid: str) -> int:
    """The vmid in ``vm:100`` or ``100``; ``BadParameter`` for anything else."""
    number = sid.removeprefix("vm:")
    if not number.isascii() or not number.isdigit():
        raise BadParameter({"sid": f"'{sid}' is not like vm:100"})
    return int(number)
