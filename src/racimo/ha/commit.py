"""A decision as a transaction: what has to stand still, and what is written. Compares are of what the decision saw."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from racimo.ha.states import ArmingChange, BalanceChange, Fence, Move, NodeChange, PowerOff, ServiceChange, SwitchOn
from racimo.model.record import Record
from racimo.store.base import Compare

if TYPE_CHECKING:
    from racimo.ha.states import Decision
    from racimo.ha.view import Records
    from racimo.store.base import Put
    from racimo.store.collection import Collection, Held
    from racimo.store.layout import Layout

R = TypeVar("R", bound=Record)
STATE = "state"
"""The name of a record of which there is one."""
Transaction = tuple[list[Compare], list["Put"], list[str]]


class Commit:
    """Makes the transactions of one turn. ``basis`` is what the turn was decided by, ``term`` the manager's office."""

    def __init__(self, layout: Layout, basis: Records, term: Compare) -> None:
        self.layout, self.basis, self.term = layout, basis, term

    def transaction(self, decision: Decision) -> Transaction:
        """Compares, puts and deletes for ``decision``."""
        match decision:
            case NodeChange():
                return self._node(decision)
            case Fence():
                return self._fence(decision)
            case PowerOff():
                return self._power_off(decision)
            case SwitchOn():
                return self._switch_on(decision)
            case ServiceChange():
                return self._service(decision)
            case Move():
                return self._move(decision)
            case ArmingChange():
                arming, held = self.layout.arming, self.basis.arming.get(STATE)
                return [self.term, self._armed], [arming.put(STATE, decision.arming, held)], []
            case BalanceChange():
                balance, seen = self.layout.balance, self.basis.balance.get(STATE)
                return [self.term], [balance.put(STATE, decision.balance, seen)], []

    @property
    def _armed(self) -> Compare:
        """Nobody has disarmed HA or armed it again since."""
        return _unchanged(self.layout.arming, STATE, self.basis.arming.get(STATE))

    def _node(self, decision: NodeChange) -> Transaction:
        statuses, name = self.layout.node_statuses, decision.node
        held = self.basis.node_statuses.get(name)
        compares = [self.term, _unchanged(statuses, name, held)]
        if decision.status is None:
            return compares, [], [statuses.key(name)]
        return compares, [statuses.put(name, decision.status, held)], []

    def _fence(self, decision: Fence) -> Transaction:
        """A heartbeat newer than the one that the proof is about fails the transaction."""
        statuses, name = self.layout.node_statuses, decision.node
        held, key = self.basis.node_statuses.get(name), self.layout.heartbeats.key(name)
        compares = [self.term, self._armed, Compare(key, decision.revision), _unchanged(statuses, name, held)]
        return compares, [statuses.put(name, decision.status, held)], [key]

    def _power_off(self, decision: PowerOff) -> Transaction:
        """Nothing is cut when a newer heartbeat stands in the store, or somebody else gave an order meanwhile."""
        fencings, name = self.layout.fencings, decision.node
        held, beat = self.basis.fencings.get(name), self.layout.heartbeats.key(name)
        compares = [self.term, self._armed, Compare(beat, decision.fencing.revision), _unchanged(fencings, name, held)]
        return compares, [fencings.put(name, decision.fencing, held)], []

    def _switch_on(self, decision: SwitchOn) -> Transaction:
        """Not when the node shows life, or was told anything else meanwhile."""
        fencings, name = self.layout.fencings, decision.subject
        held, status = self.basis.fencings.get(name), self.basis.node_statuses.get(name)
        compares = [self.term, self._armed, self.layout.heartbeats.absent(name), _unchanged(fencings, name, held)]
        compares.append(_unchanged(self.layout.node_statuses, name, status))
        return compares, [fencings.put(name, decision.fencing, held)], []

    def _service(self, decision: ServiceChange) -> Transaction:
        services, sid = self.layout.services, decision.sid
        held = self.basis.services.get(sid)
        if decision.service is None:
            return (
                [self.term, _unchanged(services, sid, held)],
                [],
                [services.key(sid), self.layout.outcomes.key(sid)],
            )
        puts = [services.put(sid, decision.service, held)]
        if decision.clear_target:
            puts += self._without_target(sid)
        return [self.term, *self._about(sid)], puts, []

    def _move(self, decision: Move) -> Transaction:
        layout, sid, vmid = self.layout, decision.sid, str(decision.guest.vmid)
        guest, runtime = self.basis.guests.get(vmid), self.basis.runtimes.get(vmid)
        target = decision.guest.node
        compares = [self.term, self._armed, *self._about(sid), _unchanged(layout.runtimes, vmid, runtime)]
        compares.append(_unchanged(layout.nodes, target, self.basis.nodes.get(target)))  # it may have begun to leave
        if decision.fenced:
            status = self.basis.node_statuses.get(decision.fenced)
            compares.append(layout.heartbeats.absent(decision.fenced))
            compares.append(_unchanged(layout.node_statuses, decision.fenced, status))
        else:
            compares.append(layout.locks.absent(f"guests/{vmid}"))
        puts = [
            layout.guests.put(vmid, decision.guest, guest),
            layout.runtimes.put(vmid, decision.runtime, runtime),
            layout.services.put(sid, decision.service, self.basis.services.get(sid)),
        ]
        if decision.clear_target:
            puts += self._without_target(sid)
        return compares, puts, []

    def _about(self, sid: str) -> list[Compare]:
        """What every decision about a service was based on."""
        vmid = sid.partition(":")[2]
        return [
            _unchanged(self.layout.services, sid, self.basis.services.get(sid)),
            _unchanged(self.layout.resources, sid, self.basis.resources.get(sid)),
            _unchanged(self.layout.guests, vmid, self.basis.guests.get(vmid)),
        ]

    def _without_target(self, sid: str) -> list[Put]:
        held = self.basis.resources.get(sid)
        if held is None:
            return []
        return [self.layout.resources.put(sid, replace(held.record, target="", target_mode=""), held)]


def _unchanged(collection: Collection[R], name: str, held: Held[R] | None) -> Compare:
    return held.compare if held else collection.absent(name)
