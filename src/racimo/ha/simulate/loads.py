"""How busy the guests are, as a node would measure it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from racimo.ha.simulate.setup import MIB

if TYPE_CHECKING:
    from racimo.ha.simulate.setup import Setup


class Loads:
    """CPUs and bytes in use, by sid."""

    def __init__(self, setup: Setup) -> None:
        self._of = {sid: (guest.load_cpu, guest.load_memory) for sid, guest in setup.guests.items()}

    def of(self, sid: str) -> tuple[float, int]:
        """CPUs and bytes that the guest uses while it runs."""
        return self._of.get(sid, (2.0, 2048 * MIB))

    def change(self, sid: str, cpus: float | None, mib: float | None) -> None:
        """None leaves a number as it is."""
        cpu, memory = self.of(sid)
        self._of[sid] = (cpu if cpus is None else cpus, memory if mib is None else round(mib * MIB))
