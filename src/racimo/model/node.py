"""Nodes and what was found out about them."""

from __future__ import annotations

from dataclasses import dataclass, field

from racimo.model.record import Record


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFacts:
    """What a node is made of, compared when it joins. Sizes in bytes; versions as the tools print them."""

    architecture: str = ""
    cpu_model: str = ""
    cpu_flags: tuple[str, ...] = ()
    cpus: int = 0
    memory: int = 0
    kernel: str = ""
    operating_system: str = ""
    qemu: str = ""
    packages: dict[str, str] = field(default_factory=dict)
    bridges: tuple[str, ...] | None = None
    """The names of its bridges; None where they are not known."""
    acceleration: str = "tcg"
    acceleration_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node(Record):
    """One server of the datacenter.

    ``id`` is drawn anew at each ``init`` or join, so a node that was removed and came back is another one. ``address``
    is its address on the cluster network. ``voter`` nodes run a member of the quorum store. A ``witness`` votes and
    does nothing else: it runs no guests.
    """

    name: str
    id: str
    address: str
    voter: bool = False
    witness: bool = False
    leaving: bool = False
    """It is on its way out: it is not chosen as a voter, and gets no guests."""
    joined: float = 0.0
    """Seconds since the epoch; for people only."""
    networks: dict[str, str] = field(default_factory=dict)
    """Role (public, migration, replication, storage) to the node's address there, where it differs from ``address``."""
    facts: NodeFacts = field(default_factory=NodeFacts)
    description: str = ""
    """For people."""
    wakeonlan: str = ""
    """MAC address that wakes the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Daemon(Record):
    """The racimo-node that runs on a node now. A lock that another ``incarnation`` left behind can be broken."""

    node: str
    incarnation: str
    version: str = ""
    since: float = 0.0
    """Seconds since the epoch; for people only."""
