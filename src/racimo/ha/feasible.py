"""Which nodes can run a guest: those that have all its storages. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from racimo.model.guest import Guest
    from racimo.model.storage import Storage

DISK = re.compile(r"(?:scsi|virtio|sata|ide)[0-9]+|efidisk0|tpmstate0")


def storages_of(config: Mapping[str, str]) -> set[str]:
    """The ids of the storages that hold the guest's volumes; a path of the node itself counts as the storage ``/``."""
    found = set()
    for key, value in config.items():
        if not DISK.fullmatch(key):
            continue
        volume = value.partition(",")[0].removeprefix("file=")
        if volume.startswith("/"):
            found.add("/")
        elif ":" in volume:
            found.add(volume.partition(":")[0])
    return found


def allowed_nodes(guest: Guest, storages: Mapping[str, Storage], nodes: Iterable[str]) -> frozenset[str]:
    """Those of ``nodes`` that see every storage of ``guest``; its own node alone where one is not shared."""
    allowed = frozenset(nodes)
    for storage_id in storages_of(guest.config):
        storage = storages.get(storage_id)
        if storage is None or not storage.shared:
            allowed &= {guest.node}
        elif storage.nodes:
            allowed &= set(storage.nodes)
    return allowed
