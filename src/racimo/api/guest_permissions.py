"""What each key of a guest's configuration takes, beside the permission to change the guest at all."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from racimo.errors import Unauthorised
from racimo.guest.config import parse_config
from racimo.guest.config_options import FAMILIES
from racimo.guest.drives import BUSES
from racimo.task.runner import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from racimo.api.context import Context
    from racimo.guest.drives import Drive

DISK, CDROM, NETWORK, OPTIONS = "VM.Config.Disk", "VM.Config.CDROM", "VM.Config.Network", "VM.Config.Options"
CPU, MEMORY, HARDWARE, SEED = "VM.Config.CPU", "VM.Config.Memory", "VM.Config.HWType", "VM.Config.Cloudinit"
CONFIG = (OPTIONS, DISK, CPU, MEMORY, NETWORK, HARDWARE, SEED, CDROM)
"""Any of these lets one ask for a change; which ones it takes depends on the keys."""
ROOT_ONLY = frozenset({"args"})
"""Words of QEMU's own command line, which runs as root."""
_KEYS = {
    **dict.fromkeys(("cores", "sockets", "cpu", "cpulimit", "cpuunits", "vcpus", "numa", "affinity"), CPU),
    **dict.fromkeys(("memory", "balloon", "shares"), MEMORY),
    **dict.fromkeys(("acpi", "arch", "bios", "kvm", "machine", "rng", "rng0", "scsihw", "serial", "smbios1", "vga",
                     "vmgenid"), HARDWARE),
    **dict.fromkeys(("ciuser", "cipassword", "citype", "ciupgrade", "ipconfig", "nameserver", "searchdomain",
                     "sshkeys"), SEED),
    "net": NETWORK, "unused": DISK,
}  # fmt: skip
_BRIDGE = re.compile(r"(?:^|,)bridge=([^,]+)")
_OWNER = re.compile(r"(?:^|/)(?:vm|base)-([0-9]+)-")


def demand_config(context: Context, vmid: int, values: Mapping[str, str], delete: Iterable[str] = ()) -> None:
    """Raises ``Unauthorised`` unless who asks may set ``values`` and ``delete`` keys of guest ``vmid``.

    New disks take Datastore.AllocateSpace on their storage, a bridge SDN.Use, another guest's volume that guest's
    VM.Config.Disk, a file of the node root.
    """
    if context.who.user == ROOT:
        return
    keys = {*values, *delete}
    root_only = sorted(keys & ROOT_ONLY)
    if root_only:
        raise Unauthorised(f"only root can set '{root_only[0]}' config")
    drives = parse_config({key: value for key, value in values.items() if _family(key) in BUSES}).drives
    for key in sorted(keys):
        drive = drives.get(key)
        if drive is not None:
            _demand_drive(context, vmid, key, drive)
        elif _family(key) in BUSES:
            context.demand(f"/vms/{vmid}", DISK, *([CDROM] if key == "ide2" else []))
        else:
            context.demand(f"/vms/{vmid}", _KEYS.get(_family(key), OPTIONS))
        bridge = _BRIDGE.search(values.get(key, "")) if _family(key) == "net" else None
        if bridge is not None:
            context.demand(f"/sdn/zones/localnetwork/{bridge[1]}", "SDN.Use")


def demand_space(context: Context, storage: str) -> None:
    """Raises ``Unauthorised`` unless who asks may make volumes on ``storage``."""
    context.demand(f"/storage/{storage}", "Datastore.AllocateSpace")


def _demand_drive(context: Context, vmid: int, key: str, drive: Drive) -> None:
    context.demand(f"/vms/{vmid}", SEED if drive.is_cloud_init else CDROM if drive.is_cdrom else DISK)
    if drive.storage is None:
        return
    if drive.is_cloud_init or drive.new_size is not None:
        demand_space(context, drive.storage)
    elif drive.is_cdrom:
        context.demand(f"/storage/{drive.storage}", "Datastore.Audit", "Datastore.AllocateSpace")
    else:
        _demand_volume(context, vmid, drive.file)
    if drive.import_from is not None:
        if drive.import_from.startswith("/"):
            raise Unauthorised("only root can pass arbitrary filesystem paths", why=f"{key} has import-from=/…")
        _demand_volume(context, vmid, drive.import_from)


def _demand_volume(context: Context, vmid: int, volume: str) -> None:
    """A volume of another guest takes that guest's permission; one of nobody a look at the storage."""
    storage, _, name = volume.partition(":")
    owner = _OWNER.search(name)
    if owner is not None and int(owner[1]) == vmid:
        return
    if owner is None:
        context.demand(f"/storage/{storage}", "Datastore.Audit", "Datastore.AllocateSpace")
    elif not context.may(f"/storage/{storage}", "Datastore.Allocate"):
        context.demand(f"/vms/{int(owner[1])}", DISK)


def _family(key: str) -> str:
    stem = key.rstrip("0123456789")
    return stem if stem in FAMILIES else key
