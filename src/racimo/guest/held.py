"""Which volumes a guest's record names, and which of them its snapshots hold."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.errors import Conflict, NotFound, Refused
from racimo.guest.config import parse_config
from racimo.storage.base import VolumeId

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from racimo.guest.drives import Drive
    from racimo.guest.records import GuestView
    from racimo.model.guest import Guest


def guest_volumes(guest: Guest) -> set[VolumeId]:
    """Every volume that a guest's record names: of its configuration, what is unused, and of its snapshots."""
    found = {VolumeId.parse(section.vmstate) for section in guest.snapshots.values() if section.vmstate}
    for mapping in (guest.config, *(section.config for section in guest.snapshots.values())):
        config = parse_config(mapping)
        drives = (*config.drives.values(), *config.unused.values())
        found |= {drive.volume for drive in drives if drive.volume is not None}
    return found


def drive_of(view: GuestView, key: str) -> tuple[Drive, VolumeId]:
    """A disk of the guest, plugged in or unused. Raises ``NotFound`` for one that is none."""
    config = parse_config(view.guest.config)
    unused = re.fullmatch(r"unused([0-9]+)", key)
    drive = config.unused.get(int(unused[1])) if unused else config.disks.get(key)
    volume = drive.volume if drive is not None else None
    if drive is None or volume is None:
        known = [*config.disks, *(f"unused{index}" for index in config.unused)]
        raise NotFound(
            f"Disk '{key}' of guest {view.guest.vmid} does not exist", why=f"it has {', '.join(known) or 'no disks'}"
        )
    return drive, volume


def refuse_held(view: GuestView, volume: VolumeId, what: str) -> None:
    """Raises ``Refused`` where a snapshot needs the volume."""
    holding = [
        name for name, section in view.guest.snapshots.items()
        if volume in guest_volumes(replace(view.guest, config=section.config, snapshots={}))
    ]  # fmt: skip
    if holding:
        raise Refused(
            f"{volume} is not {what}", why=f"the snapshots {', '.join(sorted(holding))} need it",
            todo="Delete these snapshots first",
        )  # fmt: skip


def refuse_plugged(volume: VolumeId, running: Mapping[str, str] | None) -> None:
    """Raises ``Conflict`` where the running guest still has a volume, though its configuration names it no more."""
    drives = parse_config(running).drives.items() if running else ()
    for key, drive in drives:
        if drive.volume == volume:
            raise Conflict(
                f"{volume} is still in use", why=f"the running guest has it as {key} until its next start",
                todo="Shut the guest down first",
            )  # fmt: skip


def given_up(view: GuestView, delete: Iterable[str], running: Mapping[str, str] | None) -> list[VolumeId]:
    """The volumes of the unused disks among the keys to ``delete``: they go for good. Raises ``Refused``, ``Conflict``.

    ``running`` is the configuration that the guest runs with, if it does.
    """
    volumes = [drive_of(view, key)[1] for key in delete if key.startswith("unused") and key in view.guest.config]
    for volume in volumes:
        refuse_held(view, volume, "removed")
        refuse_plugged(volume, running)
    return volumes
