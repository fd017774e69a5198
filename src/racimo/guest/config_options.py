"""The table of a guest's configuration keys. Validation, help and the reference page all come from it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from racimo.guest.devices import (
    AGENT,
    CPU,
    IP_CONFIG,
    META,
    NETWORK,
    RNG,
    SMBIOS,
    SSH_KEYS,
    STARTUP,
    UUID,
    VGA,
    address,
)
from racimo.guest.drives import BUSES, DRIVE
from racimo.guest.kinds import BOOLEAN, Kind, choice, integer, number, pattern, text, word_list
from racimo.guest.password import is_hash


class Applies(StrEnum):
    """When a change reaches a guest that runs."""

    AT_ONCE = "at once"
    HOTPLUG = "hotplug"
    """Through QEMU's monitor, where that works; else at the next start."""
    NEXT_START = "next start"


@dataclass(frozen=True, slots=True)
class Option:
    """One key, or with ``count`` a family of keys such as ``net0`` to ``net31``."""

    key: str
    kind: Kind[Any]
    description: str
    default: str | None = None
    applies: Applies = Applies.NEXT_START
    count: int | None = None

    @property
    def shown(self) -> str:
        """The key for people: ``memory``, ``net[0-31]``."""
        return self.key if self.count is None else f"{self.key}[0-{self.count - 1}]"


HOST_NAME = pattern(
    "DNS name",
    r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)*",
    "a DNS name: letters, digits, hyphens and dots",
    253,
)
BOOT_DEVICE = pattern("device", r"(ide|sata|scsi|virtio|net)[0-9]{1,2}", "a drive or network card, such as scsi0")


def _parse_boot(value: str) -> tuple[str, ...] | None:
    name, sign, content = value.partition("=")
    if sign and name == "order":
        return tuple(BOOT_DEVICE.parse(part) for part in content.split(";") if part)
    if re.fullmatch(r"(legacy=)?[acdn]{1,4}", value):
        return None
    raise ValueError(f"'{value}' is not a boot order: order=scsi0;ide2;net0")


BOOT: Kind[tuple[str, ...] | None] = Kind(
    "order=<device[;device...]>", _parse_boot, lambda order: "cdn" if order is None else f"order={';'.join(order)}"
)


def _parse_memory(value: str) -> int:
    return integer(16, 4 * 1024 * 1024).parse(value.removeprefix("current="))


def _parse_hash(value: str) -> str:
    if not is_hash(value):
        raise ValueError("must be a password hash of crypt(5), such as $6$...")
    return value


def _parse_generation_id(value: str) -> str | None:
    return None if value == "0" else UUID.parse(value)


MEMORY: Kind[int] = Kind("[current=]<integer (16 - 4194304)>", _parse_memory, str)
PASSWORD: Kind[str] = Kind("<password>", _parse_hash, str)
GENERATION_ID: Kind[str | None] = Kind("<uuid | 0>", _parse_generation_id, lambda value: value or "0")
MACHINE = pattern(
    "machine type",
    r"pc|q35|pc-(i440fx|q35)-[0-9]+\.[0-9]+(\.[0-9]+)?(\+pve[0-9]+)?",
    "a machine type: pc, q35, or one with its version such as pc-q35-7.2",
)
CPU_SET = pattern("CPU list", r"[0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*", "a list of CPUs, such as 0,2-5")
OS_TYPES = ("other", "wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11", "l24", "l26", "solaris")
SCSI_CONTROLLERS = ("lsi", "lsi53c810", "virtio-scsi-pci", "virtio-scsi-single", "megasas", "pvscsi")
LOCKS = (
    "backup", "clone", "create", "migrate", "rollback", "snapshot", "snapshot-delete", "suspending", "suspended"
)  # fmt: skip
START_DATE = pattern(
    "date", r"now|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(T[0-9]{1,2}:[0-9]{2}:[0-9]{2})?", "'now' or 2026-01-31T12:00:00"
)


