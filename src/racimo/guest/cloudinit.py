"""The cloud-init seed: a small ISO image labelled ``cidata`` (cloud-init's NoCloud), made from the configuration.

The same configuration gives the same bytes on every node and at any time, so it need not be kept on a storage: the
target of a migration makes it anew.
"""

from __future__ import annotations

import hashlib
import io
import ipaddress
import json
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import pycdlib

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.guest.config import GuestConfig

Tree: TypeAlias = "dict[str, Tree] | list[Tree] | str | int | bool"
"""What YAML is made of here."""

LABEL = "cidata"
SECTOR = 2048
FIRST_DESCRIPTOR = 16 * SECTOR
LAST_DESCRIPTOR = 255
DIRECTORY_DESCRIPTORS = (1, 2)
ROOT_RECORD = 156
DATE_FIELDS = (813, 830, 864)
"""Where a volume descriptor has its dates: made, changed, valid from (ECMA-119, 8.4.26 to 8.4.29)."""

LONG_DATE = b"2020010100000000\0"
SHORT_DATE = bytes((120, 1, 1, 0, 0, 0, 0))


@dataclass(frozen=True, slots=True)
class Seed:
    """The three files of a seed."""

    user_data: str
    meta_data: str
    network_config: str


def cloud_init_seed(config: GuestConfig, vmid: int) -> Seed:
    """The files. The instance id is a hash of the rest, so cloud-init runs again when something changed."""
    user_data = "#cloud-config\n" + yaml(_user(config, vmid))
    network = yaml(_network(config))
    instance = hashlib.sha256(f"{vmid}\0{user_data}\0{network}".encode()).hexdigest()[:40]
    return Seed(user_data, yaml({"instance-id": instance, "local-hostname": _host_name(config, vmid)}), network)


def _host_name(config: GuestConfig, vmid: int) -> str:
    return (config.name or f"vm{vmid}").partition(".")[0]


def _user(config: GuestConfig, vmid: int) -> dict[str, Tree]:
    """Host name, user, keys; of a password only its hash."""
    host = _host_name(config, vmid)
    tree: dict[str, Tree] = {"hostname": host, "manage_etc_hosts": True}
    domains = config.searchdomain or ()
    if config.name and "." in config.name:
        tree["fqdn"] = config.name
    elif domains:
        tree["fqdn"] = f"{host}.{domains[0]}"
    if config.ciuser:
        tree["user"] = config.ciuser
    if config.ciuser == "root":
        tree["disable_root"] = False
    if config.cipassword:
        tree["password"] = config.cipassword
    if config.sshkeys:
        tree["ssh_authorized_keys"] = list(config.sshkeys)
    tree["chpasswd"] = {"expire": False}
    if config.ciuser != "root":
        tree["users"] = ["default"]
    tree["package_upgrade"] = config.ciupgrade
    return tree


def _network(config: GuestConfig) -> dict[str, Tree]:
    """Network configuration version 1; name servers stand at the first card that has addresses."""
    cards: list[Tree] = []
    names: dict[str, Tree] = {}
    if config.nameserver:
        names["dns_nameservers"] = list(config.nameserver)
    if config.searchdomain:
        names["dns_search"] = list(config.searchdomain)
    for index, card in config.networks.items():
        subnets: list[Tree] = []
        for subnet in _subnets(config, index):
            subnets.append({**subnet, **names})
            names = {}
        if subnets:
            entry: dict[str, Tree] = {"type": "physical", "name": f"eth{index}", "subnets": subnets}
            cards.append({**entry, "mac_address": card.macaddr.lower()} if card.macaddr else entry)
    return {"version": 1, "config": cards}


def _subnets(config: GuestConfig, index: int) -> Iterator[dict[str, Tree]]:
    addresses = config.ipconfigs.get(index)
    if addresses is None:
        return
    if addresses.ip == "dhcp":
        yield {"type": "dhcp4"}
    elif addresses.ip:
        interface = ipaddress.ip_interface(addresses.ip)
        yield {
            "type": "static",
            "address": str(interface.ip),
            "netmask": str(interface.netmask),
            **({"gateway": addresses.gw} if addresses.gw else {}),
        }
    if addresses.ip6 == "dhcp":
        yield {"type": "dhcp6"}
    elif addresses.ip6 == "auto":
        yield {"type": "ipv6_slaac"}
    elif addresses.ip6:
        yield {"type": "static6", "address": addresses.ip6, **({"gateway": addresses.gw6} if addresses.gw6 else {})}


def yaml(tree: Tree) -> str:
    """YAML in block style; strings are quoted as in JSON, which YAML 1.2 contains."""
    return "\n".join(_lines(tree)) + "\n"


def _lines(tree: Tree) -> Iterator[str]:
    if isinstance(tree, dict):
        for key, value in tree.items():
            if isinstance(value, (dict, list)) and value:
                yield f"{key}:"
                yield from (f"  {line}" for line in _lines(value))
            else:
                yield f"{key}: {json.dumps(value)}"
    elif isinstance(tree, list):
        for value in tree:
            for number, line in enumerate(_lines(value)):
                yield f"  {line}" if number else f"- {line}"
    else:
        yield json.dumps(tree)


def seed_image(seed: Seed) -> bytes:
    """The seed as an ISO 9660 image with Joliet names, without the time at which it was made."""
    files = {"user-data": seed.user_data, "meta-data": seed.meta_data, "network-config": seed.network_config}
    image = pycdlib.PyCdlib()
    image.new(interchange_level=3, vol_ident=LABEL, joliet=3, rock_ridge="1.09")
    for number, (name, text) in enumerate(sorted(files.items())):
        content = text.encode()
        image.add_fp(
            io.BytesIO(content),
            len(content),
            f"/FILE{number}.;1",
            rr_name=name,
            joliet_path=f"/{name}",
            file_mode=0o100400,
        )
    written = io.BytesIO()
    image.write_fp(written)
    image.close()
    return _without_dates(bytearray(written.getvalue()))


def _without_dates(image: bytearray) -> bytes:
    """Put one fixed date in place of all: in the volume descriptors, the directories, and their Rock Ridge entries."""
    start = FIRST_DESCRIPTOR
    while image[start] != LAST_DESCRIPTOR:
        if image[start] in DIRECTORY_DESCRIPTORS:
            for field in DATE_FIELDS:
                image[start + field : start + field + len(LONG_DATE)] = LONG_DATE
            root = start + ROOT_RECORD
            extent, length = struct.unpack_from("<I4xI", image, root + 2)
            _settle_record(image, root)
            _settle_directory(image, extent * SECTOR, length)
        start += SECTOR
    return bytes(image)


def _settle_directory(image: bytearray, start: int, length: int) -> None:
    """The date of each record of a directory; records do not cross sectors (ECMA-119, 6.8.1)."""
    position = start
    while position < start + length:
        size = image[position]
        if size == 0:
            position += SECTOR - position % SECTOR
            continue
        _settle_record(image, position)
        position += size


def _settle_record(image: bytearray, start: int) -> None:
    """One directory record (ECMA-119, 9.1), and the times of its Rock Ridge entry TF (RRIP 1.09, 4.1.6)."""
    image[start + 18 : start + 25] = SHORT_DATE
    end = start + image[start]
    entry = start + 33 + image[start + 32]
    entry += (entry - start) % 2
    while entry + 4 <= end and image[entry + 2] >= 4:
        size = image[entry + 2]
        if image[entry : entry + 2] == b"TF":
            image[entry + 5 : entry + size] = SHORT_DATE * ((size - 5) // len(SHORT_DATE))
        entry += size
