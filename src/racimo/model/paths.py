"""Where Racimo keeps things on a node: one place, so that tests can move them under another root."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class NodePaths:
    """All paths of one node. ``root`` is ``/`` except in tests."""

    root: Path = Path("/")

    @property
    def etc(self) -> Path:
        """Identity, certificates and keys: ``node.json``, ``ca.crt``, ``node.crt``, ``node.key``, ``sealing.json``."""
        return self.root / "etc/racimo"

    @property
    def state(self) -> Path:
        """What must outlive a reboot: ``store.sqlite``, ``etcd/``, ``backup/``, ``tasks/``, ``images/``."""
        return self.root / "var/lib/racimo"

    @property
    def run(self) -> Path:
        """What must not outlive a reboot: sockets, the lease, the marks of HA guests."""
        return self.root / "run/racimo"

    @property
    def log(self) -> Path:
        """Task logs and guests' serial consoles."""
        return self.root / "var/log/racimo"

    @property
    def node_socket(self) -> Path:
        """Where the node's daemon serves the API to root of this node, without login."""
        return self.run / "node.sock"

    @property
    def ha_socket(self) -> Path:
        """Where the HA daemon serves its status to root of this node."""
        return self.run / "ha.sock"

    @property
    def lease(self) -> Path:
        """The lease, written by the HA daemon and read by the guard; format in ``racimo.model.lease``."""
        return self.run / "lease"

    @property
    def ha_marks(self) -> Path:
        """One empty file per HA guest of this node, named by its vmid: those that the guard must kill."""
        return self.run / "ha"

    @property
    def sealing(self) -> Path:
        """The keys that secrets in the store are sealed with, for root alone; format in ``racimo.store.sealing``."""
        return self.etc / "sealing.json"

    @property
    def guard_report(self) -> Path:
        """What the guard last did: its last tick and its kills, as JSON."""
        return self.run / "guard.json"

    @property
    def shutdown(self) -> Path:
        """``reboot`` or ``poweroff``, from when this node was told to shut down; the HA daemon announces it."""
        return self.run / "shutdown"

    @property
    def watchdog(self) -> Path:
        """The time-out in seconds that a guard has armed the watchdog with; a guard that follows it feeds it too."""
        return self.run / "watchdog"

    @property
    def incarnation(self) -> Path:
        """The HA daemon's present incarnation, so that a restarted daemon carries on with its lease."""
        return self.run / "incarnation"

    @property
    def quorum_said(self) -> Path:
        """What this node said of a lost quorum and has not yet said to be over."""
        return self.run / "quorum-said.json"

    def guest_run(self, vmid: int) -> Path:
        """Sockets of one guest's QEMU: ``qmp.sock``, ``serial.sock``, ``agent.sock``."""
        return self.run / "guests" / str(vmid)

    def guest_log(self, vmid: int) -> Path:
        """Logs of one guest: ``serial.log``, ``qemu.log``."""
        return self.log / "guests" / str(vmid)
