"""What a simulation is told: nodes, guests, rules, options, and what happens when."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.ha.simulate.verbs import Verb

GIB = 1024**3
MIB = 1024**2


@dataclass(frozen=True, slots=True)
class NodeSetup:
    """One server. ``memory`` in bytes."""

    cpus: int = 24
    memory: int = 128 * GIB
    on: bool = False


@dataclass(frozen=True, slots=True)
class Failures:
    """How a guest misbehaves."""

    start: int = 0
    """So many starts fail before one succeeds."""
    migrate: int = 0
    """So many migrations fail before one succeeds."""
    stop: bool = False
    """It cannot be shut down."""
    missing: bool = False
    """It is a resource, but there is no such guest."""
    only_on: str | None = None
    """It starts on this node alone."""


@dataclass(frozen=True, slots=True)
class GuestSetup:
    """One guest under HA. ``memory`` in bytes, loads in CPUs and bytes."""

    sid: str
    node: str
    state: str = "stopped"
    max_restart: int = 1
    max_relocate: int = 1
    failback: bool = True
    auto_rebalance: bool = True
    cpus: int = 4
    memory: int = 4 * GIB
    load_cpu: float = 2.0
    load_memory: int = 2 * GIB
    fails: Failures = Failures()


@dataclass(frozen=True, slots=True)
class RuleSetup:
    """One HA rule, in the words of the Proxmox VE API. ``nodes`` maps each node to its priority."""

    id: str
    type: str
    resources: tuple[str, ...]
    nodes: Mapping[str, int] = field(default_factory=dict)
    strict: bool = False
    affinity: str = ""
    disabled: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """The datacenter's settings."""

    profile: str = "default"
    shutdown_policy: str = "conditional"
    crs: str = "basic"
    rebalance_on_start: bool = False
    auto_rebalance: bool = False
    threshold: float = 0.3
    margin: float = 0.1
    hold: int = 3
    method: str = "bruteforce"
    moves_per_hour: int = 10
    migrate_wait: int = 180
    """How long guests may take to leave a node that shuts down, in seconds."""


@dataclass(frozen=True, slots=True)
class Durations:
    """How long guest operations take, in seconds."""

    start: float = 0.0
    stop: float = 0.0
    migrate: float = 0.0


@dataclass(frozen=True, slots=True)
class Step:
    """What is done at a moment (seconds since the beginning). A checkpoint is taken just before."""

    at: float
    verbs: tuple[Verb, ...]


@dataclass(frozen=True, slots=True)
class KnownGuest:
    """What an earlier manager had decided about a guest."""

    state: str
    node: str


@dataclass(frozen=True, slots=True)
class Known:
    """What an earlier manager had decided."""

    manager: str = ""
    nodes: Mapping[str, str] = field(default_factory=dict)
    guests: Mapping[str, KnownGuest] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Setup:
    """A whole simulation."""

    name: str
    nodes: Mapping[str, NodeSetup]
    guests: Mapping[str, GuestSetup]
    rules: tuple[RuleSetup, ...] = ()
    options: Options = Options()
    durations: Durations = Durations()
    steps: tuple[Step, ...] = ()
    end: float = 600.0
    known: Known | None = None
    seed: int = 0
    fences: bool = False
    """Whether each node has a fence device."""
    healed: bool = False
    """Whether all is well at the end, so that every wanted guest must run there."""
