"""A guest's configuration: the keys and value grammar of Proxmox VE's qm.conf, read, checked and written back."""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from racimo.errors import BadParameter, Conflict
from racimo.guest.config_new import fill_in
from racimo.guest.config_options import FAMILIES, OPTIONS, REFUSED, SCALARS, Applies, option_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from racimo.guest.devices import Agent, Cpu, IpConfig, Meta, NetworkDevice, Rng, Smbios, Startup, Vga
    from racimo.guest.drives import Drive

DRIVE_FAMILIES = ("ide", "sata", "scsi", "virtio")


@dataclass(frozen=True, slots=True, kw_only=True)
class GuestConfig:
    """A configuration that was checked. Attributes hold the effective values; ``given`` names the keys written.

    Units as in the option table: ``memory`` and ``balloon`` in MiB. Families are mappings by key (``drives["scsi0"]``)
    or by number (``networks[0]``), in order.
    """

    given: frozenset[str]
    name: str | None
    description: str | None
    tags: tuple[str, ...] | None
    memory: int
    balloon: int | None
    shares: int
    sockets: int
    cores: int
    vcpus: int | None
    cpu: Cpu
    cpulimit: float
    cpuunits: int
    affinity: str | None
    numa: bool
    ostype: str
    bios: str
    machine: str
    arch: str
    boot: tuple[str, ...] | None
    onboot: bool
    startup: Startup | None
    hotplug: tuple[str, ...]
    protection: bool
    reboot: bool
    agent: Agent
    acpi: bool
    kvm: bool
    tablet: bool
    localtime: bool | None
    startdate: str
    freeze: bool
    vga: Vga
    rng0: Rng | None
    args: str | None
    smbios1: Smbios | None
    vmgenid: str | None
    scsihw: str
    citype: str | None
    ciuser: str | None
    cipassword: str | None
    ciupgrade: bool
    sshkeys: tuple[str, ...] | None
    nameserver: tuple[str, ...] | None
    searchdomain: tuple[str, ...] | None
    template: bool
    lock: str | None
    meta: Meta | None
    drives: Mapping[str, Drive]
    unused: Mapping[int, Drive]
    networks: Mapping[int, NetworkDevice]
    serials: Mapping[int, str]
    ipconfigs: Mapping[int, IpConfig]

    @property
    def cpus(self) -> int:
        """How many CPUs the guest sees at most."""
        return self.sockets * self.cores

    @property
    def memory_bytes(self) -> int:
        """Its memory in bytes."""
        return self.memory << 20

    @property
    def disks(self) -> dict[str, Drive]:
        """The drives that are no CD drives, by key."""
        return {key: drive for key, drive in self.drives.items() if not drive.is_cdrom}

    @property
    def boot_order(self) -> tuple[str, ...]:
        """Keys to boot from: as configured, else the first disk, the first CD and the first network card."""
        if self.boot is not None:
            return tuple(key for key in self.boot if key in self.given)
        disks = list(self.disks)[:1]
        discs = [key for key, drive in self.drives.items() if drive.is_cdrom and not drive.is_cloud_init][:1]
        return (*disks, *discs, *(f"net{index}" for index in list(self.networks)[:1]))

    def to_mapping(self) -> dict[str, str]:
        """The keys that were given, in canonical form, sorted."""
        return {key: self._render(key) for key in sorted(self.given, key=sort_key)}

    @property
    def digest(self) -> str:
        """SHA-1 (hex) of the canonical form: it changes with every change."""
        lines = "".join(f"{key}: {value}\n" for key, value in self.to_mapping().items())
        return hashlib.sha1(lines.encode(), usedforsecurity=False).hexdigest()

    def _render(self, key: str) -> str:
        if key in SCALARS:
            return SCALARS[key].kind.render(getattr(self, key))
        family, index = split_key(key)
        members = {"net": self.networks, "serial": self.serials, "ipconfig": self.ipconfigs, "unused": self.unused}
        value: object = members[family][index] if family in members else self.drives[key]
        return FAMILIES[family].kind.render(value)


def split_key(key: str) -> tuple[str, int]:
    """Family and number of a key: ``("net", 3)``; the number is -1 for a key without one."""
    match = re.fullmatch(r"([a-z]+)([0-9]+)", key)
    return (match[1], int(match[2])) if match and key not in SCALARS else (key, -1)


