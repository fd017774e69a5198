"""What the oracle sees at the store: every commit, and by whom it was written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from racimo.model.fence import FenceStage
from racimo.model.ha import Arming, Heartbeat, Maintenance, ManagerTerm, NodeStatus, Resource, Service

if TYPE_CHECKING:
    from collections.abc import Sequence

    from racimo.ha.simulate.host import Host
    from racimo.ha.simulate.world import World
    from racimo.model.fence import Fencing
    from racimo.model.guest import Guest
    from racimo.store.base import Change, Put
    from racimo.store.collection import Collection

DECIDED = (Service, NodeStatus)
"""Records that the manager alone writes."""


class Witness:
    """Looks at each commit in the moment when it happens."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.heartbeats: dict[str, Heartbeat] = {}
        self.term: ManagerTerm | None = None
        self.owners: dict[int, Guest] = {}
        self.services: dict[str, Service] = {}
        self.statuses: dict[str, NodeStatus] = {}
        self.resources: dict[str, Resource] = {}
        self.fencings: dict[str, Fencing] = {}
        self.ordered: dict[tuple[str, str], float] = {}
        """Until when an order of the first node to cut the power of the second stood."""
        self.arming: Arming | None = None
        self.maintenance: dict[str, float] = {}
        """Since when nodes are in maintenance, on the loop's clock."""
        self.modes: dict[str, tuple[str, float]] = {}
        """What the nodes say that they are about (``active``, ``reboot``…), and since when, on the loop's clock."""
        self._commands: list[tuple[str, Service | None, Service]] = []
        self._given: set[str] = set()
        """What the change that is being looked at decided."""
        self._managers: dict[int, tuple[str, str]] = {}
        layout = world.layout
        self._look_of: dict[str, tuple[Collection[Any], Any] | None] = {}
        self._decisions = (layout.services.prefix, layout.node_statuses.prefix)
        self._looks: list[tuple[Collection[Any], Any]] = [
            (layout.heartbeats, self._heartbeat),
            (layout.services, self._service),
            (layout.guests, self._guest),
            (layout.node_statuses, self._status),
            (layout.resources, self._resource),
            (layout.manager, self._manager),
            (layout.arming, self._arming),
            (layout.maintenance, self._maintenance),
            (layout.fencings, self._fencing),
        ]

    def watch(self) -> None:
        """From now on; what stands there already is taken as it is."""
        self.world.quorum.lost = lambda text: self.world.oracle.violate(f"4 {text}")
        self.world.quorum.store.committed.append(self._look)
        for change in self.world.quorum.store.since(1):
            self._look(change)
        self.world.quorum.begin()

    def asked(self, host: Host, puts: Sequence[Put]) -> None:
        """A process on ``host`` asks the store to write: what a manager decides it may ask for with a lease alone."""
        lease = host.keeper.lease
        if lease is not None and lease.holds(host.clock.boottime_ns()):
            return
        for put in puts:
            if put.key.startswith(self._decisions):
                self.world.oracle.violate(f"3 {host.name} decided about {put.key.rpartition('/')[2]} without a lease")

    def _look(self, change: Change) -> None:
        for event in change.events:
            self.world.news(event.key)
            if event.key not in self._look_of:
                looks = (look for look in self._looks if event.key.startswith(look[0].prefix))
                self._look_of[event.key] = next(looks, None)
            found = self._look_of[event.key]
            if found is None:
                continue
            collection, look = found
            record = None
            if event.value is not None:
                memo, key = self.world.decoded, (event.key, event.revision, event.value)
                held = memo.get(key) or collection.decode(event.key, event.value, event.revision)
                memo[key] = held
                record = held.record
            look(event.key.removeprefix(collection.prefix), record)
        if self._commands and self.world.writer:
            for sid, old, new in self._commands:
                self.world.overseer.look(sid, old, new, sid in self._given)
        self._commands.clear()
        self._given.clear()
        if self.world.writer:
            self.world.authority.committed(change.revision)

    def _heartbeat(self, node: str, beat: Heartbeat | None) -> None:
        if beat is not None:
            self.heartbeats[node] = beat
            if beat.mode != self.modes.get(node, ("", 0.0))[0]:
                self.modes[node] = (beat.mode, self.world.loop.time())
            self.world.beats[node] = self.world.loop.time()
            self.world.hosts[node].failed_at = None
            return
        self.heartbeats.pop(node, None)
        host = self.world.hosts[node]
        self._blame(node)
        if self.world.writer and self.world.writer != node:
            self.world.survival.fenced(node)
        alive = [f"vm:{vmid}" for vmid in sorted(host.running) if f"vm:{vmid}" in self.resources]
        if alive and host.powered and self.world.writer != node:
            self.world.oracle.violate(f"2 {node} was fenced while it runs {', '.join(alive)}")

    def _blame(self, node: str) -> None:
        """After an outage of the store itself each node has half a lease to show life before it is fenced."""
        world = self.world
        host, quorum, profile = world.hosts[node], world.quorum, world.profile
        since = world.loop.time() - quorum.led_since
        since_lost = quorum.led_since - quorum.outage_s
        well = host.powered and not host.paused and host.answers() and quorum.reaches(node)
        well = well and world.beats.get(node, 0.0) > since_lost - 3 * profile.beat
        if well and quorum.outage_s > 3 * profile.beat and since < profile.lease / 2 * 0.9 and world.writer != node:
            world.oracle.violate(f"11 {node} was fenced {since:.1f} s after an outage of the store that struck all")

    def _service(self, sid: str, service: Service | None) -> None:
        old = self.services.get(sid)
        self._decided(sid)
        if service is None:
            self.services.pop(sid, None)
            self.world.oracle.note("guest", sid, "is no longer managed")
            return
        self.services[sid] = service
        self._commands.append((sid, old, service))
        if not service.why:
            self.world.oracle.violate(f"8 {sid} became {service.state} without a reason")
        if old is None or (old.state, old.node, old.why) != (service.state, service.node, service.why):
            self.world.oracle.note("guest", sid, service.state.value, service.why)

    def _guest(self, name: str, guest: Guest | None) -> None:
        vmid = int(name)
        if guest is None:
            self.owners.pop(vmid, None)
            return
        old = self.owners.get(vmid)
        self.owners[vmid] = guest
        if old is None or old.node == guest.node:
            return
        self._given.add(guest.sid)
        if self.world.writer and self.world.writer != old.node:
            self.world.locked.discard(vmid)  # its owner is proven dead, and so is whoever held the lock there
        self.world.hosts[guest.node].given(vmid, guest.epoch)
        self.world.oracle.note("guest", f"vm:{vmid}", f"belongs to {guest.node}", f"epoch {guest.epoch}")
        if guest.epoch <= old.epoch:
            self.world.oracle.violate(f"2 vm:{vmid} was given to {guest.node} without a new epoch")
        if runners := self.world.oracle.runners(vmid):
            self.world.oracle.violate(f"2 vm:{vmid} was given to {guest.node} while it runs on {', '.join(runners)}")

    def _status(self, node: str, status: NodeStatus | None) -> None:
        self._decided(node)
        old = self.statuses.get(node)
        if status is None:
            self.statuses.pop(node, None)
            return
        self.statuses[node] = status
        if old is None or old.health != status.health:
            self.world.oracle.note("node", node, status.health.value, status.why)

    def _resource(self, sid: str, resource: Resource | None) -> None:
        if resource is None:
            self.resources.pop(sid, None)
        else:
            self.resources[sid] = resource
        self.world.promptness.touch()

    def _manager(self, _: str, term: ManagerTerm | None) -> None:
        if term is None:
            self.term = None
            return
        if not term.node:
            self.term = term
            self.world.oracle.note("manager", self.world.writer, "gave its office back")
            return
        holder = (term.node, term.incarnation)
        if self._managers.setdefault(term.term, holder) != holder:
            self.world.oracle.violate(f"3 term {term.term} is of {term.node} and of {self._managers[term.term][0]}")
        if self.world.writer and self.world.writer != term.node:
            self.world.oracle.violate(f"3 {self.world.writer} made {term.node} manager")
        if self.term is None or self.term.term != term.term:
            self.world.oracle.note("manager", term.node, f"manages, term {term.term}")
        self.term = term

    def _arming(self, _: str, arming: Arming | None) -> None:
        self.arming = arming
        self.world.promptness.touch()

    def _fencing(self, node: str, fencing: Fencing | None) -> None:
        before = self.fencings.get(node)
        if before is not None and before.stage is FenceStage.RUNNING:
            self.ordered[before.by, node] = self.world.loop.time()
        if fencing is not None:
            self.fencings[node] = fencing

    def _maintenance(self, node: str, maintenance: Maintenance | None) -> None:
        if maintenance is None:
            self.maintenance.pop(node, None)
        else:
            self.maintenance[node] = self.world.loop.time()
        self.world.promptness.touch()

    def _decided(self, subject: str) -> None:
        """A decision about ``subject`` was committed: by whom?"""
        writer = self.world.writer
        if writer and (self.term is None or self.term.node != writer):
            manager = self.term.node if self.term else "nobody"
            self.world.oracle.violate(f"3 {writer} decided about {subject} while {manager} was manager")
