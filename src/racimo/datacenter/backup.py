"""Backups of the store: all records at one revision, as lines of JSON, compressed, with a checksum at the end.

First line: what it is of. Then one line per record. Last line: how many, and the SHA-256 of all lines before. The file
holds the authority's key, so only root may read it.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import gzip
import hashlib
import json
import re
import zlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import structlog
from pydantic import TypeAdapter, ValidationError

from racimo.datacenter.atomic_file import PRIVATE, replace_file
from racimo.datacenter.standalone import SETTINGS
from racimo.errors import NotFound, RacimoError, Refused
from racimo.store.layout import ROOT, Layout

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable
    from pathlib import Path

    from racimo.datacenter.host import Host
    from racimo.model.paths import NodePaths
    from racimo.store.base import Store

log = structlog.get_logger()

FORMAT = "racimo-backup-1"
HOURLY, DAILY = 24, 7
INTERVAL_S = 3600.0
NAME = re.compile(r"store-(\d{8}T\d{6}Z)-r\d+\.jsonl\.gz")
TIME_FORMAT = "%Y%m%dT%H%M%SZ"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupHeader:
    """What a backup is of. ``created`` in seconds since the epoch; ``revision`` is that of the records."""

    format: str
    datacenter: str
    name: str
    node: str
    revision: int
    created: float


@dataclass(frozen=True, slots=True)
class _Line:
    key: str
    value: str


@dataclass(frozen=True, slots=True)
class _End:
    count: int
    sha256: str


_HEADER, _LINE, _END = TypeAdapter(BackupHeader), TypeAdapter(_Line), TypeAdapter(_End)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backup:
    """A backup that was read and found whole."""

    header: BackupHeader
    records: dict[str, bytes]


def backup_folder(paths: NodePaths) -> Path:
    """Where a node keeps its backups."""
    return paths.state / "backup"


async def back_up(host: Host, store: Store, node: str) -> Path:
    """Write a backup now, verify it, and remove those that are too old. Returns its path. Raises ``OSError`` too."""
    datacenter = await Layout(store).datacenter.get(SETTINGS)
    listing = await store.list(ROOT)
    now = host.now()
    header = BackupHeader(
        format=FORMAT, datacenter=datacenter.id, name=datacenter.name, node=node, revision=listing.revision, created=now
    )
    stamp = datetime.datetime.fromtimestamp(now, datetime.UTC).strftime(TIME_FORMAT)
    path = backup_folder(host.paths) / f"store-{stamp}-r{listing.revision}.jsonl.gz"
    records = {record.key: record.value for record in listing.records}
    await asyncio.to_thread(_write, path, header, records)
    return path


def read_backup(path: Path) -> Backup:
    """A backup, verified. Raises ``NotFound``, or ``Refused`` when it is not one, cut off or damaged."""
    try:
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
    except FileNotFoundError:
        raise NotFound(f"The backup {path} does not exist", todo=f"See those in {path.parent}") from None
    except (EOFError, OSError, zlib.error) as error:
        raise Refused(f"The backup {path} cannot be read", why=str(error), todo="Take another one") from error
    try:
        header, end = _HEADER.validate_json(lines[0]), _END.validate_json(lines[-1])
        records = [_LINE.validate_json(line) for line in lines[1:-1]]
    except (IndexError, ValidationError) as error:
        raise Refused(f"{path} is not a backup of the store, or is cut off", todo="Take another one") from error
    if end != _End(len(records), hashlib.sha256(b"".join(lines[:-1])).hexdigest()) or header.format != FORMAT:
        raise Refused(f"The backup {path} is damaged", why="its checksum is wrong", todo="Take another one")
    return Backup(header=header, records={line.key: base64.b64decode(line.value) for line in records})


def list_backups(paths: NodePaths) -> list[Path]:
    """This node's backups, newest first."""
    folder = backup_folder(paths)
    found = [path for path in folder.iterdir() if NAME.fullmatch(path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: path.name, reverse=True)


def kept(names: Iterable[str], hourly: int = HOURLY, daily: int = DAILY) -> set[str]:
    """Which backups to keep: the newest of each of the last 24 hours, and of each of the last 7 days, that have any."""
    newest: dict[str, dict[str, str]] = {"hour": {}, "day": {}}
    for name in sorted(names, reverse=True):
        found = NAME.fullmatch(name)
        if found:
            newest["hour"].setdefault(found[1][:11], name)
            newest["day"].setdefault(found[1][:8], name)
    hours, days = list(newest["hour"].values())[:hourly], list(newest["day"].values())[:daily]
    return {*hours, *days}


async def back_up_hourly(host: Host, store: Store, node: str, voter: Callable[[], Awaitable[bool]]) -> None:
    """Back up at once and then every hour while this node is a voter, for ever. A failure is logged and tried again."""
    while True:
        try:
            if await voter():
                log.info("Backed up the store", path=str(await back_up(host, store, node)))
        except (RacimoError, OSError) as error:
            log.warning("The store was not backed up", why=str(error), todo="It is tried again in an hour")
        await asyncio.sleep(INTERVAL_S)


def _write(path: Path, header: BackupHeader, records: dict[str, bytes]) -> None:
    body = _json(asdict(header)) + b"".join(
        _json({"key": key, "value": base64.b64encode(value).decode()}) for key, value in records.items()
    )
    end = _json({"count": len(records), "sha256": hashlib.sha256(body).hexdigest()})
    path.parent.mkdir(parents=True, exist_ok=True)
    path.parent.chmod(0o700)
    replace_file(path, gzip.compress(body + end, 6), PRIVATE)
    if read_backup(path).records != records:
        raise Refused(f"The backup {path} does not read as it was written", todo="Look at this node's disk")
    names = {other.name for other in path.parent.iterdir() if NAME.fullmatch(other.name)}
    for name in names - kept(names) - {path.name}:
        (path.parent / name).unlink()


def _json(fields: dict[str, object]) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode() + b"\n"
