"""The command line of a guest's QEMU: a pure function of its configuration, the node's QEMU and this one launch."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from racimo.errors import Refused
from racimo.guest.devices import NETWORK_MODELS, SMBIOS_STRINGS
from racimo.guest.drives import slot
from racimo.guest.qemu.addresses import place
from racimo.guest.qemu.blocks import Argument, drive_arguments
from racimo.guest.qemu.machine import cpu_argument

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from racimo.guest.config import GuestConfig
    from racimo.guest.devices import NetworkDevice
    from racimo.guest.qemu.machine import Hypervisor
    from racimo.storage.base import BlockSource

FW_CFG_SIZE = 64
"""Bytes of each fw_cfg string of ours: equal at both ends of a migration."""

TRANSLATION_CACHE = 256
"""MiB of host memory that the emulator may fill with translated code."""

WINDOWS = frozenset({"wxp", "w2k", "w2k3", "w2k8", "wvista", "win7", "win8", "win10", "win11"})
VGA_DEVICES = {"std": "VGA", "cirrus": "cirrus-vga", "vmware": "vmware-svga", "virtio": "virtio-vga"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """What is particular to one start of a guest on one node.

    ``machine`` is the pinned machine type. ``run`` and ``log`` are the directories of its sockets and logs
    (``NodePaths.guest_run``, ``guest_log``). ``blocks`` has what QEMU is to open for every drive but empty ones, the
    cloud-init seed included. ``cpu`` is the ``-cpu`` of the migration's source; None: from the configuration.
    """

    vmid: int
    node: str
    epoch: int
    machine: str
    run: Path
    log: Path
    blocks: Mapping[str, BlockSource] = field(default_factory=dict)
    incoming: bool = False
    cpu: str | None = None

    @property
    def qmp_socket(self) -> Path:
        """QEMU's monitor."""
        return self.run / "qmp.sock"

    @property
    def agent_socket(self) -> Path:
        """The guest agent's end."""
        return self.run / "agent.sock"

    @property
    def vnc_socket(self) -> Path:
        """The display."""
        return self.run / "vnc.sock"

    def serial_socket(self, port: int) -> Path:
        """A serial port: ``serial.sock`` is port 0."""
        return self.run / f"serial{port or ''}.sock"

    def serial_log(self, port: int) -> Path:
        """What a serial port printed: ``serial.log`` is port 0."""
        return self.log / f"serial{port or ''}.log"


def tap_name(vmid: int, index: int) -> str:
    """The tap interface of a network card: ``tap100i0``, at most 15 characters."""
    return f"tap{vmid}i{index}"


def command_line(config: GuestConfig, hypervisor: Hypervisor, launch: Launch) -> list[str]:
    """The argv of the guest's QEMU. It starts paused (``-S``); taps must exist and be on their bridge before.

    Raises ``Refused`` for what this node cannot give (firmware, CPU model) and for drives that were not resolved.
    """
    q35 = launch.machine.startswith("pc-q35")
    return [
        hypervisor.binary,
        "-name", f"racimo-guest-{launch.vmid}",
        *_machine(config, hypervisor, launch, q35=q35),
        *_firmware(config, hypervisor, launch),
        *_buses(config, q35=q35),
        *_sockets(config, launch),
        *_display(config, launch),
        *_standard_devices(config),
        *_drives(config, launch, q35=q35),
        *_networks(config, hypervisor, launch),
        *(("-incoming", "defer") if launch.incoming else ()),
        *shlex.split(config.args or ""),
    ]  # fmt: skip


def _json(argument: Argument) -> str:
    return json.dumps(argument, separators=(",", ":"))


def _escape(value: str) -> str:
    """A value within QEMU's comma-separated options."""
    return value.replace(",", ",,")


def _pci(driver: str, device: str, **settings: str | int | bool) -> tuple[str, str]:
    bus, address = place(device)
    return "-device", _json({"driver": driver, "id": device, "bus": bus, "addr": address, **settings})


def _machine(config: GuestConfig, hypervisor: Hypervisor, launch: Launch, *, q35: bool) -> Iterator[str]:
    """The board: machine type, acceleration, CPUs, memory, clock."""
    kvm = hypervisor.acceleration.kind == "kvm" and config.kvm
    yield from ("-no-user-config", "-nodefaults", "-S")
    yield from ("-machine", f"{launch.machine},usb=off,acpi={'on' if config.acpi else 'off'}")
    yield from ("-accel", "kvm" if kvm else f"tcg,thread=multi,tb-size={TRANSLATION_CACHE}")
    yield from ("-cpu", launch.cpu or cpu_argument(config, hypervisor))
    vcpus = config.vcpus or config.cpus
    yield from ("-smp", f"{vcpus},sockets={config.sockets},cores={config.cores},maxcpus={config.cpus}")
    yield from ("-m", f"{config.memory}M")
    if config.numa:
        yield from _numa(config)
    local = config.localtime if config.localtime is not None else config.ostype in WINDOWS
    base = config.startdate if config.startdate != "now" else ("localtime" if local else "utc")
    yield from ("-rtc", f"base={base},driftfix={'slew' if config.ostype in WINDOWS else 'none'}")
    suspend = "ICH9-LPC" if q35 else "PIIX4_PM"
    yield from ("-global", f"{suspend}.disable_s3=1", "-global", f"{suspend}.disable_s4=1")
    yield from ("-boot", "menu=off,strict=on,reboot-timeout=1000")
    if not config.reboot:
        yield "-no-reboot"
    yield from ("-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny")
    yield from ("-msg", "timestamp=on")


