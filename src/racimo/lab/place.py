"""Where a lab keeps its things on the host, and what it is called there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

STATE_VARIABLE = "RACIMO_LAB_STATE"
CACHE_VARIABLE = "RACIMO_CACHE"
NAME_VARIABLE = "RACIMO_LAB_NAME"


@dataclass(frozen=True, slots=True)
class LabPlace:
    """One lab's place on the host. Two labs may run side by side when both ``name`` and ``state`` differ.

    ``name`` starts the names of its network namespaces and of its cgroup; at most 20 characters.
    """

    name: str = "racimo-lab"
    state: Path = Path("/var/lib/racimo-lab")
    cache: Path = field(default=Path("/var/cache/racimo"))

    @classmethod
    def from_environment(cls) -> LabPlace:
        """The place that the environment names; the defaults where it is silent."""
        default = cls()
        return cls(
            name=os.environ.get(NAME_VARIABLE, default.name),
            state=Path(os.environ.get(STATE_VARIABLE, default.state)),
            cache=Path(os.environ.get(CACHE_VARIABLE, default.cache)),
        )

    @property
    def description(self) -> Path:
        """What the lab consists of (``LabState``), written once by ``up``."""
        return self.state / "state.json"

    @property
    def shared(self) -> Path:
        """The directory that every node sees as ``/srv/shared``."""
        return self.state / "shared"

    @property
    def supervisor(self) -> Path:
        """Who supervises: process id and start time."""
        return self.state / "supervisor.json"

    def node(self, name: str) -> Path:
        """The directory of one node: ``disk``, ``work``, ``root`` (its overlay), ``process.json``, logs."""
        return self.state / "nodes" / name
