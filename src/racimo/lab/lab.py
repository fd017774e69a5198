"""A lab of nodes: made by ``up``, ended by ``down``; and its faults."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from racimo.errors import BadParameter, Conflict, OperationFailed
from racimo.lab.cleanup import clean_up
from racimo.lab.network import NETWORKS, LabNetwork
from racimo.lab.node import LabNode
from racimo.lab.place import CACHE_VARIABLE, NAME_VARIABLE, STATE_VARIABLE, LabPlace
from racimo.lab.process import Process, host_boot, launch, tail
from racimo.lab.requirements import IMAGE_TOOLS, LAB_TOOLS, demand, demand_root
from racimo.lab.state import LabState, NodeSpec, read_process, read_state, write_process, write_state
from racimo.lab.together import together

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from racimo.lab.cleanup import Removed

FIRST_PORT = 8106
"""The API of node n is at port 8106 + n of 127.0.0.1, unless that is taken."""
MOST_NODES = 9
WITNESS = "witness"
SUPERVISOR_TIMEOUT_S = 20.0

Tell: TypeAlias = Callable[[str, float], None]
"""Told about each step when it is done: what, and the seconds it took."""


@dataclass(frozen=True, slots=True)
class Lab:
    """The lab at a place. Holds nothing but paths: every process may have its own."""

    place: LabPlace
    state: LabState

    @classmethod
    def find(cls, place: LabPlace) -> Lab:
        """The lab that stands there. Raises ``NotFound``."""
        return cls(place, read_state(place))

    @property
    def nodes(self) -> list[LabNode]:
        """All of them, on or off."""
        return [LabNode(self.place, spec) for spec in self.state.nodes]

    @property
    def network(self) -> LabNetwork:
        """Its networks."""
        return LabNetwork(self.place.name)

    def node(self, name: str) -> LabNode:
        """One node. Raises ``NotFound``, naming those that there are."""
        return LabNode(self.place, self.state.node(name))

    @property
    def supervisor(self) -> Process | None:
        """The supervisor's process, if it runs."""
        process, _ = read_process(self.place.supervisor)
        return process if process and process.alive else None

    async def supervise(self) -> None:
        """Start the supervisor and wait until it serves. Raises ``OperationFailed`` with what it said."""
        log = self.place.state / "supervisor.log"
        heard_at = self.place.state / "notify"
        heard_at.unlink(missing_ok=True)
        variables = {
            NAME_VARIABLE: self.place.name,
            STATE_VARIABLE: str(self.place.state),
            CACHE_VARIABLE: str(self.place.cache),
            "NOTIFY_SOCKET": str(heard_at),
        }
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as heard:
            heard.bind(str(heard_at))
            argv = (sys.executable, "-m", "racimo.lab.supervisor")
            process = await launch('exec "$@"', *argv, log=log, environment=variables)
            write_process(self.place.supervisor, process)
            ready = asyncio.create_task(asyncio.get_running_loop().sock_recv(heard, 64))
            death = asyncio.create_task(process.ended(SUPERVISOR_TIMEOUT_S))
            await asyncio.wait({ready, death}, return_when=asyncio.FIRST_COMPLETED)
            served = ready.done()
            for task in (ready, death):
                task.cancel()
            await asyncio.wait({ready, death})
        heard_at.unlink(missing_ok=True)
        if not served:
            raise OperationFailed("The lab's supervisor did not start", why=tail(log) or "it said nothing")


def plan_nodes(count: int, *, witness: bool) -> tuple[NodeSpec, ...]:
    """The nodes n1, n2, … and, if asked for, the witness, with free ports. Raises ``BadParameter``."""
    if not 1 <= count <= MOST_NODES:
        raise BadParameter({"nodes": f"a lab has 1 to {MOST_NODES} nodes, not {count}"})
    names = [f"n{number}" for number in range(1, count + 1)] + ([WITNESS] if witness else [])
    with _ports(len(names)) as ports:
        return tuple(
            NodeSpec(name, index, port, witness=name == WITNESS)
            for index, (name, port) in enumerate(zip(names, ports, strict=True), start=1)
        )


@contextmanager
def _ports(count: int) -> Iterator[list[int]]:
    """Free ports of 127.0.0.1, the usual ones where possible."""
    held: list[socket.socket] = []
    try:
        for index in range(1, count + 1):
            held.append(socket.socket())
            held[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                held[-1].bind(("127.0.0.1", FIRST_PORT + index))
            except OSError:
                held[-1].bind(("127.0.0.1", 0))
        yield [int(door.getsockname()[1]) for door in held]
    finally:
        for door in held:
            door.close()


def hosts_file(nodes: Sequence[NodeSpec]) -> str:
    """Lines of /etc/hosts: every node by its name, and by its name on each network."""
    lines = []
    for spec in nodes:
        for network in NETWORKS:
            names = f"{spec.name} {spec.name}.cluster" if network.name == "cluster" else f"{spec.name}.{network.name}"
            lines.append(f"{network.address(spec.index)} {names}\n")
    return "".join(lines)


def demand_no_lab(place: LabPlace) -> None:
    """Raise ``Conflict`` when there is a lab, or what is left of one, or something else in its place."""
    if place.state.exists() and any(place.state.iterdir()):
        raise Conflict(f"There is a lab already, in {place.state}", todo="Run: racimo lab down")


async def make_nodes(place: LabPlace, specs: tuple[NodeSpec, ...], *, bare: bool, tell: Tell) -> Lab:
    """Build and boot the nodes, all at once. What was begun is removed again when that fails.

    Raises ``Conflict`` when there is a lab already, ``Refused`` when the host lacks something.
    """
    demand_root()
    demand(LAB_TOOLS | IMAGE_TOOLS)
    demand_no_lab(place)
    lab = Lab(place, LabState(specs, host_boot(), bare))
    try:
        place.shared.mkdir(parents=True)
        place.shared.parent.chmod(0o700)
        write_state(place, lab.state)
        with timed(tell, "switches, disks and supervisor"):
            hosts = hosts_file(specs)
            await lab.network.create()
            for node in lab.nodes:
                node.disk.create(node.name, hosts, place.state)
            await lab.supervise()
        with timed(tell, f"{len(specs)} nodes booted"):
            await together(*(node.boot() for node in lab.nodes))
    except BaseException:
        await asyncio.shield(asyncio.ensure_future(clean_up(place)))
        raise
    return lab


@contextmanager
def timed(tell: Tell, what: str) -> Iterator[None]:
    """Time a step and tell it when it has succeeded."""
    began = time.monotonic()
    yield
    tell(what, time.monotonic() - began)


async def down(place: LabPlace) -> Removed:
    """End the lab and all that is left of it; says what there was. Raises ``Refused`` unless root."""
    demand_root()
    return await clean_up(place)
