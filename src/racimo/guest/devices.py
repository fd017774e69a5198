"""Devices and settings of a guest with a grammar of their own: network cards, CPU, display, addresses, identity."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from racimo.guest.kinds import BOOLEAN, Kind, choice, integer, number, pattern, properties, text, word_list

if TYPE_CHECKING:
    from collections.abc import Callable

NETWORK_MODELS = {
    "virtio": "virtio-net-pci",
    "e1000": "e1000",
    "e1000e": "e1000e",
    "rtl8139": "rtl8139",
    "vmxnet3": "vmxnet3",
    "ne2k_pci": "ne2k_pci",
    "pcnet": "pcnet",
}
"""Configured model to QEMU's device."""

MAC = re.compile(r"([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


def parse_mac(value: str) -> str:
    """A unicast MAC address in capitals. Raises ``ValueError``."""
    if not MAC.fullmatch(value):
        raise ValueError(f"'{value}' is not a MAC address, such as 02:AB:CD:12:34:56")
    if int(value[:2], 16) & 1:
        raise ValueError(f"'{value}' is a multicast address: the first byte must be even")
    return value.upper()


def new_mac(randbits: Callable[[int], int]) -> str:
    """A locally administered unicast MAC address; ``randbits(n)`` gives n random bits (``random.getrandbits``)."""
    return ":".join(f"{byte:02X}" for byte in (0x02, *randbits(40).to_bytes(5, "big")))


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkDevice:
    """A network card. ``mac`` is empty only before creation gives it one."""

    model: str
    macaddr: str | None = None
    bridge: str | None = None
    firewall: bool | None = None
    link_down: bool | None = None
    mtu: int | None = None
    """Bytes; 1 means that of the bridge."""
    queues: int | None = None
    rate: float | None = None
    """Megabytes a second."""
    tag: int | None = None
    trunks: tuple[int, ...] | None = None


_TRUNKS: Kind[tuple[int, ...]] = Kind(
    "<vlan[;vlan...]>",
    lambda value: tuple(integer(1, 4094).parse(part) for part in value.split(";")),
    lambda value: ";".join(map(str, value)),
)

_NETWORK = properties(
    NetworkDevice,
    {
        "model": choice(*NETWORK_MODELS),
        "macaddr": Kind("<XX:XX:XX:XX:XX:XX>", parse_mac, str),
        "bridge": pattern("bridge", r"[A-Za-z][A-Za-z0-9_.-]{0,14}", "the name of a bridge, such as vmbr0"),
        "firewall": BOOLEAN,
        "link_down": BOOLEAN,
        "mtu": integer(1, 65520),
        "queues": integer(0, 64),
        "rate": number(0, 10240),
        "tag": integer(1, 4094),
        "trunks": _TRUNKS,
    },
    default="model",
    required=("model",),
)


def _parse_network(value: str) -> NetworkDevice:
    parts = []
    for part in value.split(","):
        name, sign, content = part.partition("=")
        parts.append(f"model={name},macaddr={content}" if sign and name in NETWORK_MODELS else part)
    return _NETWORK.parse(",".join(parts))


def _render_network(device: NetworkDevice) -> str:
    head, _, rest = _NETWORK.render(device).partition(f",macaddr={device.macaddr}")
    return f"{head}={device.macaddr}{rest}" if device.macaddr else head


NETWORK: Kind[NetworkDevice] = Kind(
    "[model=]<model>[,macaddr=]|<model>=<XX:XX:XX:XX:XX:XX>[,bridge=<bridge>][,firewall=<1|0>][,link_down=<1|0>]"
    "[,mtu=<1 - 65520>][,queues=<0 - 64>][,rate=<MB/s>][,tag=<1 - 4094>][,trunks=<vlan[;vlan...]>]",
    _parse_network,
    _render_network,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cpu:
    """The CPU that a guest sees."""

    cputype: str = "kvm64"
    flags: tuple[str, ...] | None = None
    hidden: bool | None = None


CPU: Kind[Cpu] = properties(
    Cpu,
    {
        "cputype": pattern("model", r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}", "the name of a CPU model"),
        "flags": word_list(
            pattern("+FLAG|-FLAG", r"[+-][a-z0-9._-]{1,31}", "a flag, such as +aes or -pcid"), reads=";", writes=";"
        ),
        "hidden": BOOLEAN,
    },
    default="cputype",
    unsupported=("hv-vendor-id", "phys-bits", "guest-phys-bits", "reported-model"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """The guest agent."""

    enabled: bool = False
    fstrim_cloned_disks: bool | None = None
    freeze_fs_on_backup: bool | None = None
    type: str | None = None


AGENT: Kind[Agent] = properties(
    Agent,
    {
        "enabled": BOOLEAN,
        "freeze-fs-on-backup": BOOLEAN,
        "fstrim_cloned_disks": BOOLEAN,
        "type": choice("virtio", "isa"),
    },
    default="enabled",
    required=("enabled",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Vga:
    """The display. ``memory`` in MiB."""

    type: str = "std"
    memory: int | None = None


VGA: Kind[Vga] = properties(
    Vga,
    {
        "type": choice("std", "cirrus", "vmware", "virtio", "none", "serial0", "serial1", "serial2", "serial3"),
        "memory": integer(4, 512),
    },
    default="type",
    unsupported=("clipboard",),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Startup:
    """When it starts after its node: by ``order``, ``up`` seconds before the next; ``down`` seconds to shut down."""

    order: int | None = None
    up: int | None = None
    down: int | None = None


STARTUP: Kind[Startup] = properties(
    Startup, {"order": integer(0, 999_999), "up": integer(0, 86400), "down": integer(0, 86400)}, default="order"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Smbios:
    """SMBIOS type 1. The strings are plain here; ``base64`` says how they were written."""

    uuid: str | None = None
    manufacturer: str | None = None
    product: str | None = None
    version: str | None = None
    serial: str | None = None
    sku: str | None = None
    family: str | None = None
    base64: bool | None = None


SMBIOS_STRINGS = ("manufacturer", "product", "version", "serial", "sku", "family")


def parse_uuid(value: str) -> str:
    """A UUID in its usual form. Raises ``ValueError``."""
    if not re.fullmatch(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", value):
        raise ValueError(f"'{value}' is not a UUID")
    return str(uuid.UUID(value))


UUID: Kind[str] = Kind("<uuid>", parse_uuid, str)

_SMBIOS = properties(Smbios, {"uuid": UUID, **dict.fromkeys(SMBIOS_STRINGS, text(256)), "base64": BOOLEAN})


def _parse_smbios(value: str) -> Smbios:
    raw = _SMBIOS.parse(value)
    if not raw.base64:
        return raw
    plain = {}
    for name in SMBIOS_STRINGS:
        content = getattr(raw, name)
        if content is not None:
            try:
                plain[name] = text(256).parse(base64.b64decode(content, validate=True).decode())
            except (binascii.Error, UnicodeDecodeError) as error:
                raise ValueError(f"{name}: '{content}' is not base64 of UTF-8 text") from error
    return Smbios(uuid=raw.uuid, base64=True, **plain)


def _render_smbios(value: Smbios) -> str:
    strings = {name: getattr(value, name) for name in SMBIOS_STRINGS}
    if value.base64:
        strings = {name: base64.b64encode(s.encode()).decode() for name, s in strings.items() if s is not None}
    return _SMBIOS.render(Smbios(uuid=value.uuid, base64=value.base64, **strings))


SMBIOS: Kind[Smbios] = Kind(_SMBIOS.syntax, _parse_smbios, _render_smbios)


@dataclass(frozen=True, slots=True, kw_only=True)
class IpConfig:
    """Addresses of one network card, for cloud-init: CIDR, ``dhcp``, or for IPv6 also ``auto``."""

    ip: str | None = None
    gw: str | None = None
    ip6: str | None = None
    gw6: str | None = None


def _cidr(version: int, *words: str) -> Kind[str]:
    syntax = f"<IPv{version}/bits{''.join(f' | {word}' for word in words)}>"

    def parse(value: str) -> str:
        if value in words:
            return value
        try:
            interface = ipaddress.ip_interface(value) if "/" in value else None
        except ValueError:
            interface = None
        if interface is None or interface.version != version:
            raise ValueError(f"'{value}' is not an IPv{version} address with its prefix length, or {', '.join(words)}")
        return str(interface)

    return Kind(syntax, parse, str)


def address(*versions: int) -> Kind[str]:
    """An IP address of one of ``versions``."""

    def parse(value: str) -> str:
        try:
            found = ipaddress.ip_address(value)
        except ValueError:
            found = None
        if found is None or found.version not in versions:
            raise ValueError(f"'{value}' is not an IPv{' or IPv'.join(map(str, versions))} address")
        return str(found)

    return Kind("<address>", parse, str)


def _make_ip(**values: str) -> IpConfig:
    config = IpConfig(**values)
    for gateway, own, name in ((config.gw, config.ip, "gw"), (config.gw6, config.ip6, "gw6")):
        if gateway is None:
            continue
        if own is None or own in {"dhcp", "auto"}:
            raise ValueError(f"{name} needs a static address beside it")
        link_local = ipaddress.ip_address(gateway).is_link_local
        if not link_local and ipaddress.ip_address(gateway) not in ipaddress.ip_interface(own).network:
            raise ValueError(f"{name}: {gateway} is not in the network of {own}")
    return config


IP_CONFIG: Kind[IpConfig] = properties(
    _make_ip, {"gw": address(4), "gw6": address(6), "ip": _cidr(4, "dhcp"), "ip6": _cidr(6, "dhcp", "auto")}
)

SSH_KEY = re.compile(
    r"(?:[a-z-]+=\S+ )?(?:ssh-(?:rsa|ed25519|dss)|ecdsa-sha2-\S+|sk-\S+@openssh\.com) [A-Za-z0-9+/=]{16,}(?: .*)?"
)


def _parse_ssh_keys(value: str) -> tuple[str, ...]:
    keys = tuple(line.strip() for line in unquote(value).splitlines() if line.strip())
    for key in keys:
        if not SSH_KEY.fullmatch(key):
            raise ValueError(f"'{key[:40]}' is not a public key in the form of OpenSSH")
    return keys


SSH_KEYS: Kind[tuple[str, ...]] = Kind(
    "<URL-encoded public keys, one a line>", _parse_ssh_keys, lambda keys: quote("\n".join(keys), safe="")
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """When and with what the guest was made; only for people. ``ctime`` in seconds since the epoch."""

    creation_qemu: str | None = None
    ctime: int | None = None


META: Kind[Meta] = properties(Meta, {"creation-qemu": pattern("version", r"[0-9.]+", "a version"), "ctime": integer(0)})


@dataclass(frozen=True, slots=True, kw_only=True)
class Rng:
    """A source of randomness. ``period`` in ms."""

    source: str = "/dev/urandom"
    max_bytes: int | None = None
    period: int | None = None


RNG: Kind[Rng] = properties(
    Rng,
    {"source": choice("/dev/urandom", "/dev/random"), "max_bytes": integer(0), "period": integer(1)},
    default="source",
    required=("source",),
)
