"""What this machine is made of: read from /proc, os-release, dpkg and QEMU. Nothing that is missing is an error."""

from __future__ import annotations

import asyncio
import os
import platform
import re
from pathlib import Path

import structlog

from racimo.model.node import NodeFacts

log = structlog.get_logger()

PACKAGES = (
    "racimo",
    "qemu-system-x86",
    "qemu-utils",
    "etcd-server",
    "systemd",
    "zfsutils-linux",
    "zfs-fuse",
    "btrfs-progs",
    "ceph-common",
    "libc6",
)
"""The components whose versions are compared."""
TIMEOUT_S = 10.0


async def gather_facts(acceleration: str = "tcg", acceleration_reason: str = "") -> NodeFacts:
    """The facts of this machine. Acceleration is found out by the guest room and handed in."""
    async with asyncio.TaskGroup() as group:
        qemu = group.create_task(_output("qemu-system-x86_64", "--version"))
        packages = group.create_task(
            _output("dpkg-query", "-W", "-f=${Package} ${Version} ${db:Status-Status}\n", *PACKAGES)
        )
    model, flags = read_cpu(_text("/proc/cpuinfo"))
    return NodeFacts(
        architecture=platform.machine(),
        cpu_model=model,
        cpu_flags=flags,
        cpus=os.cpu_count() or 0,
        memory=read_memory(_text("/proc/meminfo")),
        kernel=platform.release(),
        operating_system=read_os_name(_text("/etc/os-release")),
        qemu=read_qemu_version(qemu.result()),
        packages=read_packages(packages.result()),
        acceleration=acceleration,
        acceleration_reason=acceleration_reason,
    )


def read_cpu(cpuinfo: str) -> tuple[str, tuple[str, ...]]:
    """Model and flags (sorted) of the first CPU in /proc/cpuinfo, x86 or arm64."""
    fields: dict[str, str] = dict(re.findall(r"^([^\t:]+?)\s*:\s*(.*)$", cpuinfo.partition("\n\n")[0], re.MULTILINE))
    flags = fields.get("flags") or fields.get("Features") or ""
    return fields.get("model name", fields.get("CPU part", "")), tuple(sorted(flags.split()))


def read_memory(meminfo: str) -> int:
    """Bytes of memory from /proc/meminfo; 0 when it does not say."""
    found = re.search(r"^MemTotal:\s+(\d+) kB", meminfo, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def read_os_name(os_release: str) -> str:
    """PRETTY_NAME of os-release(5)."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)"?$', os_release, re.MULTILINE)
    return found[1] if found else ""


def read_qemu_version(output: str) -> str:
    """The version number that QEMU prints."""
    found = re.search(r"version (\d+(?:\.\d+)+)", output)
    return found[1] if found else ""


def read_packages(output: str) -> dict[str, str]:
    """Installed packages and versions from dpkg-query's lines."""
    lines = [line.split(" ") for line in output.splitlines()]
    return {line[0]: line[1] for line in lines if len(line) == 3 and line[2] == "installed"}


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError as error:
        log.warning("A fact about this machine cannot be read", path=path, why=str(error))
        return ""


async def _output(*argv: str) -> str:
    """What a program prints; empty when it is not there or does not end in time."""
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
    except OSError:
        return ""
    try:
        async with asyncio.timeout(TIMEOUT_S):
            return (await process.communicate())[0].decode(errors="replace")
    except TimeoutError:
        log.warning("A program did not end in time", argv=argv, seconds=TIMEOUT_S)
        return ""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
