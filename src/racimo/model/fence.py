"""Records of fencing: the devices that can cut a node's power, and what was last done with them.

The rules that bind them are in docs/architecture/ha.md.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from racimo.model.record import SEALED, Record

DEFAULT_TIMEOUT_S = 15.0
"""How long one call of a device's program may take, unless the device says otherwise."""


class FenceStage(StrEnum):
    """How far a fencing has come."""

    RUNNING = "running"
    CONFIRMED = "confirmed"
    """All devices of one level were told to cut the power, and then said that it is off."""
    FAILED = "failed"
    """No level confirmed it. Only the lease can prove anything now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceDevice(Record):
    """One way to cut the power of one node. All devices of a level together do it; level 1 is tried first."""

    name: str
    node: str
    """The node whose power it cuts."""
    agent: str
    """A program with the fence agents' interface, such as ``fence_ipmilan``."""
    level: int = 1
    options: dict[str, str] = field(default_factory=dict)
    """What the program is told on its standard input, secrets left out."""
    secrets: dict[str, str] = field(default_factory=dict, repr=False, metadata={SEALED: True})
    """Options that nobody is shown, sealed: opened where they go to the program's standard input, and nowhere else."""
    timeout: float = DEFAULT_TIMEOUT_S
    """Seconds that one call may take."""
    enabled: bool = True
    power_on: bool = True
    """Whether the node is switched on again once its guests have been recovered. One device that says no is enough."""
    comment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAnswer:
    """What came of one call of a device's program."""

    device: str
    action: str
    """``off``, ``on`` or ``status``."""
    ok: bool
    """``off`` and ``on``: it reported success. ``status``: it was understood, whatever it says."""
    power: str = ""
    """``on`` or ``off``, where the action was ``status`` and the device said so."""
    said: str = ""
    """For people: its words, or why there are none."""
    seconds: float = 0.0


class ReturnStage(StrEnum):
    """How far switching a node on again has come."""

    RUNNING = "running"
    DONE = "done"
    """Its devices say that it is on. Whether it comes up is another matter."""
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerReturn:
    """The last order to switch a node on again whose power was cut."""

    by: str
    """The node that carries it out."""
    term: int
    """Of the manager that gave it."""
    attempt: int = 1
    stage: ReturnStage = ReturnStage.RUNNING
    why: str = ""
    since: float = 0.0
    """When it was ordered, in seconds since the epoch. Sets the pace of the next try, proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fencing(Record):
    """The last order to cut a node's power. It is about one heartbeat: the last that was seen of the node by then."""

    node: str
    incarnation: str
    revision: int
    """Of the node's heartbeat in the store. A proof by this order holds only while that one is still the last."""
    term: int
    """Of the manager that gave the order, or of the one that is being fenced by a candidate."""
    by: str
    """The node that carries the order out."""
    attempt: int = 1
    stage: FenceStage = FenceStage.RUNNING
    why: str = ""
    answers: tuple[DeviceAnswer, ...] = ()
    since: float = 0.0
    """When it was ordered, in seconds since the epoch; for people only."""
    back: PowerReturn | None = None
    """What was done to switch the node on again; None: nothing yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FenceCheck(Record):
    """Whether a device said of a node that shows life that its power is on: one that does not is not relied on."""

    device: str
    ok: bool
    why: str = ""
    by: str = ""
    """The node that asked it."""
    since: float = 0.0
    """When it began to be so, in seconds since the epoch; for people only."""
