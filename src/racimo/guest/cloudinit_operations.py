"""The cloud-init seed of a guest: what it holds, and made anew while the guest runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from racimo.errors import Refused
from racimo.guest.cloudinit import cloud_init_seed
from racimo.guest.config import parse_config, running_config, split_key
from racimo.guest.hotplug import Hotplug
from racimo.guest.operations import GuestOperation

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AsyncExitStack

    from racimo.guest.lifecycle import Lifecycle
    from racimo.task.operation import Report

KEYS = frozenset(
    ("citype", "ciuser", "cipassword", "ciupgrade", "sshkeys", "nameserver", "searchdomain", "ipconfig")
)  # fmt: skip
HIDDEN = "**********"
"""Shown in place of a password's hash."""


def is_cloud_init_key(key: str) -> bool:
    """Whether a key of the configuration goes into the seed and nowhere else."""
    return split_key(key)[0] in KEYS


def seed_part(config: Mapping[str, str], vmid: int, part: str) -> str:
    """One of the seed's files as it would be made now: ``user``, ``network`` or ``meta``."""
    seed = cloud_init_seed(parse_config(config), vmid)
    user = seed.user_data.replace(parse_config(config).cipassword or HIDDEN, HIDDEN)
    return {"user": user, "network": seed.network_config, "meta": seed.meta_data}[part]


@dataclass(frozen=True, kw_only=True)
class RegenerateSeed(GuestOperation):
    """Put a disc with the present settings into the cloud-init drive. A guest that is off gets it at its start."""

    kind: ClassVar[str] = "qmcloudinit"

    async def execute(self, services: Lifecycle, report: Report, undo: AsyncExitStack) -> None:
        async with services.busy.hold(self.vmid):
            view = await services.records.owned(self.vmid)
            wished = view.guest.config
            key = next((key for key, drive in parse_config(wished).drives.items() if drive.is_cloud_init), None)
            if key is None:
                raise Refused(
                    f"Guest {self.vmid} has no cloud-init drive", why="none of its drives is one",
                    todo=f"Add one: racimo guest set {self.vmid} ide2=local:cloudinit",
                )  # fmt: skip
            if self.vmid not in services.host.vmids:
                report.log("the guest is off: its seed is made at each start")
                return
            started = services.host.started_with(self.vmid).config
            now = {
                name: value for name, value in running_config(started, wished).items() if not is_cloud_init_key(name)
            }
            now |= {name: value for name, value in wished.items() if is_cloud_init_key(name)}
            if key not in started:
                raise Refused(f"{key} is not plugged in yet", why="it waits for the guest's next start")
            monitor = await services.host.monitor(self.vmid)
            await Hotplug(services, self.vmid, monitor).change_medium(key, parse_config(now))
            services.host.reconfigure(self.vmid, now)
            report.log(
                f"{key} has a new seed; the guest sees it when it reads the disc again, at its reboot at the latest"
            )
