"""Guests: virtual machines, where they belong and what is known of their running."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from racimo.model.record import Record

MIN_VMID = 100
MAX_VMID = 999_999_999


def guest_sid(vmid: int) -> str:
    """The id of a guest as an HA resource, such as ``vm:100``."""
    return f"vm:{vmid}"


class SnapshotState(StrEnum):
    """How far a snapshot is."""

    DONE = "done"
    PREPARE = "prepare"
    """It is being taken, or that was cut off: it cannot be used."""
    DELETE = "delete"
    """It is being deleted, or that was cut off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A guest as it was: a section of its record. ``parent`` is the snapshot that it came after.

    ``snaptime`` in seconds since the epoch. With saved memory ``vmstate`` is the volume that holds it, and ``cpu``
    QEMU's ``-cpu`` at that time.
    """

    config: dict[str, str]
    parent: str = ""
    description: str = ""
    snaptime: int = 0
    vmstate: str = ""
    cpu: str = ""
    state: SnapshotState = SnapshotState.DONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Guest(Record):
    """One guest. ``node`` is the only node that may run it.

    Changing ``node`` is the commit point of every move, and each such transaction adds one to ``epoch``: whoever acts
    for an older epoch is refused. ``config`` holds the keys and value grammar of Proxmox VE's qm.conf.
    """

    vmid: int
    node: str
    epoch: int = 1
    config: dict[str, str] = field(default_factory=dict)
    snapshots: dict[str, Snapshot] = field(default_factory=dict)
    parent: str = ""
    """The snapshot that its present state came after; empty: of none."""

    @property
    def name(self) -> str:
        """What people call it; ``VM <vmid>`` where no name was given."""
        return self.config.get("name") or f"VM {self.vmid}"

    @property
    def sid(self) -> str:
        """The id of the guest as an HA resource, such as ``vm:100``."""
        return guest_sid(self.vmid)


class RunState(StrEnum):
    """What the owning node last wrote about a guest's process."""

    STOPPED = "stopped"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime(Record):
    """Whether a guest runs, written only by the node that owns it (or by who took it over with a proof).

    Before a process is started, ``STARTING`` is committed with a compare on the guest's record and on this one; a move
    of a stopped guest compares this record too. So a start and a move never both succeed, and ``STOPPED`` for the
    guest's present ``epoch`` is proof C of the HA rules.
    """

    vmid: int
    node: str
    epoch: int
    state: RunState
    reason: str = ""
    since: float = 0.0
    """Seconds since the epoch; for people only."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock(Record):
    """A lock on ``subject`` (such as ``guests/100``), held by one task of one boot of a node's daemon.

    It is broken, and that is logged, when its node was fenced or removed, or runs under another ``incarnation``.
    """

    subject: str
    node: str
    incarnation: str
    task: str
    """UPID of the holder."""
    reason: str = ""
    """What for, such as ``migrate``."""
    since: float = 0.0
    """Seconds since the epoch; for people only."""
