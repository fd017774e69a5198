"""A node's disk: an overlay over the host's root, in which the host's own services and state are not seen."""

from __future__ import annotations

import os
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path

import racimo
from racimo.errors import OperationFailed
from racimo.lab import fence_agent

EMPTIED = (
    "etc/systemd/system", "etc/init.d", "etc/racimo", "etc/sysctl.d", "etc/modules-load.d", "etc/cron.d", "srv",
    "var/lib/racimo", "var/lib/etcd", "var/log/racimo", "var/log/journal", "var/lib/systemd", "tmp", "var/tmp",
    *(f"etc/rc{level}.d" for level in "0123456S"),
)  # fmt: skip
"""Directories of the host that a node begins without."""

MASKED = (
    "getty.target", "systemd-logind.service", "systemd-user-sessions.service", "systemd-update-utmp.service",
    "systemd-update-utmp-runlevel.service", "systemd-ask-password-wall.path", "systemd-ask-password-console.path",
    "systemd-binfmt.service", "systemd-modules-load.service", "systemd-random-seed.service",
    "systemd-firstboot.service", "systemd-journald-audit.socket", "systemd-tmpfiles-clean.timer",
    "systemd-udevd.service", "systemd-udev-trigger.service", "systemd-sysusers.service",
    "systemd-machine-id-commit.service", "sys-kernel-config.mount", "sys-kernel-debug.mount",
    "sys-kernel-tracing.mount", "dev-hugepages.mount", "proc-sys-fs-binfmt_misc.automount",
)  # fmt: skip
"""Units that a container has no use for, and that would only make it start later."""

ENABLED = ("racimo-guard.service", "racimo-ha.service", "racimo-node.service", "racimo-shutdown.service")
"""Units that every node starts by itself, as on a node where the package was installed."""

WATCHDOG = "/run/racimo-lab/watchdog"
"""The node's end of its watchdog: a unix datagram socket of the lab's supervisor."""

JOURNALD = """[Journal]
Storage=persistent
SystemMaxUse=64M
RateLimitIntervalSec=0
ForwardToConsole=no
SyncIntervalSec=1s
"""


@dataclass(frozen=True, slots=True)
class NodeDisk:
    """The overlay of one node under ``directory``: ``disk`` is what the node wrote, ``root`` where it is mounted.

    It is mounted in the mount namespace of the node's own container alone, so it goes when the container goes.
    """

    directory: Path

    @property
    def upper(self) -> Path:
        """What the node changed: also readable when the node is off."""
        return self.directory / "disk"

    @property
    def root(self) -> Path:
        """Where the container mounts it."""
        return self.directory / "root"

    @property
    def mount_options(self) -> str:
        """Options of the overlay mount."""
        return f"lowerdir=/,upperdir={self.upper},workdir={self.directory / 'work'}"

    def create(self, name: str, hosts: str, state: Path) -> None:
        """Make an empty disk for the node ``name``, with ``hosts`` in /etc/hosts. Raises ``OperationFailed``."""
        for directory in (self.upper, self.root, self.directory / "work", self.directory / "host"):
            directory.mkdir(parents=True, exist_ok=True)
        for path in (*EMPTIED, str(state).lstrip("/")):
            self._empty(path)
        etc = self.upper / "etc"
        (etc / "hostname").write_text(f"{name}\n")
        (etc / "hosts").write_text(f"127.0.0.1 localhost\n::1 localhost ip6-localhost\n{hosts}")
        (etc / "machine-id").write_text(f"{uuid.uuid5(uuid.NAMESPACE_OID, f'{self.directory} {name}').hex}\n")
        (etc / "fstab").write_text("")
        (etc / "crypttab").write_text("")
        (etc / "systemd/journald.conf.d").mkdir()
        (etc / "systemd/journald.conf.d/lab.conf").write_text(JOURNALD)
        (etc / "cloud").mkdir()
        (etc / "cloud/cloud-init.disabled").write_text("")
        self._install_units()
        agent = self.upper / "usr/sbin/fence_racimo_lab"
        agent.parent.mkdir(parents=True)
        agent.write_text(Path(fence_agent.__file__).read_text())
        agent.chmod(0o755)

    def _empty(self, path: str) -> None:
        directory = self.upper / path
        directory.mkdir(parents=True, exist_ok=True)
        if path in ("tmp", "var/tmp"):
            directory.chmod(0o1777)
        try:
            os.setxattr(directory, "trusted.overlay.opaque", b"y")
        except OSError as error:
            raise OperationFailed(
                f"{self.directory} cannot hold the disk of a node",
                why=f"its file system does not take overlay attributes ({error.strerror})",
                todo="Set RACIMO_LAB_STATE to a directory on ext4, xfs, btrfs or tmpfs",
            ) from error

    def _install_units(self) -> None:
        units = self.upper / "etc/systemd/system"
        (units / "default.target").symlink_to("/usr/lib/systemd/system/multi-user.target")
        for name in MASKED:
            (units / name).symlink_to("/dev/null")
        wants = units / "multi-user.target.wants"
        wants.mkdir()
        for source in sorted(packaged_units().glob("racimo-*.*")):
            (units / source.name).write_text(source.read_text().replace("@PYTHON@", sys.executable))
            if source.name in ENABLED:
                (wants / source.name).symlink_to(f"../{source.name}")
        (units / "racimo-guard.service.d").mkdir()
        (units / "racimo-guard.service.d/lab.conf").write_text(
            f"[Service]\nEnvironment=RACIMO_WATCHDOG=unix:{WATCHDOG}\n"
        )


def packaged_units() -> Path:
    """The directory of Racimo's unit files: inside the installed package, or in the source tree."""
    package = Path(racimo.__file__).parent
    for directory in (package / "packaging/systemd", package.parent.parent / "packaging/systemd"):
        if directory.is_dir():
            return directory
    raise OperationFailed(
        "Racimo's unit files are missing", why=f"neither beside {package} nor above it", todo="Install Racimo anew"
    )


def program_directories() -> list[Path]:
    """Directories with this Python, its environment and Racimo that a node would not see on its own disk."""
    root = Path("/").stat().st_dev
    wanted = {Path(sys.prefix), Path(sys.base_prefix), Path(racimo.__file__).parent.parent, packaged_units()}
    unseen = sorted(path.resolve() for path in wanted if path.stat().st_dev != root or _hidden(path.resolve()))
    return [path for path in unseen if not any(other in path.parents for other in unseen)]


def _hidden(path: Path) -> bool:
    """Whether a node has something of its own in its place."""
    return any(path.is_relative_to(top) for top in ("/run", "/dev/shm", *(f"/{name}" for name in EMPTIED)))  # noqa: S108
