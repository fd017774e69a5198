"""Records of high availability: who should run, who is alive, who decides.

The rules that bind them are in docs/architecture/ha.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from racimo.model.record import Record


class Requested(StrEnum):
    """What an administrator wants of a resource. Names are those of the Proxmox VE API."""

    STARTED = "started"
    STOPPED = "stopped"
    DISABLED = "disabled"
    IGNORED = "ignored"


class ServiceState(StrEnum):
    """What the manager is doing about a resource. Names are those of the Proxmox VE API."""

    STOPPED = "stopped"
    REQUEST_STOP = "request_stop"
    REQUEST_START = "request_start"
    REQUEST_START_BALANCE = "request_start_balance"
    STARTED = "started"
    FENCE = "fence"
    RECOVERY = "recovery"
    MIGRATE = "migrate"
    RELOCATE = "relocate"
    FREEZE = "freeze"
    ERROR = "error"
    QUEUED = "queued"


class NodeHealth(StrEnum):
    """What the manager holds of a node. Names are those of the Proxmox VE API."""

    ONLINE = "online"
    MAINTENANCE = "maintenance"
    UNKNOWN = "unknown"
    FENCE = "fence"
    GONE = "gone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource(Record):
    """A guest under HA, as the administrator set it. ``sid`` is such as ``vm:100``."""

    sid: str
    requested: Requested = Requested.STARTED
    max_restart: int = 1
    max_relocate: int = 1
    failback: bool = True
    comment: str = ""
    target: str = ""
    """A node it was asked to move to (``ha migrate``); cleared when done or given up."""
    target_mode: str = ""
    """``migrate`` (live) or ``relocate`` (stop, move, start) while ``target`` is set."""
    probe: str = ""
    """How its owner's agent asks whether the application is well: ``agent`` (the guest agent answers),
    ``tcp:HOST:PORT``, or an ``http://`` or ``https://`` URL. Empty: it counts as well while its process runs."""
    probe_interval: float = 10.0
    """Seconds from one question to the next."""
    probe_timeout: float = 3.0
    """Seconds within which it has to answer."""
    probe_failures: int = 3
    """So many failures in a row count as one failure of the guest."""
    probe_grace: float = 120.0
    """Seconds after a start in which failures do not count, unless it has answered once since."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Record):
    """A node's sign of life: compare-and-set on its own last one. Deleting it fences that incarnation for good."""

    node: str
    incarnation: str
    sequence: int
    profile: str = "default"
    mode: str = "active"
    """``active``; ``reboot`` or ``poweroff`` once the node has been told to shut down. What is done about its guests
    then is the datacenter's shutdown policy."""
    gave_up: bool = False
    """With a mode of shutdown: the time set for its guests to migrate away is over."""
    armed: int = 0
    """The generation of ``Arming`` by which this node marks HA guests. Only where it is the present one may the node be
    given guests."""
    marked: int = 0
    """The store's revision by which this node had marked all HA guests, and since which it has left none out that was
    one all the time; 0: not known."""
    away: bool = False
    """Its daemon was told to end: its successor carries on, so the lease is waited for, and no fence device is used."""
    leaving: bool = False
    peers: tuple[str, ...] = ()
    """The members that the node asks before it extends its lease without the store, itself included. Empty: it never
    does. Only who is named here may count the node as expired by this heartbeat."""
    watchdog: str = ""
    """The node's watchdog as its guard reports it, for people; empty: it has none."""
    commit_ms: int = 0
    """How long the slowest of a hundred of its heartbeats took to be committed, in milliseconds; 0: not known yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerTerm(Record):
    """Who is manager. Each manager's transactions compare this record's revision, so a newer term refuses an older."""

    node: str
    """Empty when the manager gave its office back and nobody has taken it yet; the number stays."""
    incarnation: str
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStatus(Record):
    """The manager's view of a node, with the proof it acted on."""

    node: str
    health: NodeHealth
    why: str = ""
    proof: str = ""
    since: float = 0.0
    """Seconds since the epoch; for people only."""
    mode: str = ""
    """``reboot`` or ``poweroff`` from when the node announced its shutdown until it shows life in another mode."""
    armed: int = 0
    """With a proof: the generation of ``Arming`` that the last heartbeat named, by which all guests were marked."""
    marked: int = 0
    """With a proof: the revision that the last heartbeat named, by which all guests were marked."""
    power: str = ""
    """What came of switching a node on again whose power was cut, for people; empty: nothing yet."""
    switched_on: bool = False
    """Whether that came about."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Maintenance(Record):
    """A node whose guests shall leave, until this record is removed. Named by the node."""

    node: str
    comment: str = ""
    since: float = 0.0
    """Seconds since the epoch; for people only."""


class ArmPhase(StrEnum):
    """Whether HA acts at all."""

    ARMED = "armed"
    DISARMING = "disarming"
    DISARMED = "disarmed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arming(Record):
    """Whether HA acts in this datacenter. No such record means armed, in generation 0.

    Administrators write DISARMING and ARMED, the manager alone DISARMED, which adds one to ``generation``: what a guard
    confirmed in an earlier generation proves nothing any more. Nodes take marks away only while they read DISARMED.
    """

    phase: ArmPhase = ArmPhase.ARMED
    mode: str = ""
    """``freeze`` (guests stay as they are) or ``ignore`` (they are handled as if they were not under HA)."""
    generation: int = 0
    why: str = ""
    since: float = 0.0
    """Seconds since the epoch; for people only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance(Record):
    """What automatic rebalancing remembers over a change of manager."""

    rounds: int = 0
    """Rounds in a row in which the imbalance was above the threshold."""
    round_at: float = 0.0
    """When the last round was counted, in seconds since the epoch."""
    moves: tuple[float, ...] = ()
    """When guests were moved for balance within the last hour, in seconds since the epoch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Service(Record):
    """The manager's state of one resource. ``node`` and ``epoch`` are those of the guest that the state is about."""

    sid: str
    state: ServiceState
    node: str
    epoch: int
    target: str = ""
    attempt: int = 1
    """Grows with each command to the agent; an ``Outcome`` with the same ``attempt`` and ``epoch`` answers it."""
    guarded: bool = False
    """Whether the owning node's agent has confirmed the guest's mark. Without it proof B is refused: the guest may have
    been running before it became a resource, unknown to the guard."""
    armed: int = 0
    """The generation of ``Arming`` that ``guarded`` is about; in another one it says nothing."""
    seen: int = 0
    """A revision of the store at which the resource was one already; it has been one ever since, for its removal takes
    this record along. 0: not known."""
    restarts: int = 0
    relocations: int = 0
    failed_nodes: tuple[str, ...] = ()
    home: str = ""
    """The node that it left because of maintenance or a shutdown, and goes back to when that is over."""
    renew: bool = False
    """With a command to start: end the present process first, because its application is not well."""
    not_before: float = 0.0
    """Seconds since the epoch: until then the manager tries no move of its own again. Sets the pace, proves nothing."""
    why: str = ""
    history: tuple[HistoryEntry, ...] = field(default_factory=tuple)
    """Newest last; the last 20."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryEntry:
    """One step of a resource's HA history."""

    at: float
    """Seconds since the epoch; for people only."""
    what: str
    why: str
    term: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Record):
    """What an agent reports of the command it last carried out for a resource."""

    sid: str
    node: str
    epoch: int
    command: str
    """``mark``, ``start``, ``stop``, ``migrate``, or ``probe``: how its application is."""
    ok: bool
    error: str = ""
    attempt: int = 1
    armed: int = 0
    """The generation of ``Arming`` in which the guest was marked when this was written."""