def _numa(config: GuestConfig) -> Iterator[str]:
    """One node for each socket, with an even share of memory."""
    if config.memory % config.sockets:
        raise Refused(
            "The guest cannot start with numa=1",
            why=f"its memory of {config.memory} MiB cannot be divided evenly among {config.sockets} sockets",
            todo="Change memory or sockets",
        )
    share = config.memory_bytes // config.sockets
    for node in range(config.sockets):
        yield from ("-object", _json({"qom-type": "memory-backend-ram", "id": f"ram-node{node}", "size": share}))
        first = node * config.cores
        yield from ("-numa", f"node,nodeid={node},cpus={first}-{first + config.cores - 1},memdev=ram-node{node}")


def _firmware(config: GuestConfig, hypervisor: Hypervisor, launch: Launch) -> Iterator[str]:
    """BIOS or UEFI, the guest's identity, and what the guest is told of its node and epoch."""
    if config.bios == "ovmf":
        if hypervisor.ovmf is None:
            raise Refused(
                "The guest cannot start with UEFI firmware",
                why="the firmware is not installed on this node",
                todo="Install the package ovmf on every node that may run it, or set bios: seabios",
            )
        yield from ("-bios", hypervisor.ovmf)
    identity = config.smbios1
    if identity is not None:
        if identity.uuid:
            yield from ("-uuid", identity.uuid)
        strings = ((name, getattr(identity, name)) for name in SMBIOS_STRINGS)
        fields = [f"{name}={_escape(value)}" for name, value in strings if value]
        if identity.uuid or fields:
            yield from ("-smbios", ",".join(["type=1", *([f"uuid={identity.uuid}"] if identity.uuid else []), *fields]))
    if config.vmgenid:
        yield from ("-device", _json({"driver": "vmgenid", "id": "vmgenid", "guid": config.vmgenid}))
    for name, value in (("node", launch.node), ("epoch", str(launch.epoch))):
        yield from ("-fw_cfg", f"name=opt/io.racimo/{name},string={_escape(value.ljust(FW_CFG_SIZE))}")


def _sockets(config: GuestConfig, launch: Launch) -> Iterator[str]:
    """Monitor, serial ports and guest agent, each on a unix socket."""
    yield from ("-chardev", f"socket,id=qmp,path={_escape(str(launch.qmp_socket))},server=on,wait=off")
    yield from ("-mon", "chardev=qmp,mode=control")
    for port in config.serials:
        path, log = _escape(str(launch.serial_socket(port))), _escape(str(launch.serial_log(port)))
        yield "-chardev"
        yield f"socket,id=serial{port},path={path},server=on,wait=off,logfile={log},logappend=on"
        yield from ("-device", _json({"driver": "isa-serial", "chardev": f"serial{port}", "index": port}))
    if config.agent.enabled:
        yield from ("-chardev", f"socket,id=agent,path={_escape(str(launch.agent_socket))},server=on,wait=off")
        if config.agent.type == "isa":
            yield from ("-device", _json({"driver": "isa-serial", "chardev": "agent"}))
        else:
            yield from _pci("virtio-serial-pci", "qga0")
            port_settings: Argument = {"driver": "virtserialport", "chardev": "agent", "name": "org.qemu.guest_agent.0"}
            yield from ("-device", _json(port_settings))


def _buses(config: GuestConfig, *, q35: bool) -> Iterator[str]:
    """The bridges that its devices need. On q35 the first bus hangs below the root, so that addresses are the same."""
    if q35:
        bridge: Argument = {"driver": "i82801b11-bridge", "id": "dmi", "bus": "pcie.0", "addr": "0x1e"}
        yield from ("-device", _json(bridge))
        below: Argument = {"driver": "pci-bridge", "id": "pci.0", "bus": "dmi", "addr": "0x1", "chassis_nr": 4}
        yield from ("-device", _json({**below, "shpc": False}))
    single = config.scsihw == "virtio-scsi-single"
    devices = [
        *(key for key in config.drives if key.startswith("virtio")),
        *(f"virtioscsi{slot(key)[1]}" for key in config.drives if single and key.startswith("scsi")),
        *(f"net{index}" for index in config.networks),
    ]
    needed = {place(device)[0] for device in devices} - {"pci.0"}
    for bus in sorted(needed):
        yield from _pci("pci-bridge", bus, chassis_nr=int(bus[4:]), shpc=False)


