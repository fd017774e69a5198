"""Whether this node can run guests on its CPU (KVM) or must emulate them (TCG), found out by running a probe guest.

``/dev/kvm`` existing proves nothing: under some hypervisors it exists and a guest hangs in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import platform
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from racimo.errors import OperationFailed

PROBE_TIMEOUT = 2.0
"""Seconds within which the probe guest must have run and ended."""

ENGINE_TIMEOUT = 10.0
"""Seconds given to QEMU itself before the guest's time counts: a busy node loads a program slowly."""

PROBE_EXIT = 0x55
"""Exit status of QEMU when the probe guest wrote ``PROBE_EXIT >> 1`` to isa-debug-exit (it answers 2 x value + 1)."""

ROM_SIZE = 0x10000
ROM_BASE = 0xF0000
CODE = 0xF000
DEBUG_PORT = 0x501


@dataclass(frozen=True, slots=True)
class Acceleration:
    """How guests run on this node, and why so, as a sentence."""

    kind: Literal["kvm", "tcg"]
    reason: str


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """What the probe guest did. ``ran`` if it came as far as long mode and ended by itself."""

    ran: bool
    why: str


def probe_firmware() -> bytes:
    """A firmware image of 64 KiB: the probe guest.

    From the reset vector it enters protected mode, builds page tables in RAM, enters long mode, counts 64-bit registers
    up and writes to isa-debug-exit. Without long mode, RAM, or exits to the hypervisor it does not get there.
    """
    descriptors = struct.pack(
        "<4Q",
        0,
        0x00CF9A000000FFFF,  # 0x08: 32-bit code
        0x00CF92000000FFFF,  # 0x10: data
        0x00AF9A000000FFFF,  # 0x18: 64-bit code
    )
    real = CODE + 0x40
    protected, long = real + 0x20, real + 0x80
    table = struct.pack("<HI", len(descriptors) - 1, ROM_BASE + CODE)
    pieces = {
        CODE: descriptors,
        CODE + 0x30: table,
        real: b"\xfa"  # cli
        b"\x66\x2e\x0f\x01\x16"  # lgdt cs:[table]
        + struct.pack("<H", CODE + 0x30)
        + b"\x0f\x20\xc0\x0c\x01\x0f\x22\xc0"  # cr0 |= PE
        + b"\x66\xea"  # jmp 0x08:protected
        + struct.pack("<IH", ROM_BASE + protected, 0x08),
        protected: b"\x66\xb8\x10\x00\x8e\xd8\x8e\xc0\x8e\xd0"  # ds = es = ss = 0x10
        b"\xc7\x05\x00\x10\x00\x00\x03\x20\x00\x00"  # PML4[0] -> 0x2000
        b"\xc7\x05\x00\x20\x00\x00\x03\x30\x00\x00"  # PDPT[0] -> 0x3000
        b"\xc7\x05\x00\x30\x00\x00\x83\x00\x00\x00"  # PD[0]: 2 MiB at 0
        b"\xb8\x00\x10\x00\x00\x0f\x22\xd8"  # cr3 = PML4
        b"\x0f\x20\xe0\x83\xc8\x20\x0f\x22\xe0"  # cr4 |= PAE
        b"\xb9\x80\x00\x00\xc0\x0f\x32\x0d\x00\x01\x00\x00\x0f\x30"  # EFER |= LME
        b"\x0f\x20\xc0\x0d\x00\x00\x00\x80\x0f\x22\xc0"  # cr0 |= PG
        b"\xea" + struct.pack("<IH", ROM_BASE + long, 0x18),  # jmp 0x18:long
        long: b"\x48\xb8\x00\x00\x00\x00\x01\x00\x00\x00"  # rax = 1 << 32
        b"\xb9\x40\x42\x0f\x00"  # ecx = 1,000,000
        b"\x48\xff\xc0\xff\xc9\x75\xf9"  # do rax += 1 while ecx -= 1
        b"\x48\xc1\xe8\x20"  # rax >>= 32
        b"\x04"  # al += (PROBE_EXIT >> 1) - 1
        + struct.pack("<B", (PROBE_EXIT >> 1) - 1)
        + b"\x66\xba"  # dx = DEBUG_PORT
        + struct.pack("<H", DEBUG_PORT)
        + b"\xee\xf4\xeb\xfd",  # out dx, al; then hlt for ever
        0xFFF0: b"\xe9" + struct.pack("<h", real - 0xFFF3),  # reset vector
    }
    image = bytearray(b"\xf4" * ROM_SIZE)
    for offset, piece in pieces.items():
        image[offset : offset + len(piece)] = piece
    return bytes(image)


