"""Network interfaces of this machine as the kernel has them, through ip(8)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, Field, TypeAdapter

if TYPE_CHECKING:
    from racimo.machine.programs import Programs

_GUESTS = ("tap", "veth", "vnet", "fwbr", "fwpr", "fwln")
"""How interfaces begin that belong to guests."""


class _Address(BaseModel):
    family: str = ""
    local: str = ""
    prefixlen: int = 0
    scope: str = ""


class _Detail(BaseModel):
    info_kind: str = ""
    info_data: dict[str, object] = Field(default_factory=dict)


class _Link(BaseModel):
    ifname: str
    flags: Sequence[str] = ()
    mtu: int = 0
    master: str = ""
    link: str | None = None
    link_type: str = ""
    altnames: Sequence[str] = ()
    addr_info: Sequence[_Address] = ()
    linkinfo: _Detail = Field(default_factory=_Detail)


class _Route(BaseModel):
    dst: str = ""
    gateway: str = ""
    dev: str = ""


_LINKS, _ROUTES = TypeAdapter(list[_Link]), TypeAdapter(list[_Route])


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """One interface. ``kind`` is ``bridge``, ``bond``, ``vlan`` or ``eth``; ``cidrs`` are its global addresses."""

    name: str
    kind: str
    up: bool
    mtu: int
    cidrs: tuple[str, ...]
    gateway: str = ""
    gateway6: str = ""
    ports: tuple[str, ...] = ()
    """Of a bridge or a bond, guests' taps left out."""
    vlan: int | None = None
    below: str = ""
    """What a VLAN lies on."""
    vlan_aware: bool = False
    altnames: tuple[str, ...] = ()

    @property
    def first(self) -> ipaddress.IPv4Interface | None:
        """Its first IPv4 address."""
        found = (ipaddress.ip_interface(cidr) for cidr in self.cidrs)
        return next((each for each in found if isinstance(each, ipaddress.IPv4Interface)), None)

    @property
    def first6(self) -> ipaddress.IPv6Interface | None:
        """Its first IPv6 address."""
        found = (ipaddress.ip_interface(cidr) for cidr in self.cidrs)
        return next((each for each in found if isinstance(each, ipaddress.IPv6Interface)), None)


async def read_interfaces(programs: Programs) -> list[Interface]:
    """All but loopback and those of guests, by name. Raises ``OperationFailed``."""
    links = _LINKS.validate_json(await programs.run("ip", "-j", "-d", "address", "show") or "[]")
    routes = _ROUTES.validate_json(await programs.run("ip", "-j", "-4", "route", "show", "default") or "[]")
    routes6 = _ROUTES.validate_json(await programs.run("ip", "-j", "-6", "route", "show", "default") or "[]")
    shown = [link for link in links if link.link_type == "ether" and not link.ifname.startswith(_GUESTS)]
    gateways, gateways6 = _gateways(routes), _gateways(routes6)
    found = [_interface(link, links, gateways, gateways6) for link in shown]
    return sorted(found, key=lambda each: each.name)


def _interface(link: _Link, links: list[_Link], gateways: dict[str, str], gateways6: dict[str, str]) -> Interface:
    kind = link.linkinfo.info_kind
    members = tuple(sorted(
        each.ifname for each in links if each.master == link.ifname and not each.ifname.startswith(_GUESTS)
    ))  # fmt: skip
    number = link.linkinfo.info_data.get("id")
    return Interface(
        name=link.ifname, kind=kind if kind in ("bridge", "bond", "vlan") else "eth", up="UP" in link.flags,
        mtu=link.mtu, cidrs=tuple(f"{a.local}/{a.prefixlen}" for a in link.addr_info if a.scope == "global"),
        gateway=gateways.get(link.ifname, ""), gateway6=gateways6.get(link.ifname, ""), ports=members,
        vlan=number if kind == "vlan" and isinstance(number, int) else None,
        below=link.link or "" if kind == "vlan" else "",
        vlan_aware=link.linkinfo.info_data.get("vlan_filtering") == 1, altnames=tuple(link.altnames),
    )  # fmt: skip


def _gateways(routes: list[_Route]) -> dict[str, str]:
    return {route.dev: route.gateway for route in reversed(routes) if route.gateway}
