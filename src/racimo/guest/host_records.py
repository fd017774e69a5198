"""What ``racimo.guest.host`` is told and tells: a launch, a process as it is, its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from racimo.guest.network import Tap
    from racimo.guest.process import ProcessUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestLaunch:
    """One QEMU to start: paused (``-S`` stands in its argv), with its taps joined, its files written."""

    vmid: int
    epoch: int
    argv: tuple[str, ...]
    taps: tuple[Tap, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    """Written to the guest's run directory first: name to content, such as a cloud-init seed."""
    lease: Path | None = None
    """The lease file to check just before QEMU runs: set for HA guests."""
    incarnation: str = ""
    """Of the lease that the start was begun under; under another one the guest may run elsewhere by now."""
    incoming: bool = False
    """It waits for a migration."""
    migration: str = ""
    """UPID of the migration it waits for, where that is known."""
    config: Mapping[str, str] = field(default_factory=dict)
    """The configuration that it is started with; a migration's target is started with the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestStatus:
    """A guest's process as it is now. ``state`` is QEMU's run state, or ``unresponsive``."""

    vmid: int
    pid: int
    state: str
    epoch: int
    incoming: bool
    usage: ProcessUsage | None
    migration: str = ""


@dataclass(frozen=True, slots=True)
class GuestExited:
    """A guest's process has ended. ``orderly``: by the guest's or somebody's will, not by a fault."""

    vmid: int
    epoch: int
    reason: str
    orderly: bool


@dataclass(frozen=True, slots=True)
class StartedWith:
    """What a guest's QEMU was started with, kept beside its sockets. ``epoch`` 0: not known any more."""

    epoch: int = 0
    incoming: bool = False
    migration: str = ""
    """UPID of the migration that it was started for; empty: of none, or not known."""
    released: bool = False
    """Its CPUs were let run, or may have been: what is on its disks may be newer than what its source remembers."""
    cpu: str = ""
    """QEMU's ``-cpu``."""
    config: Mapping[str, str] = field(default_factory=dict)


def started_with(launch: GuestLaunch) -> StartedWith:
    """What is kept of a launch."""
    cpu = next((value for option, value in pairwise(launch.argv) if option == "-cpu"), "")
    return StartedWith(
        epoch=launch.epoch, incoming=launch.incoming, migration=launch.migration, cpu=cpu, config=launch.config
    )
