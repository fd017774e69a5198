"""What it takes to restore a backup, beside the permission to make the guest."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from racimo.api.guest_permissions import demand_config, demand_space
from racimo.errors import BadParameter
from racimo.guest.config import parse_config
from racimo.guest.restore import RestoreGuest, describe
from racimo.storage.base import VolumeId
from racimo.storage.volumes import Volumes
from racimo.task.runner import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from racimo.api.context import Context

_BRIDGE = re.compile(r"(?:^|,)bridge=([^,]+)")


async def restore_of(
    context: Context, vmid: int, archive: str, values: Mapping[str, str], *, storage: str, unique: bool, force: bool,
    start: bool,
) -> RestoreGuest:  # fmt: skip
    """The operation, if who asks may have it.

    VM.Backup on the guest that was backed up (or Datastore.Allocate on the backup's storage), Datastore.AllocateSpace
    where disks are made, SDN.Use for the bridges, and for keys that are changed what it takes to change them.
    """
    try:
        volume = VolumeId.parse(archive)
    except ValueError as error:
        raise BadParameter({"archive": f"{error}; a backup is named as STORAGE:backup/FILE"}) from error
    by_root = context.who.user == ROOT
    if not by_root:
        context.demand(f"/storage/{volume.storage}", "Datastore.Audit", "Datastore.AllocateSpace")
        backed = await describe(context.services.need(Volumes), volume)
        if not context.may(f"/storage/{volume.storage}", "Datastore.Allocate"):
            context.demand(f"/vms/{backed.vmid}", "VM.Backup")
        for target in sorted({storage} if storage else set(backed.storages.values())):
            demand_space(context, target)
        for index in parse_config(backed.config).networks:
            bridge = _BRIDGE.search(backed.config[f"net{index}"])
            if bridge is not None:
                context.demand(f"/sdn/zones/localnetwork/{bridge[1]}", "SDN.Use")
        demand_config(context, vmid, values)
    return RestoreGuest(
        vmid=vmid, archive=volume, storage=storage, unique=unique, force=force, start=start, by_root=by_root,
        values=values,
    )  # fmt: skip