def sort_key(key: str) -> tuple[str, int]:
    """Sorts ``net2`` before ``net10``."""
    return split_key(key)


def parse_config(mapping: Mapping[str, str]) -> GuestConfig:
    """Read a configuration. Raises ``BadParameter`` that names every bad key and what is allowed."""
    wrong: dict[str, str] = {}
    values: dict[str, Any] = {
        key: option.kind.parse(option.default) if option.default is not None else None
        for key, option in SCALARS.items()
    }
    members: dict[str, dict[int, Any]] = {key: {} for key in FAMILIES}
    for key in sorted(mapping, key=sort_key):
        option = option_of(key)
        if option is None:
            wrong[key] = _why_unknown(key)
            continue
        try:
            parsed = option.kind.parse(mapping[key])
        except ValueError as error:
            wrong[key] = f"{error} (allowed: {option.kind.syntax})" if len(option.kind.syntax) < 200 else str(error)
            continue
        if option.count is None:
            values[key] = parsed
        else:
            members[option.key][split_key(key)[1]] = parsed
    config = GuestConfig(
        given=frozenset(mapping) - wrong.keys(),
        drives={f"{bus}{index}": drive for bus in DRIVE_FAMILIES for index, drive in members[bus].items()},
        unused=members["unused"],
        networks=members["net"],
        serials=members["serial"],
        ipconfigs=members["ipconfig"],
        **values,
    )
    wrong |= {key: reason for key, reason in contradictions(config) if key not in wrong}
    if wrong:
        raise BadParameter(wrong, todo=_correct(wrong))
    return config


def _correct(wrong: Iterable[str]) -> str:
    return f"Correct {', '.join(sorted(wrong, key=sort_key))}; the reference's page 'Guest configuration' has every key"


def _why_unknown(key: str) -> str:
    family = re.sub(r"[0-9]+$", "", key)
    if key in REFUSED or family in REFUSED:
        return REFUSED.get(key) or REFUSED[family]
    if family in FAMILIES:
        return f"there is only {FAMILIES[family].shown}"
    near = [option.shown for option in OPTIONS if option.key.startswith(family[:3])]
    return f"is not a configuration key; similar ones: {', '.join(near)}" if near else "is not a configuration key"


