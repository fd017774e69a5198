"""What the manager looks at and what it can decide: frozen, without I/O and without a clock."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from racimo.model.datacenter import Datacenter
from racimo.model.guest import RunState
from racimo.model.ha import Arming, Balance, HistoryEntry, ServiceState
from racimo.placement.rules import RuleSet

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.model.fence import Fencing
    from racimo.model.guest import Guest, Lock, Runtime
    from racimo.model.ha import Heartbeat, Maintenance, NodeStatus, Outcome, Resource, Service
    from racimo.model.node import Node
    from racimo.model.storage import Storage

HISTORY_LENGTH = 20
DEFAULTS = Datacenter(id="", name="")
"""The options of a datacenter in which nobody has changed any."""

COMMANDED = {
    ServiceState.REQUEST_START: "start",
    ServiceState.REQUEST_STOP: "stop",
    ServiceState.MIGRATE: "migrate",
    ServiceState.RELOCATE: "stop",
    ServiceState.FREEZE: "stop",
}
"""What the owning node's agent has to do while a service is in a state; ``freeze`` only where the node shuts down."""


@dataclass(frozen=True, slots=True)
class Sighting:
    """What the observer knows of one node's sign of life. Seconds on the observer's own monotonic clock."""

    since: float
    """When what stands in the store now was first seen."""
    suspect: float
    """When the node is called unknown unless something newer is seen."""
    revision: int
    """The revision of the heartbeat that stands there; 0 for none."""
    expires: float
    """When the lease has provably run out unless something newer is seen; infinite while the store is out of touch."""
    fence_from: float = math.inf
    """When a fence device may be used unless something newer is seen; never for a node that was not seen alive."""
    known: bool = True
    """Whether the observer has ever seen the node show life; before that it may just be booting."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a guest or a node uses by measurement: CPUs, and bytes of memory."""

    cpu: float
    memory: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All that one turn of ``decide`` knows. Guests and what concerns them go by sid, such as ``vm:100``."""

    term: int
    revision: int = 0
    """Of the store: all records here are of it."""
    wall: float = 0.0
    """Seconds since the epoch; for people only."""
    nodes: Mapping[str, Node] = field(default_factory=dict)
    heartbeats: Mapping[str, Heartbeat] = field(default_factory=dict)
    sightings: Mapping[str, Sighting] = field(default_factory=dict)
    statuses: Mapping[str, NodeStatus] = field(default_factory=dict)
    resources: Mapping[str, Resource] = field(default_factory=dict)
    services: Mapping[str, Service] = field(default_factory=dict)
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    guests: Mapping[str, Guest] = field(default_factory=dict)
    runtimes: Mapping[str, Runtime] = field(default_factory=dict)
    locks: Mapping[str, Lock] = field(default_factory=dict)
    allowed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """The nodes that can run each guest, where that is known already; else it is found out by ``storages``."""
    storages: Mapping[str, Storage] | None = None
    """None: every node can run every guest."""
    maintenance: Mapping[str, Maintenance] = field(default_factory=dict)
    arming: Arming = field(default_factory=Arming)
    options: Datacenter = DEFAULTS
    rules: RuleSet = field(default_factory=RuleSet)
    balance: Balance = field(default_factory=Balance)
    move_ages: tuple[float, ...] = ()
    """How long ago this manager first saw each of ``balance.moves``, in seconds on its own monotonic clock."""
    loads: Mapping[str, Load] = field(default_factory=dict)
    """What was measured, by sid and by node; not named: not measured."""
    node: str = ""
    """The node that looks: the manager's own, or a candidate's."""
    fenceable: frozenset[str] = frozenset()
    """Nodes with a fence device that is relied on."""
    fencings: Mapping[str, Fencing] = field(default_factory=dict)
    """The last order to cut each node's power."""
    returning: frozenset[str] = frozenset()
    """Nodes that are switched on again after their power was cut."""
    before_cut: frozenset[str] = frozenset()
    """Guests of which nothing was written by their node since the heartbeat that the last order to cut its power names:
    when that is off, they have ended."""


@dataclass(frozen=True, slots=True)
class NodeChange:
    """Write what the manager holds of a node; None: forget it."""

    node: str
    status: NodeStatus | None
    why: str

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.node


