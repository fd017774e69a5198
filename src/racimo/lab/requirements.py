"""What the host must have, and what to install when it has not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from racimo.errors import Refused

IMAGE_TOOLS = {
    "apt-cache": "apt",
    "apt-get": "apt",
    "dpkg-deb": "dpkg",
    "depmod": "kmod",
    "mformat": "mtools",
    "mcopy": "mtools",
    "syslinux": "syslinux",
    "/usr/lib/syslinux/mbr/mbr.bin": "syslinux-common",
    "/bin/busybox": "busybox-static",
}
"""What it takes to make the lab guest's image: program or file, and the Debian package that brings it."""

LAB_TOOLS = {
    "systemd-nspawn": "systemd-container",
    "/sbin/init": "systemd-sysv",
    "dbus-daemon": "dbus",
    "ip": "iproute2",
    "nsenter": "util-linux",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "etcd": "etcd-server",
    "etcdctl": "etcd-client",
}
"""What a lab of nodes needs of the host, whose root file system every node sees."""


def missing_packages(tools: dict[str, str]) -> list[str]:
    """Debian packages to install, sorted, each once."""
    return sorted({package for tool, package in tools.items() if not _present(tool)})


def demand(tools: dict[str, str]) -> None:
    """Raise ``Refused``, with the command that installs what is missing."""
    if packages := missing_packages(tools):
        names = " ".join(packages)
        raise Refused("The lab cannot run here", why=f"missing packages: {names}", todo=f"Run: apt-get install {names}")


def demand_root() -> None:
    """Raise ``Refused`` unless we are root of a Linux host that has /dev/net/tun and /dev/fuse."""
    if os.geteuid() != 0:
        raise Refused("The lab needs root", why="it makes namespaces, mounts and containers", todo="Run it with sudo")
    if not Path("/dev/net/tun").exists():
        raise Refused("The lab cannot run here", why="/dev/net/tun is missing", todo="Run: modprobe tun")


def _present(tool: str) -> bool:
    return Path(tool).exists() if tool.startswith("/") else shutil.which(tool) is not None
