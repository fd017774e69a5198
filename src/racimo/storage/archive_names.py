"""Names of backup archives, and what stands beside one: its notes, and the mark that protects it."""

from __future__ import annotations

import calendar
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

ARCHIVE = re.compile(
    r"vzdump-qemu-([1-9][0-9]{2,8})-([0-9]{4}_[0-9]{2}_[0-9]{2}-[0-9]{2}_[0-9]{2}_[0-9]{2})\.(tar\.zst|tar)"
)
FORMATS = ("tar.zst", "tar")
TIME = "%Y_%m_%d-%H_%M_%S"


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveName:
    """A backup of the guest ``vmid`` begun at ``ctime`` (seconds since the epoch); ``format`` tar or tar.zst."""

    vmid: int
    ctime: int
    format: str

    @classmethod
    def parse(cls, name: str) -> ArchiveName | None:
        """Read a file's name; None for what names no archive."""
        match = ARCHIVE.fullmatch(name)
        if match is None:
            return None
        try:
            ctime = calendar.timegm(time.strptime(match[2], TIME))
        except ValueError:  # a 31st of February
            return None
        return cls(vmid=int(match[1]), ctime=ctime, format=match[3])

    def __str__(self) -> str:
        return f"vzdump-qemu-{self.vmid}-{time.strftime(TIME, time.gmtime(self.ctime))}.{self.format}"


def notes_file(archive: Path) -> Path:
    """The file that holds what people wrote about a backup."""
    return archive.with_name(f"{archive.name}.notes")


def protected_file(archive: Path) -> Path:
    """The file whose presence keeps a backup from being removed."""
    return archive.with_name(f"{archive.name}.protected")


def notes_of(archive: Path) -> str:
    """What people wrote about a backup; empty where nobody did. Raises ``OSError``."""
    try:
        return notes_file(archive).read_text(errors="replace").rstrip("\n")
    except FileNotFoundError:
        return ""


def annotate(archive: Path, notes: str | None, *, protected: bool | None) -> None:
    """Change what stands beside a backup; None leaves it as it is. Raises ``OSError``."""
    if protected:
        protected_file(archive).touch()
    elif protected is not None:
        protected_file(archive).unlink(missing_ok=True)
    if notes:
        new = archive.with_name(f".{archive.name}.notes.tmp")
        new.write_text(f"{notes}\n")
        new.replace(notes_file(archive))
    elif notes is not None:
        notes_file(archive).unlink(missing_ok=True)
