"""Changes of a running guest's devices: what can be plugged is, the rest waits for the next start.

The guest's record has the configuration that is wished for; ``StartedWith.config`` what its QEMU has. What differs is
pending. Each change is one step of the monitor at a time, and what fails half-way is taken back.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from racimo.errors import Conflict, RacimoError, Refused
from racimo.guest.config import applies, parse_config, sort_key
from racimo.guest.config_options import Applies
from racimo.guest.drives import slot
from racimo.guest.network import Tap, join_bridge
from racimo.guest.qemu.block_graph import close_image, drive_nodes
from racimo.guest.qemu.blocks import drive_arguments
from racimo.guest.qemu.command_line import network_arguments, tap_name
from racimo.guest.qemu.monitor import CommandRefused

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.guest.config import GuestConfig
    from racimo.guest.devices import NetworkDevice
    from racimo.guest.drives import Drive
    from racimo.guest.host import GuestHost
    from racimo.guest.lifecycle import Lifecycle
    from racimo.guest.qemu.monitor import Monitor
    from racimo.task.operation import Report

UNPLUG_TIMEOUT = 5.0
"""Seconds for a guest's operating system to let go of a device."""
TRAY_ATTEMPTS = 10
PLUGGABLE = ("scsi", "virtio")
UNSEEN_OF_DRIVE = {"size": None, "backup": None, "replicate": None, "shared": None, "format": None, "import_from": None}
"""Settings of a drive that QEMU does not know."""
UNSEEN_OF_CARD = {"firewall": None, "rate": None, "trunks": None}
LIVE_OF_CARD = {**UNSEEN_OF_CARD, "link_down": None, "bridge": None, "tag": None}
"""Settings of a network card that change without plugging."""


async def apply_hotplug(life: Lifecycle, vmid: int, wished: Mapping[str, str], report: Report) -> None:
    """Bring the running guest as near to ``wished`` as can be; tells what waits for the next start, and why."""
    has = dict(life.host.started_with(vmid).config)
    changed = [key for key in has.keys() | wished.keys() if has.get(key) != wished.get(key)]
    waiting = sorted((key for key in changed if applies(key) is not Applies.AT_ONCE), key=sort_key)
    hotplug = Hotplug(life, vmid, await life.host.monitor(vmid))
    for key in sorted(waiting, key=lambda key: key in wished):  # what goes makes room for what comes
        old, new = ({**has}, {name: value for name, value in has.items() if name != key})
        if key in wished:
            new[key] = wished[key]
        try:
            await hotplug.change(key, parse_config(old), parse_config(new), allowed=parse_config(wished).hotplug)
        except RacimoError as error:
            report.log(f"{key}: will be seen at the next start ({error})")
            continue
        has = new
        life.host.reconfigure(vmid, has)
        report.log(f"{key}: the running guest has it now" if key in new else f"{key}: was unplugged")


async def set_links(host: GuestHost, vmid: int, config: GuestConfig) -> None:
    """Pull the plug of the network cards that have ``link_down``; the guest has not run yet."""
    for index, card in config.networks.items():
        if card.link_down:
            await (await host.monitor(vmid)).execute("set_link", {"name": f"net{index}", "up": False})


