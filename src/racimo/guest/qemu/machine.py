"""What the QEMU of a node offers, and how a guest's machine type and CPU model are fixed so that it can migrate."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from racimo.errors import OperationFailed, Refused
from racimo.guest.qemu.acceleration import Acceleration, find_acceleration

if TYPE_CHECKING:
    from racimo.guest.config import GuestConfig

BINARY = "qemu-system-x86_64"
QUERY_TIMEOUT = 20.0
"""Seconds for QEMU to start and answer what it offers."""

OVMF = "/usr/share/ovmf/OVMF.fd"
NET_ROM = "/usr/lib/ipxe/qemu/efi-virtio.rom"

CPU_LEVELS = {
    "x86-64-v2": "ssse3 sse4.1 sse4.2 popcnt",
    "x86-64-v2-AES": "ssse3 sse4.1 sse4.2 popcnt aes",
    "x86-64-v3": "ssse3 sse4.1 sse4.2 popcnt aes avx avx2 bmi1 bmi2 f16c fma abm movbe xsave",
    "x86-64-v4": "ssse3 sse4.1 sse4.2 popcnt aes avx avx2 bmi1 bmi2 f16c fma abm movbe xsave "
    "avx512f avx512bw avx512cd avx512dq avx512vl",
}
"""CPU models that QEMU does not know, as flags over ``qemu64`` (levels of the x86-64 psABI)."""


NOT_PROBED = Acceleration("tcg", "not probed")


@dataclass(frozen=True, slots=True, kw_only=True)
class Hypervisor:
    """The QEMU of one node."""

    binary: str = BINARY
    version: str = "7.2.0"
    machines: tuple[str, ...] = ()
    """Versioned machine types, newest first."""
    cpu_models: frozenset[str] = frozenset()
    """CPU models it can give under its acceleration; empty: not known."""
    acceleration: Acceleration = NOT_PROBED
    vhost: bool = False
    """The kernel can carry network packets (/dev/vhost-net)."""
    ovmf: str | None = None
    """UEFI firmware, if installed."""
    netboot: bool = False
    """Boot ROMs of network cards are installed."""
    cpus: int = 1


def pin_machine(machine: str, hypervisor: Hypervisor) -> str:
    """The versioned machine type of ``machine`` (``pc``, ``q35`` or versioned) on this node.

    Raises ``Refused`` if the node's QEMU does not have it.
    """
    wanted = machine.partition("+")[0]
    prefix = {"pc": "pc-i440fx-", "q35": "pc-q35-"}.get(wanted)
    for offered in hypervisor.machines:
        if offered == wanted or (prefix and offered.startswith(prefix)):
            return offered
    newest = ", ".join(hypervisor.machines[:2]) or "none"
    raise Refused(
        f"The machine type {machine} is not available on this node",
        why=f"QEMU {hypervisor.version} does not have it; its newest are {newest}",
        todo="Upgrade QEMU on this node, or run the guest on another",
    )


def cpu_argument(config: GuestConfig, hypervisor: Hypervisor) -> str:
    """QEMU's ``-cpu`` for the guest on this node. Raises ``Refused`` if QEMU does not know the model.

    Hand it to the target of a live migration: the guest must find the CPU that it started on.
    """
    model, kvm = config.cpu.cputype, hypervisor.acceleration.kind == "kvm" and config.kvm
    parts: list[str] = []
    if model in CPU_LEVELS:
        parts = ["qemu64", *(f"+{flag}" for flag in CPU_LEVELS[model].split())]
    elif model in {"host", "max"}:
        parts = ["host" if kvm and model == "host" else "max"]
    elif hypervisor.cpu_models and model not in hypervisor.cpu_models:
        raise Refused(
            f"The CPU model {model} is not available on this node",
            why=f"QEMU {hypervisor.version} under {hypervisor.acceleration.kind} does not know it",
            todo="Choose another model, such as x86-64-v2-AES",
        )
    else:
        parts = [model]
    parts += config.cpu.flags or ()
    if kvm:
        parts += ["kvm=off"] if config.cpu.hidden else ["+kvm_pv_eoi", "+kvm_pv_unhalt"]
        if config.ostype in WINDOWS_WITH_HINTS:
            parts += ["hv_relaxed", "hv_spinlocks=0x1fff", "hv_time", "hv_vapic", "hv_vpindex"]
        if parts[0] != "host":
            parts.append("enforce")
    return ",".join(parts)


WINDOWS_WITH_HINTS = frozenset({"w2k8", "wvista", "win7", "win8", "win10", "win11"})


async def find_hypervisor(binary: str = BINARY, acceleration: Acceleration | None = None) -> Hypervisor:
    """Ask this node's QEMU what it offers. Raises ``OperationFailed`` if it is missing or does not answer."""
    acceleration = acceleration or await find_acceleration(binary)
    answers = await _query(binary, ("query-version", "query-machines", "query-cpu-definitions"))
    number = answers["query-version"]["qemu"]
    machines = [entry["name"] for entry in answers["query-machines"]]
    return Hypervisor(
        binary=binary,
        version=f"{number['major']}.{number['minor']}.{number['micro']}",
        machines=tuple(sorted((name for name in machines if VERSIONED.fullmatch(name)), key=_age)),
        cpu_models=frozenset(entry["name"] for entry in answers["query-cpu-definitions"]),
        acceleration=acceleration,
        vhost=acceleration.kind == "kvm" and os.access("/dev/vhost-net", os.R_OK | os.W_OK),
        ovmf=OVMF if os.access(OVMF, os.R_OK) else None,
        netboot=os.access(NET_ROM, os.R_OK),
        cpus=len(os.sched_getaffinity(0)),
    )


VERSIONED = re.compile(r"pc-(i440fx|q35)-([0-9.]+)")


def _age(machine: str) -> tuple[list[int], str]:
    """Sorts newest first, and i440fx before q35 of the same version."""
    match = VERSIONED.fullmatch(machine)
    assert match is not None  # noqa: S101 - only names that matched come here
    return [-int(part) for part in match[2].split(".")], match[1]


async def _query(binary: str, commands: tuple[str, ...]) -> dict[str, Any]:
    """Answers of a QEMU without a machine to QMP commands, over its standard input and output."""
    arguments = ("-machine", "none", "-nodefaults", "-no-user-config", "-display", "none", "-qmp", "stdio")
    lines = [json.dumps({"execute": command, "id": command}) for command in ("qmp_capabilities", *commands, "quit")]
    try:
        process = await asyncio.create_subprocess_exec(
            binary,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
    except FileNotFoundError as error:
        raise OperationFailed(f"{binary} is not installed", todo="Install qemu-system-x86") from error
    try:
        async with asyncio.timeout(QUERY_TIMEOUT):
            stdout, stderr = await process.communicate("\n".join(lines).encode() + b"\n")
    except TimeoutError as error:
        raise OperationFailed(
            f"{binary} did not say what it offers", why=f"no answer within {QUERY_TIMEOUT:g} s", todo="Try again"
        ) from error
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    replies = [json.loads(line) for line in stdout.splitlines() if line.startswith(b"{")]
    answers = {reply["id"]: reply["return"] for reply in replies if "return" in reply and "id" in reply}
    if missing := set(commands) - answers.keys():
        raise OperationFailed(
            f"{binary} did not say what it offers",
            why=f"no answer to {', '.join(sorted(missing))}: {stderr.decode(errors='replace').strip()[-500:]}",
            todo="Reinstall QEMU",
        )
    return answers
