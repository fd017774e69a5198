"""The lab's switches and cables, all inside network namespaces: the host sees and routes none of it.

One namespace holds the switches; each node has one of its own, made anew at each boot. Everything is done with
``ip -batch`` (see ``docs/decisions``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import BadParameter
from racimo.lab.process import output, run

if TYPE_CHECKING:
    from collections.abc import Sequence

NAMESPACES = Path("/run/netns")


@dataclass(frozen=True, slots=True)
class Network:
    """One network of the lab: its switch, the name of a node's port, and the first three bytes of its addresses."""

    name: str
    port: str
    prefix: str

    def address(self, index: int) -> str:
        """Address of the node with this number, counted from 1."""
        return f"{self.prefix}.{10 + index}"


NETWORKS = (
    Network("public", "pub0", "10.77.0"),
    Network("cluster", "clu0", "10.77.1"),
    Network("storage", "sto0", "10.77.2"),
    Network("replication", "rep0", "10.10.10"),
)
PUBLIC, CLUSTER = NETWORKS[0], NETWORKS[1]
GUEST_BRIDGE = "vmbr0"


@dataclass(frozen=True, slots=True)
class LabNetwork:
    """All networks of the lab called ``name``."""

    name: str

    @property
    def switches(self) -> str:
        """The namespace of the switches."""
        return self.name

    def namespace(self, node: str) -> str:
        """The namespace of a node."""
        return f"{self.name}-{node}"

    def namespace_path(self, node: str) -> Path:
        """The file by which a process enters a node's namespace."""
        return NAMESPACES / self.namespace(node)

    def namespaces(self) -> list[str]:
        """Those of this lab that are there now."""
        if not NAMESPACES.is_dir():
            return []
        return sorted(p.name for p in NAMESPACES.iterdir() if p.name == self.name or p.name.startswith(f"{self.name}-"))

    async def create(self) -> None:
        """Make the switches. The lab's own address on the public network is 10.77.0.1."""
        await run("ip", "netns", "add", self.switches)
        lines = ["link set lo up"]
        for network in NETWORKS:
            lines += [f"link add {network.name} type bridge", f"link set {network.name} up"]
        lines.append(f"address add {PUBLIC.prefix}.1/24 dev {PUBLIC.name}")
        await self._batch(self.switches, lines)

    async def connect(self, node: str, index: int) -> None:
        """Give a node a fresh namespace with a port on every switch, and the bridge for its guests."""
        await self.disconnect(node)
        inside = self.namespace(node)
        await run("ip", "netns", "add", inside)
        cables: list[str] = []
        ports = ["link set lo up"]
        for network in NETWORKS:
            cable = f"{node}-{network.port}"
            cables += [
                f"link add {cable} type veth peer name {network.port} netns {inside}",
                f"link set {cable} master {network.name} up",
            ]
            if network is not PUBLIC:
                ports.append(f"address add {network.address(index)}/24 dev {network.port}")
            ports.append(f"link set {network.port} up")
        ports += [
            f"link add {GUEST_BRIDGE} type bridge",
            f"link set {PUBLIC.port} master {GUEST_BRIDGE}",
            f"address add {PUBLIC.address(index)}/24 dev {GUEST_BRIDGE}",
            f"link set {GUEST_BRIDGE} up",
        ]
        await self._batch(self.switches, cables)
        await self._batch(inside, ports)

    async def disconnect(self, node: str) -> None:
        """Pull a node's cables out and remove its namespace, if it has one."""
        for network in NETWORKS:
            await output("ip", "-n", self.switches, "link", "delete", f"{node}-{network.port}")
        if self.namespace_path(node).exists():
            await run("ip", "netns", "delete", self.namespace(node))

    async def partition(self, groups: Sequence[Sequence[str]]) -> None:
        """Let only nodes of one group reach each other, on all networks. Raises ``BadParameter``.

        The first group keeps the lab's own switches; every other one gets switches of its own. Nodes that no group
        names stay with the first.
        """
        named = [node for group in groups for node in group]
        cables = await self._cables()
        known = {cable.rpartition("-")[0] for cable in cables}
        if unknown := sorted(set(named) - known):
            raise BadParameter({"groups": f"no node called {', '.join(unknown)} is on the network"})
        if len(named) != len(set(named)):
            raise BadParameter({"groups": "a node stands in two groups"})
        await self.heal()
        lines: list[str] = []
        for number, group in enumerate(groups):
            for network in NETWORKS:
                switch = f"{network.name}-{number}"
                if number:
                    lines += [f"link add {switch} type bridge", f"link set {switch} up"]
                    lines += [f"link set {node}-{network.port} master {switch}" for node in group]
        await self._batch(self.switches, lines)

    async def heal(self) -> None:
        """Put all cables back into the lab's own switches."""
        cables = await self._cables()
        extra = {switch for switch in cables.values() if switch not in {n.name for n in NETWORKS}}
        by_port = {network.port: network.name for network in NETWORKS}
        lines = [f"link set {cable} master {by_port[cable.rpartition('-')[2]]}" for cable in cables]
        await self._batch(self.switches, [*lines, *(f"link delete {switch}" for switch in sorted(extra))])

    async def groups(self) -> dict[str, list[str]]:
        """Which nodes are together now, by the switch of the cluster network that they are on."""
        found: dict[str, list[str]] = {}
        for cable, switch in sorted((await self._cables()).items()):
            node, _, port = cable.rpartition("-")
            if port == CLUSTER.port:
                found.setdefault(switch, []).append(node)
        return found

    async def remove(self) -> list[str]:
        """Remove all namespaces of this lab; say which there were."""
        there = self.namespaces()
        for namespace in reversed(there):
            await run("ip", "netns", "delete", namespace)
        return there

    async def _cables(self) -> dict[str, str]:
        """Every cable in the switches' namespace with the switch that it is plugged into."""
        text = await run("ip", "-json", "-n", self.switches, "link", "show", "type", "veth")
        return {link["ifname"]: link.get("master", "") for link in json.loads(text or "[]") if "ifname" in link}

    async def _batch(self, namespace: str, lines: Sequence[str]) -> None:
        if lines:
            await run("ip", "-n", namespace, "-batch", "-", feed="\n".join(lines) + "\n")