@dataclass(frozen=True, slots=True)
class Hotplug:
    """Changes devices of one running guest."""

    life: Lifecycle
    vmid: int
    monitor: Monitor

    async def change(self, key: str, old: GuestConfig, new: GuestConfig, *, allowed: tuple[str, ...]) -> None:
        """Change the device ``key`` from what ``old`` has to what ``new`` has. Raises ``RacimoError``: why not."""
        if key.startswith("net") and key[3:].isdecimal():
            _demand(allowed, "network")
            await self._card(key, old.networks.get(int(key[3:])), new)
        elif key in old.drives or key in new.drives:
            _demand(allowed, "disk")
            await self._drive(key, old.drives.get(key), new)
        else:
            raise Refused("it is not changed while the guest runs")

    # -- drives --------------------------------------------------------------------------------------------------

    async def _drive(self, key: str, old: Drive | None, new: GuestConfig) -> None:
        wanted = new.drives.get(key)
        if old is not None and wanted is not None:
            if replace(old, **UNSEEN_OF_DRIVE) == replace(wanted, **UNSEEN_OF_DRIVE):  # type: ignore[arg-type]
                return
            if old.is_cdrom and wanted.is_cdrom:
                await self.change_medium(key, new)
                return
            if old.file == wanted.file:
                raise Refused("its settings are not changed while the guest runs")
        if slot(key)[0] not in PLUGGABLE:
            raise Refused(f"the bus {slot(key)[0]} takes drives only while the guest is off")
        if old is not None:
            await self._unplug_drive(key)
        if wanted is not None:
            await self._plug_drive(key, new)

    async def _plug_drive(self, key: str, config: GuestConfig) -> None:
        source = await self.life.assembly.block(self.vmid, config, key)
        parts = drive_arguments(config, key, source, None, q35=config.machine.startswith("pc-q35"))
        async with AsyncExitStack() as undo:
            for entry in parts.objects:
                await self.monitor.execute("object-add", entry)
                undo.push_async_callback(self._quietly, "object-del", {"id": entry["id"]})
            present = await self._devices()
            for controller in parts.controllers:
                if controller["id"] not in present:
                    await self.monitor.execute("device_add", controller)
                    undo.push_async_callback(self._quietly, "device_del", {"id": controller["id"]})
            for node in parts.nodes:
                await self.monitor.execute("blockdev-add", node)
                undo.push_async_callback(self._quietly, "blockdev-del", {"node-name": node["node-name"]})
            await self.monitor.execute("device_add", parts.device)
            undo.pop_all()

    async def _unplug_drive(self, key: str) -> None:
        node = (await drive_nodes(self.monitor)).get(key)
        await self._unplug(key)
        if node is not None:
            await close_image(self.monitor, node.node)
        controller = f"virtioscsi{slot(key)[1]}"
        if slot(key)[0] == "scsi" and controller in await self._devices():
            with suppress(RacimoError):  # it may stay: nothing hangs on it, and the next disk there uses it
                await self._unplug(controller)
            await self._quietly("object-del", {"id": f"iothread-{controller}"})
        await self._quietly("object-del", {"id": f"iothread-{key}"})

    async def change_medium(self, key: str, config: GuestConfig) -> None:
        """Take the disc out of a CD drive, and put the configured one in."""
        node = (await drive_nodes(self.monitor)).get(key)
        if node is not None:
            await self._with_open_tray(key, "blockdev-remove-medium", {"id": key})
        if node is not None:
            await close_image(self.monitor, node.node)
        if not config.drives[key].is_empty:
            source = await self.life.assembly.block(self.vmid, config, key)
            parts = drive_arguments(config, key, source, None, q35=config.machine.startswith("pc-q35"))
            for entry in parts.nodes:
                await self.monitor.execute("blockdev-add", entry)
            medium = {"id": key, "node-name": str(parts.nodes[-1]["node-name"])}
            await self._with_open_tray(key, "blockdev-insert-medium", medium)
        await self.monitor.execute("blockdev-close-tray", {"id": key})

    async def _with_open_tray(self, key: str, command: str, arguments: Mapping[str, object]) -> None:
        """Open the tray and act; the guest may close it between the two."""
        for _ in range(TRAY_ATTEMPTS):
            await self.monitor.execute("blockdev-open-tray", {"id": key, "force": True})
            try:
                await self.monitor.execute(command, arguments)
            except CommandRefused as error:
                if "is not open" not in error.why:
                    raise
            else:
                return
        raise Conflict("the guest closes the tray again and again")

    # -- network cards -------------------------------------------------------------------------------------------

    async def _card(self, key: str, old: NetworkDevice | None, new: GuestConfig) -> None:
        wanted = new.networks.get(int(key[3:]))
        if old is not None and wanted is not None and _alike(old, wanted):
            await self._adjust(key, old, wanted)
            return
        if old is not None:
            await self._unplug(key)
            await self._quietly("netdev_del", {"id": key})
        if wanted is not None:
            await self._plug_card(key, wanted, new)

    async def _adjust(self, key: str, old: NetworkDevice, wanted: NetworkDevice) -> None:
        if wanted.bridge and (old.bridge, old.tag) != (wanted.bridge, wanted.tag):
            await join_bridge(self._tap(key, wanted))
        if bool(old.link_down) != bool(wanted.link_down):
            await self.monitor.execute("set_link", {"name": key, "up": not wanted.link_down})

    async def _plug_card(self, key: str, card: NetworkDevice, config: GuestConfig) -> None:
        backend, device = network_arguments(config, self.life.hypervisor, self.vmid, int(key[3:]))
        async with AsyncExitStack() as undo:
            await self.monitor.execute("netdev_add", backend)
            undo.push_async_callback(self._quietly, "netdev_del", {"id": key})
            if card.bridge:
                await join_bridge(self._tap(key, card))
            await self.monitor.execute("device_add", device)
            undo.pop_all()
        if card.link_down:
            await self.monitor.execute("set_link", {"name": key, "up": False})

    def _tap(self, key: str, card: NetworkDevice) -> Tap:
        return Tap(tap_name(self.vmid, int(key[3:])), card.bridge or "", card.tag or 0)

    # -- inside --------------------------------------------------------------------------------------------------

    async def _unplug(self, device: str) -> None:
        """Ask for a device's removal and wait until the guest has let go of it."""
        try:
            async with asyncio.timeout(UNPLUG_TIMEOUT):
                with self.monitor.events("DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR") as events:
                    with suppress(CommandRefused):  # it is asked for already
                        await self.monitor.execute("device_del", {"id": device})
                    while device in await self._devices():
                        event = await events.get()
                        if event.name != "DEVICE_DELETED" and event.fields.get("device") == device:
                            raise Conflict("the guest's operating system refused to let go of it")
        except TimeoutError:
            raise Conflict(f"the guest's operating system did not let go of it within {UNPLUG_TIMEOUT:g} s") from None

    async def _devices(self) -> frozenset[str]:
        found: Any = await self.monitor.execute("qom-list", {"path": "/machine/peripheral"})
        return frozenset(str(each["name"]) for each in found)

    async def _quietly(self, command: str, arguments: Mapping[str, object]) -> None:
        with suppress(CommandRefused):  # it is not there
            await self.monitor.execute(command, arguments)


def _alike(old: NetworkDevice, new: NetworkDevice) -> bool:
    """Whether one becomes the other without plugging."""
    same = replace(old, **LIVE_OF_CARD) == replace(new, **LIVE_OF_CARD)  # type: ignore[arg-type]
    return same and bool(old.bridge) == bool(new.bridge)


def _demand(allowed: tuple[str, ...], kind: str) -> None:
    if kind not in allowed:
        raise Refused(f"the option hotplug does not name '{kind}'")
