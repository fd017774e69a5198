"""The parts of HA on one node, wired together over one store."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import structlog

from racimo.ha.agent import Agent, Marks
from racimo.ha.commit import Commit
from racimo.ha.failsafe import FailSafe
from racimo.ha.fencing.checker import Checker
from racimo.ha.fencing.fencer import Fencer
from racimo.ha.health import Health
from racimo.ha.heartbeat import Holder, LeaseKeeper
from racimo.ha.manager import Manager
from racimo.ha.measure import Measures
from racimo.ha.observer import Observer, names
from racimo.ha.shutdown import Shutdown
from racimo.ha.timing import Profile, profile_named
from racimo.ha.view import View
from racimo.store.base import ABSENT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from racimo.ha.clock import Clock
    from racimo.ha.fencing.agents import FenceAgents
    from racimo.ha.health import Application
    from racimo.ha.measure import Figures
    from racimo.ha.node_client import NodeOperations
    from racimo.store.base import Store

log = structlog.get_logger()


class Keeper(LeaseKeeper, Marks, Protocol):
    """What HA keeps on the node: lease, marks, processes."""


class HaNode:
    """Heartbeat, view, observer, agent and manager of one node. A subclass can have parts of another kind."""

    view_kind: ClassVar[type[View]] = View
    holder_kind: ClassVar[type[Holder]] = Holder
    observer_kind: ClassVar[type[Observer]] = Observer
    commit_kind: ClassVar[type[Commit]] = Commit

    def __init__(
        self,
        node: str,
        store: Store,
        keeper: Keeper,
        operations: NodeOperations,
        clock: Clock,
        node_id: str = "",
        fence_agents: FenceAgents | None = None,
        application: Application | None = None,
        wish: Callable[[], str] = str,
        figures: Figures | None = None,
    ) -> None:
        self.node, self.clock = node, clock
        self.view = self.view_kind(store, clock)
        self.holder = self.holder_kind(node, self.view.layout, keeper, clock, self.profile)
        self.holder.node_id = node_id
        self.observer = self.observer_kind(self.profile().beat, clock.monotonic())
        self.manager = Manager(node, self.view, self.observer, self.holder, clock, self.commit_kind)
        self.fencing: list[Fencer | Checker] = []
        if fence_agents is not None:
            self.fencing.append(Fencer(node, self.view, self.holder, fence_agents, clock))
            self.fencing.append(Checker(node, self.view, self.observer, self.manager, fence_agents, clock))
        self.manager.can_fence = bool(self.fencing)
        self.agent = Agent(node, self.view, self.holder, keeper, operations, clock)
        self.measures = Measures(figures, clock, self._measures) if figures else None
        if self.measures is not None:
            self.manager.loads = self.measures.loads
        self.shutdown = Shutdown(node, self.view, self.holder, clock, wish)
        report = self.agent.report_health
        self.health = Health(node, self.view, application, clock, report) if application else None
        self.failsafe = FailSafe(node, self.view, self.holder, self.observer, clock)
        self.holder.peers = self.failsafe.peers
        self._unechoed, self._unechoed_since = 0, 0.0
        self._known = asyncio.Event()
        self.view.listen(self._looked)
        self.holder.acknowledged = self._acknowledged

    def profile(self) -> Profile:
        """The times in force, as the datacenter's settings say."""
        settings = self.view.datacenter.get("settings")
        return profile_named(settings.record.ha_profile if settings else "default")

    def _measures(self) -> bool:
        """Whether this node needs to know what the others use."""
        settings = self.view.datacenter.get("settings")
        return self.manager.manages and settings is not None and settings.record.crs == "dynamic"

    async def run(self) -> None:
        """Until cancelled. A witness looks on: it runs no guests, so it shows no heartbeat and manages nothing."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self.view.run(), name="view")
            group.create_task(self.holder.kill_in_time(), name="second killer")
            group.create_task(self.shutdown.run(), name="shutdown")
            await self._known.wait()
            own = self.view.nodes.get(self.node)
            if own is not None and own.record.witness:
                log.info("this machine is a witness: no heartbeat, no guests")
                return
            group.create_task(self.holder.run(), name="heartbeat")
            group.create_task(self.failsafe.run(), name="fail-safe")
            group.create_task(self.agent.run(), name="agent")
            if self.measures is not None:
                group.create_task(self.measures.run(), name="measures")
            if self.health is not None:
                group.create_task(self.health.run(), name="health")
            for part in self.fencing:
                group.create_task(part.run(), name=type(part).__name__)
            group.create_task(self.manager.run(), name="manager")

    async def farewell(self) -> None:
        """The last word of this process: the node shuts down in order, or another process of it carries on."""
        if self.shutdown.ready and not self.holder.keeper.guests():
            await self.holder.go()
        else:
            await self.holder.farewell()

    def _looked(self) -> None:
        """The view changed: count the nodes' silence anew where they showed life."""
        now, view = self.clock.monotonic(), self.view
        if view.renewed is None:
            members = {name for name, held in view.nodes.items() if not held.record.witness}
            self._see(members | set(view.heartbeats), now)
            for name in set(self.observer.nodes()) - members - set(view.heartbeats):
                self.observer.forget(name)
        else:
            self._see(view.renewed, now)
        self._echo(now)
        if not self._known.is_set():
            self._known.set()

    def _see(self, nodes: Iterable[str], now: float) -> None:
        for name in nodes:
            held = self.view.heartbeats.get(name)
            revision, profile = (held.revision, held.record.profile) if held else (ABSENT, "")
            counts = held is None or names(held.record, self.node)
            self.observer.see(name, revision, profile, now, counts=counts)

    def _acknowledged(self, revision: int) -> None:
        """An own heartbeat stands in the store; the view is up to date once it shows it."""
        now, profile = self.clock.monotonic(), self.profile()
        self.observer.beat = profile.beat
        self.observer.answered(now)
        if self._unechoed and now - self._unechoed_since > profile.echo_timeout:
            self.view.restart("it does not show this node's own heartbeats")
            self._unechoed_since = now
        if not self._unechoed:
            self._unechoed, self._unechoed_since = revision, now
        self._echo(now)

    def _echo(self, now: float) -> None:
        if self._unechoed and self.view.revision >= self._unechoed:
            self._unechoed = 0
            self.observer.contact(now)

    def status(self) -> dict[str, Any]:
        """How HA is on this node, as it serves it on its socket."""
        now, term = self.clock.monotonic(), self.view.manager.get("term")
        lease = self.holder.lease
        return {
            "node": self.node,
            "incarnation": self.holder.incarnation,
            "sequence": lease.sequence if lease else 0,
            "profile": self.profile().name,
            "commit_ms": self.holder.commit_ms(),
            "watchdog": self.holder.watchdog(),
            "lease_left_s": round(self.holder.left_s(), 2),
            "extended_s_ago": self.failsafe.extended_s_ago(),
            "not_extended": self.failsafe.why,
            "in_touch": self.observer.in_touch(now),
            "revision": self.view.revision,
            "manager": term.record.node if term else "",
            "term": term.record.term if term else 0,
            "manages": self.manager.manages,
            "turn_ms": round(self.manager.last_turn_s * 1000, 2),
            "cpu_load": {name: round(load.cpu, 2) for name, load in self.manager.loads().items()},
            "shutdown": self.shutdown.status(),
            "nodes": {
                name: {
                    "silent_s": round(now - sighting.since, 2),
                    "health": held.record.health.value if (held := self.view.node_statuses.get(name)) else "unknown",
                }
                for name, sighting in self.observer.sightings(now).items()
            },
        }