@dataclass(frozen=True, slots=True)
class Fence:
    """End a node's incarnation: delete its last heartbeat, if nothing newer came, and write down the proof."""

    node: str
    revision: int
    """Of the heartbeat that the proof is about; 0 where there is none."""
    status: NodeStatus
    why: str

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.node


@dataclass(frozen=True, slots=True)
class PowerOff:
    """Have the fence devices cut a node's power, if the heartbeat that was seen last is still the last."""

    fencing: Fencing
    why: str

    @property
    def node(self) -> str:
        """The node to be cut."""
        return self.fencing.node

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.fencing.node


@dataclass(frozen=True, slots=True)
class SwitchOn:
    """Have the fence devices switch a node on again, if it still shows no life. ``fencing`` holds the order."""

    fencing: Fencing
    why: str

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.fencing.node


@dataclass(frozen=True, slots=True)
class ServiceChange:
    """Write a service; None: forget it and its outcome. ``clear_target``: the request to move was settled."""

    sid: str
    service: Service | None
    why: str
    clear_target: bool = False

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.sid


@dataclass(frozen=True, slots=True)
class Move:
    """Give a guest that is proven not to run to another node, under its next epoch."""

    sid: str
    guest: Guest
    runtime: Runtime
    service: Service
    why: str
    fenced: str = ""
    """Proof B: the node whose lease has run out and who has had no heartbeat since. Empty: proof C, its own word."""
    clear_target: bool = False

    @property
    def subject(self) -> str:
        """What it is about."""
        return self.sid


@dataclass(frozen=True, slots=True)
class ArmingChange:
    """Go to the next phase of being disarmed, or say what that waits for."""

    arming: Arming
    why: str

    @property
    def subject(self) -> str:
        """What it is about."""
        return "datacenter"


@dataclass(frozen=True, slots=True)
class BalanceChange:
    """Write down what automatic rebalancing has to remember."""

    balance: Balance
    why: str

    @property
    def subject(self) -> str:
        """What it is about."""
        return "datacenter"


Decision = NodeChange | Fence | PowerOff | SwitchOn | ServiceChange | Move | ArmingChange | BalanceChange


@dataclass(frozen=True, slots=True)
class Turn:
    """What one turn decided, and when the next is due on the observer's clock (None: only when something happens)."""

    decisions: tuple[Decision, ...] = ()
    next_wake: float | None = None


def stopped(guest: Guest, runtime: Runtime | None) -> bool:
    """Proof C: the owner's own word, for the guest's present node and epoch, that it does not run.

    No ``Runtime`` at all is such a word too: it is written before a process is started.
    """
    if runtime is None:
        return True
    return runtime.state is RunState.STOPPED and (runtime.node, runtime.epoch) == (guest.node, guest.epoch)


def running(guest: Guest, runtime: Runtime | None) -> bool:
    """The owner's word, for the present node and epoch, that the guest runs."""
    return (
        runtime is not None
        and runtime.state in (RunState.RUNNING, RunState.PAUSED)
        and (runtime.node, runtime.epoch) == (guest.node, guest.epoch)
    )


def answered(service: Service, outcome: Outcome | None) -> Outcome | None:
    """The agent's answer to the service's present command, or None while there is none."""
    if outcome is None or outcome.command in ("mark", "probe"):
        return None
    return outcome if _about(service, outcome) else None


def probed(service: Service, outcome: Outcome | None) -> Outcome | None:
    """What the agent last found out about the guest's application since its last start; None: nothing yet."""
    if outcome is None or outcome.command != "probe":
        return None
    return outcome if _about(service, outcome) else None


def _about(service: Service, outcome: Outcome) -> bool:
    return (outcome.node, outcome.epoch, outcome.attempt) == (service.node, service.epoch, service.attempt)


def with_history(service: Service, wall: float, term: int, what: str) -> Service:
    """``service`` with one more line of history that repeats its ``why``."""
    entry = HistoryEntry(at=wall, what=what, why=service.why, term=term)
    return replace(service, history=(*service.history, entry)[-HISTORY_LENGTH:])