def _parse_hotplug(value: str) -> tuple[str, ...]:
    if value in {"0", "1"}:
        return HOT_WORDS[:3] if value == "1" else ()
    return tuple(choice(*HOT_WORDS).parse(word) for word in re.split("[,; ]+", value) if word)


HOT_WORDS = ("network", "disk", "usb", "memory", "cpu", "cloudinit")
HOT: Kind[tuple[str, ...]] = Kind(
    "<0 | 1 | network,disk,usb>", _parse_hotplug, lambda words: ",".join(words) if words else "0"
)
TAG = pattern("tag", r"[A-Za-z0-9_][A-Za-z0-9_+.-]{0,123}", "a tag: letters, digits and _ + . -")

AT_ONCE, HOTPLUG = Applies.AT_ONCE, Applies.HOTPLUG

OPTIONS: tuple[Option, ...] = (
    Option("name", HOST_NAME, "Name of the guest; also its host name in cloud-init.", applies=AT_ONCE),
    Option("description", text(8192, lines=True), "Notes for people.", applies=AT_ONCE),
    Option("tags", word_list(TAG, reads=";, ", writes=";"), "Tags, to sort and find guests.", applies=AT_ONCE),
    Option("memory", MEMORY, "Memory in MiB.", "512"),
    Option("balloon", integer(0), "Memory in MiB that the balloon may shrink it to; 0: no balloon.", applies=HOTPLUG),
    Option("shares", integer(0, 50000), "Weight when memory is given back to guests.", "1000", applies=AT_ONCE),
    Option("sockets", integer(1, 16), "CPU sockets.", "1"),
    Option("cores", integer(1, 255), "Cores of each socket.", "1"),
    Option("vcpus", integer(1, 4080), "CPUs plugged in at start; all of them if left out.", applies=HOTPLUG),
    Option("cpu", CPU, "CPU model and flags. A named model can migrate to unlike nodes.", "kvm64"),
    Option("cpulimit", number(0, 128), "Most host CPU time, in CPUs; 0: no limit.", "0", applies=HOTPLUG),
    Option("cpuunits", integer(1, 262144), "Weight of CPU time against other guests.", "100", applies=HOTPLUG),
    Option("affinity", CPU_SET, "Host CPUs that it may run on."),
    Option("numa", BOOLEAN, "One NUMA node for each socket.", "0"),
    Option("ostype", choice(*OS_TYPES), "Operating system of the guest; l26 is any Linux of today.", "other"),
    Option("bios", choice("seabios", "ovmf"), "Firmware; ovmf (UEFI) needs the package ovmf on the node.", "seabios"),
    Option("machine", MACHINE, "Machine type. It is pinned with its version when the guest is made.", "pc"),
    Option("arch", choice("x86_64"), "Architecture of the guest.", "x86_64"),
    Option("boot", BOOT, "Devices to boot from, in order."),
    Option("onboot", BOOLEAN, "Start it when its node has started.", "0", applies=AT_ONCE),
    Option("startup", STARTUP, "Order and delays of the start with its node.", applies=AT_ONCE),
    Option(
        "hotplug",
        HOT,
        "What may be plugged while it runs: network, disk; 0: nothing, 1: all of it.",
        "network,disk,usb",
        applies=AT_ONCE,
    ),
    Option("protection", BOOLEAN, "Refuse to destroy the guest or its disks.", "0", applies=AT_ONCE),
    Option("reboot", BOOLEAN, "A reboot restarts it; 0: a reboot stops it.", "1"),
    Option("agent", AGENT, "Whether a QEMU guest agent runs in it.", "0"),
    Option("acpi", BOOLEAN, "ACPI.", "1"),
    Option("kvm", BOOLEAN, "Hardware virtualisation where the node has it; 0: always emulate.", "1"),
    Option("tablet", BOOLEAN, "A USB tablet, so that the pointer follows the mouse.", "1"),
    Option(
        "localtime", BOOLEAN, "The clock runs in local time; by default only for Windows.", applies=Applies.NEXT_START
    ),
    Option("startdate", START_DATE, "First value of the clock.", "now"),
    Option("freeze", BOOLEAN, "Do not run the CPU at start (continue it in the monitor).", "0"),
    Option("vga", VGA, "Display.", "std"),
    Option("serial", choice("socket"), "Serial port on a socket; port 0 is logged.", count=4),
    Option("rng0", RNG, "Source of randomness for the guest."),
    Option("args", text(4096), "Further arguments for QEMU, for experts."),
    Option("smbios1", SMBIOS, "SMBIOS type 1: UUID and strings."),
    Option("vmgenid", GENERATION_ID, "Generation id, changed when the guest is cloned or restored; 0: none."),
    Option("scsihw", choice(*SCSI_CONTROLLERS), "SCSI controller.", "lsi"),
    *(Option(bus, DRIVE, f"Drive on the {bus} bus.", applies=HOTPLUG, count=count) for bus, count in BUSES.items()),
    Option("unused", DRIVE, "A disk that is kept but not plugged in.", applies=AT_ONCE, count=256),
    Option("net", NETWORK, "Network card.", applies=HOTPLUG, count=32),
    Option("citype", choice("nocloud"), "Form of the cloud-init seed."),
    Option("ciuser", pattern("user", r"[a-z_][a-z0-9_-]{0,31}", "a user name"), "cloud-init: user."),
    Option("cipassword", PASSWORD, "cloud-init: the user's password; only its hash is kept."),
    Option("ciupgrade", BOOLEAN, "cloud-init: upgrade packages at the first boot.", "0"),
    Option("sshkeys", SSH_KEYS, "cloud-init: the user's public SSH keys."),
    Option("ipconfig", IP_CONFIG, "cloud-init: addresses of the network card of that number.", count=32),
    Option("nameserver", word_list(address(4, 6), reads=", ", writes=" "), "cloud-init: DNS servers."),
    Option("searchdomain", word_list(HOST_NAME, reads=", ", writes=" "), "cloud-init: DNS search domains."),
    Option("template", BOOLEAN, "It is a template: it never runs.", "0", applies=AT_ONCE),
    Option("lock", choice(*LOCKS), "Why it is locked.", applies=AT_ONCE),
    Option("meta", META, "When and with which QEMU it was made.", applies=AT_ONCE),
)

