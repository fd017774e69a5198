"""What a lab consists of, kept on the host so that every verb, and a later ``down``, finds it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from racimo.errors import NotFound
from racimo.lab.process import Process, host_boot

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.lab.place import LabPlace


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One node: its number (1 and up) gives its addresses; ``port`` on 127.0.0.1 leads to its API."""

    name: str
    index: int
    port: int
    witness: bool = False


@dataclass(frozen=True, slots=True)
class LabState:
    """The lab as ``up`` made it. ``boot`` is the host's boot: after another one nothing of the lab runs."""

    nodes: tuple[NodeSpec, ...]
    boot: str
    bare: bool

    def node(self, name: str) -> NodeSpec:
        """The node of this name. Raises ``NotFound``."""
        for spec in self.nodes:
            if spec.name == name:
                return spec
        names = ", ".join(spec.name for spec in self.nodes)
        raise NotFound(f"The lab has no node called {name}", todo=f"It has {names}")


def write_state(place: LabPlace, state: LabState) -> None:
    """Keep the lab's description, all or nothing."""
    _replace(place.description, asdict(state))


def read_state(place: LabPlace) -> LabState:
    """The lab that stands at this place. Raises ``NotFound`` when there is none, or the host was restarted since."""
    try:
        kept = json.loads(place.description.read_text())
    except FileNotFoundError:
        raise NotFound(
            "There is no lab", why=f"{place.description} does not exist", todo="Run: racimo lab up"
        ) from None
    state = LabState(tuple(NodeSpec(**spec) for spec in kept["nodes"]), kept["boot"], kept["bare"])
    if state.boot != host_boot():
        raise NotFound("The lab is gone", why="the host was restarted since", todo="Run: racimo lab down, then up")
    return state


def write_process(path: Path, process: Process, leader: Process | None = None) -> None:
    """Keep which process it is, and for a container the one that is its PID 1."""
    _replace(path, {"process": asdict(process), "leader": asdict(leader) if leader else None})


def read_process(path: Path) -> tuple[Process | None, Process | None]:
    """The process kept here and the container's PID 1; None for what was not kept. They may have ended since."""
    try:
        kept = json.loads(path.read_text())
    except (FileNotFoundError, ValueError):
        return None, None
    return Process(**kept["process"]), Process(**kept["leader"]) if kept["leader"] else None


def _replace(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(content, indent=1) + "\n")
    draft.replace(path)
