"""A guest's network cards on the host: taps joined to bridges, and the node's own addresses.

QEMU makes a tap when it starts and the kernel removes it with QEMU's last breath, so nothing is left behind by any
crash. Racimo joins it to its bridge before the guest may run.
"""

from __future__ import annotations

import ipaddress
import json
from dataclasses import dataclass

from racimo.errors import Refused
from racimo.guest.program import run_program


@dataclass(frozen=True, slots=True)
class Tap:
    """One tap: ``name`` as QEMU was told (``tap100i0``), the ``bridge`` it joins, its VLAN ``tag`` (0: none)."""

    name: str
    bridge: str
    tag: int = 0


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge of this node; ``mtu`` in bytes."""

    name: str
    mtu: int


async def find_bridge(name: str) -> Bridge | None:
    """The node's bridge of that name, as the kernel tells over netlink: /sys may be another network namespace's."""
    for link in json.loads(await run_program("ip", "-j", "link", "show", "type", "bridge")):
        if link.get("ifname") == name:
            return Bridge(name, int(link["mtu"]))
    return None


async def demand_bridge(tap: Tap, node: str = "") -> Bridge:
    """The bridge that ``tap`` is to join. Raises ``Refused``, naming ``node``, when it has none of that name here."""
    bridge = await find_bridge(tap.bridge)
    if bridge is None:
        here = f"node {node}" if node else "this node"
        raise Refused(
            f"The network card {tap.name} cannot be connected",
            why=f"{here} has no bridge '{tap.bridge}'",
            todo=f"Create {tap.bridge} on {here}, or choose another bridge for the guest",
        )
    return bridge


async def join_bridge(tap: Tap) -> None:
    """Join a tap that QEMU has made to its bridge, with the bridge's MTU. Raises ``Refused``, ``OperationFailed``."""
    bridge = await demand_bridge(tap)
    await run_program("ip", "link", "set", "dev", tap.name, "master", tap.bridge, "mtu", str(bridge.mtu), "up")
    if tap.tag:
        await run_program("bridge", "vlan", "del", "dev", tap.name, "vid", "1")
        await run_program("bridge", "vlan", "add", "dev", tap.name, "vid", str(tap.tag), "pvid", "untagged")


async def address_within(network: str) -> str:
    """This node's address inside the network ``network`` (CIDR). Raises ``Refused`` when it has none there."""
    wanted = ipaddress.ip_network(network, strict=False)
    for interface in json.loads(await run_program("ip", "-j", "addr", "show", "up")):
        for entry in interface.get("addr_info", []):
            if ipaddress.ip_address(entry["local"]) in wanted:
                return str(entry["local"])
    raise Refused(
        f"This node has no address in the network {network}",
        why="none of its interfaces that are up has one there",
        todo="Give it one, or change the datacenter's migration network",
    )
