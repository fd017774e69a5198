"""Services of this machine that may be seen and steered from afar, through systemctl(1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, Refused

if TYPE_CHECKING:
    from racimo.machine.programs import Programs

API = "racimo-node"
ALIASES = {"pveproxy": API, "pvedaemon": API, "pvestatd": API, "sshd": "ssh"}
"""Names that clients of the Proxmox VE API use for what is one service here."""
OWN = frozenset({API, "racimo-ha", "racimo-guard", "racimo-etcd"})
SERVICES = (API, "racimo-ha", "racimo-guard", "racimo-etcd", "chrony", "systemd-timesyncd", "ssh", "cron", "postfix")
"""All that there is to see; nothing else is ever named to systemctl."""
ACTIONS = ("start", "stop", "restart", "reload")
_SHOWN = "Id,Description,LoadState,ActiveState,SubState,UnitFileState"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One service as systemd has it: its states by systemd's own words."""

    name: str
    description: str
    load: str
    active: str
    sub: str
    file: str


def service_name(name: str) -> str:
    """The service of that name. Raises ``BadParameter`` for one that is not to be seen from afar."""
    plain = name.removesuffix(".service")
    found = ALIASES.get(plain, plain)
    if found not in SERVICES:
        raise BadParameter({"service": f"'{name[:80]}' is not one of {', '.join(SERVICES)}"})
    return found


def demand_harmless(service: str, action: str) -> None:
    """Raises ``Refused`` for what would take the node's guests, its lease or this API away."""
    if action == "stop" and service in OWN:
        raise Refused(
            f"{service} was not stopped",
            why="the node could not be reached any more to start it again, or would be fenced",
            todo=f"Do it on the node itself: systemctl stop {service}",
        )
    if service in OWN - {API} and action in ("restart", "reload"):
        raise Refused(
            f"{service} was not {action}ed", why="HA and the store depend on it",
            todo=f"Put the node into maintenance, then do it on the node itself: systemctl {action} {service}",
        )  # fmt: skip
    if service == API and action == "reload":
        raise Refused(f"{service} was not reloaded", why="it reads its files when it starts", todo="Restart it")


async def read_units(programs: Programs) -> list[Unit]:
    """All of ``SERVICES``, those that are not installed included."""
    shown = await programs.run("systemctl", "show", f"--property={_SHOWN}", *(f"{name}.service" for name in SERVICES))
    return [_unit(block, name) for block, name in zip(shown.strip().split("\n\n"), SERVICES, strict=False)]


async def read_unit(programs: Programs, service: str) -> Unit:
    """One."""
    return _unit(await programs.run("systemctl", "show", f"--property={_SHOWN}", f"{service}.service"), service)


def _unit(block: str, name: str) -> Unit:
    found = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    return Unit(
        name=name, description=found.get("Description", ""), load=found.get("LoadState", ""),
        active=found.get("ActiveState", ""), sub=found.get("SubState", ""), file=found.get("UnitFileState", ""),
    )  # fmt: skip
