"""How busy the guests are, as a node would measure it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING

from racimo.ha.simulate.setup import MIB
from racimo.ha.states import Load

if TYPE_CHECKING:
    from racimo.ha.simulate.setup import Setup
    from racimo.ha.simulate.world import World


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


class Measured(Mapping[str, Load]):
    """What guests and nodes use, by sid and by node; measured when somebody asks, which few turns of a manager do."""

    def __init__(self, world: World) -> None:
        self.world = world

    def __getitem__(self, name: str) -> Load:
        return self._all[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._all)

    def __len__(self) -> int:
        return len(self._all)

    @cached_property
    def _all(self) -> dict[str, Load]:
        found: dict[str, Load] = {}
        for name, host in self.world.hosts.items():
            loads = {f"vm:{vmid}": self.world.loads.of(f"vm:{vmid}") for vmid in host.running}
            found.update({sid: Load(cpu, memory) for sid, (cpu, memory) in loads.items()})
            if host.powered:
                found[name] = Load(sum(cpu for cpu, _ in loads.values()), sum(memory for _, memory in loads.values()))
        return found
