"""Which backups are kept: a pure function over their times, and what it says done to a storage."""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import TYPE_CHECKING

from racimo.errors import BadParameter, RacimoError
from racimo.storage.base import Content

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from racimo.storage.base import Volume
    from racimo.storage.volumes import Volumes


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """How many backups of a guest are kept: the newest ``last``, and the newest of so many hours, days and so on.

    All 0 keeps everything. Hours, days, weeks (ISO 8601), months and years are those of UTC; one without a backup
    does not count.
    """

    last: int = 0
    hourly: int = 0
    daily: int = 0
    weekly: int = 0
    monthly: int = 0
    yearly: int = 0

    @classmethod
    def parse(cls, text: str) -> Keep:
        """Read ``keep-last=3,keep-daily=7``; ``keep-all=1`` keeps everything. Raises ``BadParameter``."""
        known = {f"keep-{field.name}": field.name for field in fields(cls)}
        counts: dict[str, int] = {}
        everything = False
        for word in filter(None, text.split(",")):
            name, _, value = word.strip().partition("=")
            if name == "keep-all" and value in {"0", "1"}:
                everything = value == "1"
            elif name not in known or not value.isdecimal():
                raise BadParameter({"prune-backups": f"'{word}' is none of {', '.join(known)} with a number"})
            else:
                counts[known[name]] = int(value)
        if everything and any(counts.values()):
            raise BadParameter({"prune-backups": "keep-all=1 goes with no other"})
        return cls(**counts)

    @property
    def everything(self) -> bool:
        """Whether nothing is ever removed."""
        return not any(getattr(self, field.name) for field in fields(self))


class Mark(StrEnum):
    """What becomes of a backup."""

    KEEP = "keep"
    REMOVE = "remove"
    PROTECTED = "protected"
    """It stays, and takes no other's place."""


PERIODS: Mapping[str, Callable[[time.struct_time], str]] = {
    "hourly": lambda at: time.strftime("%Y-%m-%d %H", at),
    "daily": lambda at: time.strftime("%Y-%m-%d", at),
    "weekly": lambda at: time.strftime("%G-%V", at),
    "monthly": lambda at: time.strftime("%Y-%m", at),
    "yearly": lambda at: time.strftime("%Y", at),
}


def marked(backups: Iterable[Volume], keep: Keep) -> list[tuple[Volume, Mark]]:
    """What becomes of each backup of *one* guest, newest first.

    The newest ones are kept first, then hours are looked at, then days and so on: each keeps the newest backup of the
    newest periods that have none yet that was kept.
    """
    ordered = sorted(backups, key=lambda each: (each.ctime, each.id), reverse=True)
    free = [each for each in ordered if not each.protected]
    if keep.everything:
        kept = {each.id for each in free}
    else:
        kept = {each.id for each in free[: keep.last]}
        for name, period in PERIODS.items():
            times = {each.id: period(time.gmtime(each.ctime)) for each in free}
            before = {times[volume] for volume in kept}
            chosen: dict[str, Volume] = {}
            for each in free:
                if times[each.id] not in before:
                    chosen.setdefault(times[each.id], each)
            kept |= {each.id for each in list(chosen.values())[: getattr(keep, name)]}
    return [
        (each, Mark.PROTECTED if each.protected else Mark.KEEP if each.id in kept else Mark.REMOVE) for each in ordered
    ]


async def looked_at(volumes: Volumes, storage: str, keep: Keep, vmid: int | None = None) -> list[tuple[Volume, Mark]]:
    """What becomes of the backups of a storage, of one guest or of each by itself."""
    found = await volumes.volumes(storage, Content.BACKUP, vmid)
    guests = sorted({each.vmid for each in found if each.vmid is not None})
    return [pair for guest in guests for pair in marked((each for each in found if each.vmid == guest), keep)]


async def prune(
    volumes: Volumes, storage: str, keep: Keep, told: Callable[[str], None], vmid: int | None = None
) -> list[Volume]:
    """Remove what ``keep`` does not keep; one that cannot be removed is told of. Returns those that stayed so."""
    failed = []
    for volume, mark in await looked_at(volumes, storage, keep, vmid):
        if mark is not Mark.REMOVE:
            continue
        try:
            await volumes.delete(volume.id)
        except RacimoError as error:
            told(f"{volume.id} was not removed: {error}")
            failed.append(volume)
        else:
            told(f"removed the backup {volume.id}")
    return failed
