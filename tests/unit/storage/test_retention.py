"""Which backups are kept, and which go."""

from __future__ import annotations

import calendar
import time
from typing import TYPE_CHECKING

import pytest

from racimo.errors import BadParameter
from racimo.model.storage import Storage
from racimo.storage.archive_names import ArchiveName, protected_file
from racimo.storage.base import Content, Volume, VolumeId
from racimo.storage.retention import Keep, Mark, marked, prune
from racimo.storage.volumes import Volumes

if TYPE_CHECKING:
    from pathlib import Path


def at(text: str) -> int:
    return calendar.timegm(time.strptime(text, "%Y-%m-%d %H:%M"))


def backup(text: str, *, protected: bool = False) -> Volume:
    return Volume(
        id=VolumeId("dump", f"backup/{at(text)}"), content=Content.BACKUP, format="tar.zst", size=1, used=1, vmid=100,
        ctime=at(text), protected=protected,
    )  # fmt: skip


def kept(keep: str, *times: str) -> list[str]:
    found = marked([backup(each) for each in times], Keep.parse(keep))
    return [time.strftime("%m-%d %H:%M", time.gmtime(each.ctime)) for each, mark in found if mark is Mark.KEEP]


DAYS = tuple(f"2026-11-{day:02} {hour}:00" for day in range(20, 24) for hour in ("06", "18"))


def test_the_newest_are_kept() -> None:
    assert kept("keep-last=3", *DAYS) == ["11-23 18:00", "11-23 06:00", "11-22 18:00"]


def test_of_each_day_the_newest_is_kept() -> None:
    assert kept("keep-daily=3", *DAYS) == ["11-23 18:00", "11-22 18:00", "11-21 18:00"]


def test_a_period_with_a_kept_backup_takes_no_place_of_a_later_rule() -> None:
    assert kept("keep-last=1,keep-daily=2", *DAYS) == ["11-23 18:00", "11-22 18:00", "11-21 18:00"]


def test_periods_without_backups_do_not_count() -> None:
    times = ("2026-11-23 10:00", "2026-09-01 10:00", "2024-02-29 10:00", "2024-02-28 10:00")
    assert kept("keep-monthly=3", *times) == ["11-23 10:00", "09-01 10:00", "02-29 10:00"]
    assert kept("keep-yearly=2", *times) == ["11-23 10:00", "02-29 10:00"]
    assert kept("keep-hourly=4", *times) == ["11-23 10:00", "09-01 10:00", "02-29 10:00", "02-28 10:00"]


def test_weeks_are_those_of_iso_8601() -> None:
    times = ("2027-01-01 00:00", "2026-12-28 00:00", "2026-12-27 23:59")
    assert kept("keep-weekly=2", *times) == ["01-01 00:00", "12-27 23:59"]


def test_a_protected_backup_stays_and_takes_no_place() -> None:
    backups = [backup("2026-11-23 10:00", protected=True), backup("2026-11-22 10:00"), backup("2026-11-21 10:00")]
    assert [mark for _, mark in marked(backups, Keep(last=1))] == [Mark.PROTECTED, Mark.KEEP, Mark.REMOVE]


@pytest.mark.parametrize("text", ["", "keep-all=1", "keep-last=0"])
def test_who_names_no_number_keeps_everything(text: str) -> None:
    assert len(kept(text, *DAYS)) == len(DAYS)


@pytest.mark.parametrize("text", ["keep-last", "keep-last=-1", "keep-never=1", "keep-all=1,keep-last=2", "last=1"])
def test_what_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="prune-backups"):
        Keep.parse(text)


async def test_pruning_removes_of_each_guest_by_itself(tmp_path: Path) -> None:
    storage = Storage(id="dump", type="dir", path=str(tmp_path), content=("backup",))
    volumes = Volumes(lambda: {"dump": storage}, "n1")
    folder = await volumes.dump("dump")
    for vmid in (100, 101):
        for day in ("20", "21", "22"):
            (folder / str(ArchiveName(vmid=vmid, ctime=at(f"2026-11-{day} 00:00"), format="tar"))).touch()
    protected_file(folder / "vzdump-qemu-100-2026_11_20-00_00_00.tar").touch()
    told: list[str] = []
    assert await prune(volumes, "dump", Keep(last=1), told.append) == []
    left = [(each.vmid, each.id.name[31:33]) for each in await volumes.volumes("dump", Content.BACKUP)]
    assert left == [(100, "20"), (100, "22"), (101, "22")]
    assert len(told) == 3
