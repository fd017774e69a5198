"""Where each device sits on the guest's PCI buses: fixed by its name, so that both ends of a migration agree."""

from __future__ import annotations

import re

ROOT_SLOTS = {
    "vga": 0x02,
    "balloon0": 0x03,
    "rng0": 0x04,
    "scsihw0": 0x05,
    "scsihw1": 0x06,
    "scsihw2": 0x07,
    "scsihw3": 0x08,
    "scsihw4": 0x09,
    "qga0": 0x0A,
    "ahci0": 0x0B,
    "uhci": 0x0C,
    "pci.1": 0x1D,
    "pci.2": 0x1E,
    "pci.3": 0x1F,
}
"""Slots of the first bus by device id. Slots 0 and 1 are the board's own."""

ROOT_NETS, FIRST_NET_SLOT = 8, 0x10


def place(device: str) -> tuple[str, str]:
    """Bus and slot (``("pci.0", "0x5")``) of a PCI device by its id.

    Drives on virtio sit behind bridge 1, network cards from ``net8`` behind bridge 2, single SCSI controllers behind
    bridge 3.
    """
    if device in ROOT_SLOTS:
        return "pci.0", hex(ROOT_SLOTS[device])
    match = re.fullmatch(r"(virtio|net|virtioscsi)([0-9]+)", device)
    if match is None:
        raise ValueError(f"no place on the PCI bus for {device}")
    index = int(match[2])
    if match[1] == "virtio":
        return "pci.1", hex(1 + index)
    if match[1] == "virtioscsi":
        return "pci.3", hex(1 + index)
    return ("pci.0", hex(FIRST_NET_SLOT + index)) if index < ROOT_NETS else ("pci.2", hex(1 + index - ROOT_NETS))