def _display(config: GuestConfig, launch: Launch) -> Iterator[str]:
    """The graphics card with its VNC socket, and the pointer; or none of them."""
    driver = VGA_DEVICES.get(config.vga.type)
    yield from ("-display", "none")
    if driver is None:
        return
    memory = {"vgamem_mb": config.vga.memory} if config.vga.memory and driver in {"VGA", "cirrus-vga"} else {}
    yield from _pci(driver, "vga", **memory)
    yield from ("-vnc", f"unix:{_escape(str(launch.vnc_socket))}")
    if config.tablet:
        yield from _pci("piix3-usb-uhci", "uhci")
        yield from ("-device", _json({"driver": "usb-tablet", "id": "tablet", "bus": "uhci.0", "port": "1"}))


def _standard_devices(config: GuestConfig) -> Iterator[str]:
    """Balloon and randomness."""
    if config.balloon != 0:
        yield from _pci("virtio-balloon-pci", "balloon0", **{"free-page-reporting": True})
    if config.rng0 is not None:
        yield from ("-object", _json({"qom-type": "rng-random", "id": "rng", "filename": config.rng0.source}))
        limit = {"max-bytes": config.rng0.max_bytes} if config.rng0.max_bytes else {}
        yield from _pci("virtio-rng-pci", "rng0", rng="rng", **limit, period=config.rng0.period or 1000)


def _boot_index(config: GuestConfig, key: str) -> int | None:
    """From 100 on in the order of booting, so that a device plugged in later can go before or between."""
    order = config.boot_order
    return 100 + order.index(key) if key in order else None


def _drives(config: GuestConfig, launch: Launch, *, q35: bool) -> Iterator[str]:
    """Drives with their controllers; a controller that several drives share comes once."""
    seen: set[str] = set()
    for key in config.drives:
        arguments = drive_arguments(config, key, launch.blocks.get(key), _boot_index(config, key), q35=q35)
        for entry in arguments.objects:
            yield from ("-object", _json(entry))
        for controller in arguments.controllers:
            if str(controller["id"]) not in seen:
                seen.add(str(controller["id"]))
                yield from ("-device", _json(controller))
        for node in arguments.nodes:
            yield from ("-blockdev", _json(node))
        yield from ("-device", _json(arguments.device))


def _networks(config: GuestConfig, hypervisor: Hypervisor, launch: Launch) -> Iterator[str]:
    """Network cards on taps that exist already; without a bridge, on QEMU's own network behind NAT."""
    for index, card in config.networks.items():
        name = f"net{index}"
        queues = _queues(card)
        if card.bridge:
            backend = f"tap,id={name},ifname={tap_name(launch.vmid, index)},script=no,downscript=no"
            backend += f",vhost={'on' if hypervisor.vhost and card.model == 'virtio' else 'off'}"
            yield from ("-netdev", backend + (f",queues={queues}" if queues else ""))
        else:
            yield from ("-netdev", f"user,id={name}")
        yield from ("-device", _json(_card_device(config, hypervisor, index, _boot_index(config, name))))


def network_arguments(config: GuestConfig, hypervisor: Hypervisor, vmid: int, index: int) -> tuple[Argument, Argument]:
    """What plugs a network card into a running guest: its backend and its device. It is none to boot from."""
    card, name = config.networks[index], f"net{index}"
    backend: Argument = {"type": "user", "id": name}
    if card.bridge:
        backend = {
            "type": "tap", "id": name, "ifname": tap_name(vmid, index), "script": "no", "downscript": "no",
            "vhost": hypervisor.vhost and card.model == "virtio",
        }  # fmt: skip
        if queues := _queues(card):
            backend["queues"] = queues
    return backend, _card_device(config, hypervisor, index, None)


def _queues(card: NetworkDevice) -> int:
    """How many queues it has; 0: one, as without saying."""
    return card.queues if card.model == "virtio" and card.queues and card.queues > 1 else 0


def _card_device(config: GuestConfig, hypervisor: Hypervisor, index: int, boot: int | None) -> Argument:
    card, name = config.networks[index], f"net{index}"
    bus, address = place(name)
    settings: Argument = {"driver": NETWORK_MODELS[card.model], "id": name, "bus": bus, "addr": address, "netdev": name}
    if card.macaddr:
        settings["mac"] = card.macaddr
    if card.model == "virtio":
        settings["rx_queue_size"] = 1024
        if card.mtu and card.mtu > 1:
            settings["host_mtu"] = card.mtu
        if (queues := _queues(card)) and card.bridge:
            settings |= {"mq": True, "vectors": 2 * queues + 2}
    if boot is None:
        settings["romfile"] = ""
    elif not hypervisor.netboot:
        raise Refused(
            f"The guest cannot boot from {name}",
            why="boot ROMs of network cards are not installed on this node",
            todo=f"Install the package ipxe-qemu, or leave {name} out of the boot order",
        )
    else:
        settings["bootindex"] = boot
    return settings
