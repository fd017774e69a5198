"""What HA keeps on the node itself: the lease file, the marks, and the processes of HA guests."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from racimo.ha.kill import Killer, guests_running, marked
from racimo.model.lease import Lease, read_lease, remove_lease, write_lease

if TYPE_CHECKING:
    from racimo.model.paths import NodePaths


class LocalKeeper:
    """``LeaseKeeper`` and ``Marks`` over the files of ``paths``."""

    def __init__(self, paths: NodePaths) -> None:
        self.paths = paths
        self._killer = Killer()
        paths.ha_marks.mkdir(parents=True, exist_ok=True)

    def read(self) -> Lease | None:
        return read_lease(self.paths.lease)

    def write(self, lease: Lease) -> None:
        write_lease(self.paths.lease, lease)

    def remove(self) -> None:
        remove_lease(self.paths.lease)

    def begin(self, incarnation: str) -> None:
        self.paths.incarnation.write_text(incarnation + "\n", encoding="ascii")

    def guests(self) -> int:
        return len(guests_running(self.marked()))

    def running(self) -> set[int]:
        """The marked guests that have a process here."""
        return {process.vmid for process in guests_running(self.marked())}

    def kill(self) -> int:
        self._killer.dead()
        return len(self._killer.kill(self.marked()))

    def guard_seen_ns(self) -> int:
        try:
            return int(json.loads(self.paths.guard_report.read_bytes())["tick_ns"])
        except (OSError, ValueError, KeyError, TypeError):
            return 0

    def watchdog(self) -> str:
        """The node's watchdog as the guard reports it, for people; empty where it has none."""
        try:
            report = json.loads(self.paths.guard_report.read_bytes())
            name, identity, seconds = report["watchdog"], report["watchdog_identity"], report["watchdog_s"]
            notes = [note for note in report["notes"] if str(note).startswith("watchdog ")]
        except (OSError, ValueError, KeyError, TypeError):
            return ""
        if name == "none":
            return ""
        if seconds:
            return f"{identity} on {name}, armed: resets after {seconds:g} s"
        return str(notes[-1]).removeprefix("watchdog ") if notes else f"{name}, not armed"

    def marked(self) -> set[int]:
        """The vmids that the guard knows as HA guests."""
        return marked(str(self.paths.ha_marks))

    def mark(self, vmid: int) -> None:
        """From now on the guard kills this guest when there is no lease."""
        (self.paths.ha_marks / str(vmid)).touch()

    def unmark(self, vmid: int) -> None:
        """The guard forgets the guest."""
        (self.paths.ha_marks / str(vmid)).unlink(missing_ok=True)

    def shutdown(self) -> str:
        """What this node was told to do: ``reboot`` or ``poweroff``; empty while it was not told to shut down."""
        try:
            return self.paths.shutdown.read_text(encoding="ascii").strip()
        except (OSError, ValueError):
            return ""

    def close(self) -> None:
        """Give back what is held."""
        self._killer.close()