async def run_probe(
    kind: Literal["kvm", "tcg"], binary: str = "qemu-system-x86_64", timeout: float = PROBE_TIMEOUT
) -> ProbeResult:
    """Run the probe guest under ``kind`` for ``timeout`` seconds at most. ``OperationFailed`` if QEMU is missing."""
    with tempfile.TemporaryDirectory(prefix="racimo-probe-") as folder:
        firmware = Path(folder) / "probe.bin"
        firmware.write_bytes(probe_firmware())
        arguments = (
            "-machine", f"pc,accel={kind}", "-cpu", "max", "-m", "16M", "-nodefaults", "-no-user-config",
            "-display", "none", "-no-reboot", "-bios", str(firmware),
            "-device", f"isa-debug-exit,iobase={DEBUG_PORT:#x},iosize=1",
        )  # fmt: skip
        try:
            process = await asyncio.create_subprocess_exec(
                binary,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE,
            )
        except FileNotFoundError as error:
            raise OperationFailed(
                "Guests cannot run on this node", why=f"{binary} is not installed", todo="Install qemu-system-x86"
            ) from error
        try:
            async with asyncio.timeout(timeout):
                _, stderr = await process.communicate()
        except TimeoutError:
            return ProbeResult(False, f"the probe guest hung for {timeout:g} s")
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()
    if process.returncode == PROBE_EXIT:
        return ProbeResult(True, "the probe guest ran")
    said = stderr.decode(errors="replace").strip().splitlines()
    return ProbeResult(False, f"the probe guest ended with {process.returncode}: {said[-1] if said else 'no message'}")


def cpu_flags(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The flags of this node's CPU, as Linux names them; empty where it does not list any."""
    for line in cpuinfo.read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


async def find_acceleration(
    binary: str = "qemu-system-x86_64",
    *,
    flags: frozenset[str] | None = None,
    machine: str | None = None,
    device: Path = Path("/dev/kvm"),
) -> Acceleration:
    """KVM if the CPU shows hardware virtualisation *and* a probe guest runs under it; else TCG, with the reason."""
    machine = machine or platform.machine()
    flags = cpu_flags() if flags is None else flags
    if lacking := _what_lacks(machine, flags, device):
        return Acceleration("tcg", f"{lacking}, so guests are emulated")
    await _warm_up(binary)
    result = await run_probe("kvm", binary)
    if result.ran:
        return Acceleration("kvm", f"the CPU shows {'vmx' if 'vmx' in flags else 'svm'} and the probe guest ran in it")
    return Acceleration("tcg", f"KVM is there but {result.why}, so guests are emulated")


def _what_lacks(machine: str, flags: frozenset[str], device: Path) -> str:
    """Why trying KVM is of no use; empty if it is."""
    if machine not in {"x86_64", "amd64"}:
        return f"guests are x86_64 and this node's CPU is {machine}"
    if not device.exists():
        return f"{device} does not exist"
    if not flags & {"vmx", "svm"}:
        return "the CPU shows neither vmx nor svm (hardware virtualisation is off or hidden)"
    if not os.access(device, os.R_OK | os.W_OK):
        return f"{device} cannot be opened by this user"
    return ""


async def _warm_up(binary: str) -> None:
    """Load QEMU once under TCG, so that the probe's two seconds are the guest's and not the disk's."""
    result = await run_probe("tcg", binary, ENGINE_TIMEOUT)
    if not result.ran:
        raise OperationFailed(
            "Guests cannot run on this node", why=f"QEMU fails even without KVM: {result.why}", todo="Reinstall QEMU"
        )
