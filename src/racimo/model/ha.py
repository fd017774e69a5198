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


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat(Record):
    """A node's sign of life: compare-and-set on its own last one. Deleting it fences that incarnation for good."""

    node: str
    incarnation: str
    sequence: int
    profile: str = "default"
    mode: str = "active"
    """``active``; ``idle`` when it holds no HA guests and never will in this incarnation without a new lease."""
    leaving: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ManagerTerm(Record):
    """Who is manager. Each manager's transactions compare this record's revision, so a newer term refuses an older."""

    node: str
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
    restarts: int = 0
    relocations: int = 0
    failed_nodes: tuple[str, ...] = ()
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
    """``mark``, ``start``, ``stop`` or ``migrate``."""
    ok: bool
    error: str = ""
    attempt: int = 1
