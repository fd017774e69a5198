"""One transient systemd unit per QEMU: it outlives every daemon of the node, and systemd keeps how it ended."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import racimo
from racimo.guest.program import run_program

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SLICE = "racimo-guests.slice"
STOP_TIMEOUT = 10
"""Seconds between systemd's SIGTERM (it powers QEMU off) and its SIGKILL, when the host shuts down."""
TASKS_MAX = 4096
OOM_SCORE_ADJUST = -100
"""The host's memory killer takes other programs before guests, but guests before Racimo's daemons."""


@dataclass(frozen=True, slots=True)
class UnitStart:
    """What a guest's unit runs. ``lease`` is set for HA guests only: the file to check just before QEMU runs; it has to
    be that of ``incarnation``, where one is given."""

    vmid: int
    argv: tuple[str, ...]
    log: Path
    lease: Path | None = None
    incarnation: str = ""


@dataclass(frozen=True, slots=True)
class UnitEnd:
    """How a unit's process ended: ``how`` for people; ``clean`` when it exited by itself with status 0."""

    clean: bool
    how: str


class Units(Protocol):
    """What starts and ends the processes of guests."""

    async def start(self, start: UnitStart) -> None:
        """Start the process; it lives on its own from here. Raises ``OperationFailed``."""

    async def kill(self, vmid: int) -> None:
        """SIGKILL whatever the guest's unit has left; nothing if it has none."""

    async def end(self, vmid: int) -> UnitEnd:
        """After the process died: clear what is left of the unit, and say how it ended."""


def wrapped(start: UnitStart) -> list[str]:
    """The argv that checks the lease and then becomes QEMU; needs ``launch_environment``."""
    lease = ["--lease", str(start.lease), start.incarnation] if start.lease else []
    return [sys.executable, "-S", "-m", "racimo.guest.launch", *lease, "--", *start.argv]


def launch_environment() -> dict[str, str]:
    """The environment of ``wrapped``: where Python finds Racimo without reading the site packages."""
    return {"PYTHONPATH": str(Path(racimo.__file__).parent.parent)}


def unit_name(vmid: int) -> str:
    """The name of a guest's unit."""
    return f"racimo-guest-{vmid}.service"


class SystemdUnits:
    """Units of the host's systemd, through ``systemd-run`` and ``systemctl``."""

    async def start(self, start: UnitStart) -> None:
        await run_program("systemctl", "reset-failed", unit_name(start.vmid), check=False)
        properties = {
            "Description": f"Guest {start.vmid}",
            "Before": "racimo-shutdown.service",  # on shutdown it ends after what HA has to settle first
            "KillMode": "mixed",
            "SendSIGKILL": "yes",
            "TimeoutStopSec": str(STOP_TIMEOUT),
            "OOMScoreAdjust": str(OOM_SCORE_ADJUST),
            "OOMPolicy": "stop",
            "TasksMax": str(TASKS_MAX),
            "MemoryAccounting": "yes",
            "CPUAccounting": "yes",
            "StandardOutput": f"append:{start.log}",
            "StandardError": f"append:{start.log}",
        }
        environment = [f"--setenv={name}={value}" for name, value in launch_environment().items()]
        settings = [f"--property={name}={value}" for name, value in properties.items()]
        command = ["systemd-run", "--quiet", f"--unit={unit_name(start.vmid)}", f"--slice={SLICE}"]
        await run_program(*command, "--service-type=exec", *settings, *environment, "--", *_escaped(wrapped(start)))

    async def kill(self, vmid: int) -> None:
        await run_program("systemctl", "kill", "--signal=SIGKILL", unit_name(vmid), check=False)

    async def end(self, vmid: int) -> UnitEnd:
        unit = unit_name(vmid)
        await run_program("systemctl", "stop", unit, check=False)  # returns when systemd has seen the death too
        shown = await run_program("systemctl", "show", "--property=Result,ExecMainCode,ExecMainStatus", unit)
        fields = dict(line.partition("=")[::2] for line in shown.splitlines())
        await run_program("systemctl", "reset-failed", unit, check=False)
        return _unit_end(fields)


def _unit_end(fields: Mapping[str, str]) -> UnitEnd:
    """How it ended, from systemd's properties (systemd.exec(5), $SERVICE_RESULT). One that ended well is unloaded."""
    result, status = fields.get("Result", ""), fields.get("ExecMainStatus", "0")
    if result == "oom-kill":
        return UnitEnd(False, "the host ran out of memory and killed QEMU")
    if result in ("signal", "core-dump") or fields.get("ExecMainCode") in ("2", "3"):
        return UnitEnd(False, f"QEMU was killed by signal {status}")
    if result in ("", "success") and status == "0":
        return UnitEnd(True, "QEMU ended")
    return UnitEnd(False, f"QEMU ended with status {status}")


def _escaped(argv: Sequence[str]) -> list[str]:
    """systemd expands ``$`` in a command line; doubled it stands for itself."""
    return [argument.replace("$", "$$") for argument in argv]