def contradictions(config: GuestConfig) -> Iterable[tuple[str, str]]:
    """Keys that do not fit the others, with the reason."""
    if config.balloon is not None and config.balloon > config.memory:
        yield "balloon", f"{config.balloon} MiB is more than the memory of {config.memory} MiB"
    if config.vcpus is not None and config.vcpus > config.cpus:
        yield "vcpus", f"{config.vcpus} is more than sockets x cores = {config.cpus}"
    if config.vga.type.startswith("serial") and int(config.vga.type[6:]) not in config.serials:
        yield "vga", f"{config.vga.type} is not configured; add {config.vga.type}: socket"
    for key in config.boot or ():
        if key not in config.given:
            yield "boot", f"{key} is not configured"
    seen: dict[str, str] = {}
    for index, device in config.networks.items():
        if device.macaddr and device.macaddr in seen:
            yield f"net{index}", f"{device.macaddr} is used by {seen[device.macaddr]} already"
        elif device.macaddr:
            seen[device.macaddr] = f"net{index}"
    taken: dict[str, str] = {}
    for key, drive in config.drives.items():
        if drive.volume and not drive.is_cdrom and drive.file in taken:
            yield key, f"{drive.file} is used by {taken[drive.file]} already"
        taken.setdefault(drive.file, key)
        if drive.iothread and not (key.startswith("virtio") or config.scsihw == "virtio-scsi-single"):
            yield key, "iothread works on virtio drives, and on scsi drives with scsihw=virtio-scsi-single"
        if drive.ssd and key.startswith("virtio"):
            yield key, "ssd is not possible on the virtio bus"
    seeds = [key for key, drive in config.drives.items() if drive.is_cloud_init]
    for key in seeds[1:]:
        yield key, f"{seeds[0]} is a cloud-init drive already, and there can be only one"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a change of configuration leads to. ``mapping`` is the whole new configuration, canonical."""

    mapping: dict[str, str]
    changed: frozenset[str]
    """Keys set or deleted, whose value is another than before."""

    @property
    def needs_restart(self) -> frozenset[str]:
        """Changed keys that reach a running guest only at its next start, or by hotplug."""
        return frozenset(key for key in self.changed if applies(key) is not Applies.AT_ONCE)


def applies(key: str) -> Applies:
    """When a change of ``key`` reaches a running guest."""
    option = option_of(key)
    return option.applies if option else Applies.AT_ONCE


def apply_change(
    mapping: Mapping[str, str],
    values: Mapping[str, str],
    delete: Iterable[str] = (),
    digest: str = "",
    *,
    randbits: Callable[[int], int] = secrets.randbits,
) -> Change:
    """Set and delete keys. With ``digest``, only if the configuration is still the one with that digest.

    ``values`` are as a person gave them; ``racimo.guest.config_new.fill_in`` completes them. Raises ``Conflict`` if the
    configuration changed meanwhile, and ``BadParameter`` for what does not fit. To delete a key that is not set is no
    error, to delete one that does not exist is. A disk that is plugged out is kept as ``unused<n>``.
    """
    old = parse_config(mapping)
    if digest and digest != old.digest:
        raise Conflict(
            "The configuration was not changed",
            why="somebody else changed it since it was read (the digest is another)",
            todo="Read it again, then repeat the change",
        )
    removed = set(delete)
    wrong = dict.fromkeys(removed & values.keys(), "cannot be set and deleted at once")
    wrong |= {key: _why_unknown(key) for key in removed if option_of(key) is None}
    if wrong:
        raise BadParameter(wrong, todo=_correct(wrong))
    before, given = old.to_mapping(), fill_in(values, randbits)
    kept = {key: value for key, value in before.items() if key not in removed}
    changed_config = parse_config({**kept, **given})
    after = parse_config(_with_unused(old, changed_config, removed)).to_mapping()
    changed = frozenset(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return Change(mapping=after, changed=changed)


def _with_unused(old: GuestConfig, new: GuestConfig, removed: set[str]) -> dict[str, str]:
    """``new`` with ``unused<n>`` for each disk of ``old`` that it lacks, and without those plugged in again."""
    mapping = new.to_mapping()
    used = {drive.file for drive in new.drives.values()}
    for index, drive in new.unused.items():
        if drive.file in used:
            del mapping[f"unused{index}"]
    kept = {drive.file for drive in new.unused.values()} | used
    given_up = {old.unused[index].file for index in old.unused if f"unused{index}" in removed}
    free = (f"unused{index}" for index in range(FAMILIES["unused"].count or 0) if f"unused{index}" not in mapping)
    for drive in old.disks.values():
        if drive.volume is not None and drive.file not in kept | given_up:
            mapping[next(free)] = drive.file
    return mapping


def running_config(started: Mapping[str, str], wished: Mapping[str, str]) -> dict[str, str]:
    """What a running guest runs with: as it was ``started``, with what of ``wished`` reaches it at once."""
    now = {key: value for key, value in wished.items() if applies(key) is Applies.AT_ONCE}
    rest = started or wished
    return {**{key: value for key, value in rest.items() if applies(key) is not Applies.AT_ONCE}, **now}


@dataclass(frozen=True, slots=True)
class PendingKey:
    """One key: its ``value`` in the running guest, and what it becomes at the next start; None: it is not there."""

    key: str
    value: str | None
    next: str | None


def pending_keys(started: Mapping[str, str] | None, wished: Mapping[str, str]) -> list[PendingKey]:
    """Every key, in order. ``started`` is what the guest runs with; None: it does not run, and nothing waits."""
    now = running_config(started, wished) if started is not None else dict(wished)
    return [PendingKey(key, now.get(key), wished.get(key)) for key in sorted(now.keys() | wished.keys(), key=sort_key)]


def kept_unused(old: Mapping[str, str], new: Mapping[str, str]) -> dict[str, str]:
    """``new`` with each disk of ``old`` that it lacks kept as ``unused<n>``."""
    before, after = parse_config(old), parse_config(new)
    mapping = after.to_mapping()
    known = {drive.file for drive in (*after.drives.values(), *after.unused.values())}
    free = (f"unused{index}" for index in range(FAMILIES["unused"].count or 0) if f"unused{index}" not in mapping)
    for drive in (*before.disks.values(), *before.unused.values()):
        if drive.volume is not None and drive.file not in known:
            known.add(drive.file)
            mapping[next(free)] = drive.file
    return mapping