SCALARS = {option.key: option for option in OPTIONS if option.count is None}
FAMILIES = {option.key: option for option in OPTIONS if option.count is not None}

REFUSED = {
    "hookscript": "hook scripts are not supported: a script on one node's disk ties the guest to that node",
    "autostart": "is obsolete; use onboot",
    "parallel": "parallel ports are not supported",
    "hostpci": "passing PCI devices of the node through is not supported",
    "usb": "passing USB devices of the node through is not supported",
    "hugepages": "huge pages are not supported",
    "keephugepages": "huge pages are not supported",
    "ivshmem": "shared memory devices are not supported",
    "audio": "audio devices are not supported",
    "spice_enhancements": "SPICE is not supported",
    "tpmstate": "TPM devices are not supported",
    "efidisk": "UEFI variables on a disk are not supported",
    "watchdog": "watchdog devices are not supported",
    "cicustom": "custom cloud-init files are not supported",
    "bootdisk": "is obsolete; use boot: order=...",
    "vmstate": "is kept by Racimo itself",
    "runningmachine": "is kept by Racimo itself",
    "runningcpu": "is kept by Racimo itself",
}
"""Keys of Proxmox VE that are known and refused, with the reason."""


def option_of(key: str) -> Option | None:
    """The option of a key as written (``net3``), or None if there is none such."""
    if key in SCALARS:
        return SCALARS[key]
    match = re.fullmatch(r"([a-z]+)(0|[1-9][0-9]{0,2})", key)
    family = FAMILIES.get(match[1]) if match else None
    return family if match and family and family.count and int(match[2]) < family.count else None
