"""The oracle: what the lab guest's data disk and its serial consoles say about lost writes and second writers.

The guest appends one record of 512 bytes every 100 ms at offset seq*512, and acknowledges it on its serial console
only when the disk has confirmed it (``guest/init``). So a record that was acknowledged and is not on the disk, or is
there in another writer's hand, is a lost write; and two writers whose sequence numbers overlap wrote at the same time.
No clock and nothing of Racimo's own state takes part in the verdict.
"""

from __future__ import annotations

import asyncio
import errno
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from racimo.errors import NotFound
from racimo.lab.process import run

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RECORD_BYTES = 512
MAGIC = b"racimo-journal "
_FIELDS = rb"(\d+) (\S+) (\S+) ([0-9a-f-]{36}) (\d+\.\d+) (\d+\.\d{6})"
_RECORD = re.compile(rb"racimo-journal " + _FIELDS + rb"\n\0*", re.DOTALL)
_ACK = re.compile(rb"^ack " + _FIELDS + rb"\r?\n", re.MULTILINE)
"""A whole line: one that a power cut or a migration tore apart acknowledges nothing."""


@dataclass(frozen=True, slots=True, order=True)
class Writer:
    """Who wrote: one boot of the guest on one node in one epoch."""

    node: str
    epoch: str
    boot: str


@dataclass(frozen=True, slots=True)
class Entry:
    """One record or acknowledgement. ``wall``: seconds since 1970 by the guest's clock, for people only."""

    seq: int
    writer: Writer
    wall: float


@dataclass(frozen=True, slots=True)
class Span:
    """What one writer wrote or acknowledged: first and last sequence number, and when, by the guest's clock."""

    writer: Writer
    first: int
    last: int
    began: float
    ended: float


@dataclass(frozen=True, slots=True)
class JournalReport:
    """The verdict.

    ``writes``: records on the disk. ``lost``: sequence numbers acknowledged but not on the disk as acknowledged.
    ``gaps``: ranges (first, last) missing on the disk. ``writers_at_once``: how many wrote at the same time at most;
    more than 1 is a split brain.
    """

    writes: int
    acknowledged: int
    lost: tuple[int, ...]
    gaps: tuple[tuple[int, int], ...]
    writers: tuple[Span, ...]
    writers_at_once: int

    @property
    def sound(self) -> bool:
        """Whether nothing was lost and nobody wrote beside another."""
        return not self.lost and not self.gaps and self.writers_at_once <= 1


def read_records(disk: bytes) -> list[Entry]:
    """The records on a data disk, in order of their place; one that does not stand in its own place is left out."""
    found: list[Entry] = []
    at = disk.find(MAGIC)
    while at >= 0:
        record = _RECORD.fullmatch(disk, at, at + RECORD_BYTES) if at % RECORD_BYTES == 0 else None
        if record and (entry := _entry(record)).seq * RECORD_BYTES == at:
            found.append(entry)
        at = disk.find(MAGIC, at + 1)
    return found


def read_acknowledgements(log: bytes) -> list[Entry]:
    """The acknowledgements on a serial console."""
    return [_entry(line) for line in _ACK.finditer(log)]


def _entry(match: re.Match[bytes]) -> Entry:
    seq, node, epoch, boot, _, wall = (field.decode("ascii", errors="replace") for field in match.groups())
    return Entry(int(seq), Writer(node, epoch, boot), float(wall))


def judge(records: Iterable[Entry], acknowledgements: Iterable[Entry]) -> JournalReport:
    """Compare what was acknowledged with what is there."""
    on_disk = {entry.seq: entry for entry in records}
    acks = list(acknowledgements)
    lost = sorted({ack.seq for ack in acks if _differs(ack, on_disk.get(ack.seq))})
    spans = _spans([*on_disk.values(), *acks])
    return JournalReport(
        writes=len(on_disk),
        acknowledged=len({(ack.seq, ack.writer) for ack in acks}),
        lost=tuple(lost),
        gaps=tuple(_gaps(sorted(on_disk))),
        writers=tuple(spans),
        writers_at_once=_most_at_once(spans),
    )


def _differs(ack: Entry, record: Entry | None) -> bool:
    return record is None or record.writer != ack.writer


def _gaps(present: list[int]) -> Iterator[tuple[int, int]]:
    before = 0
    for seq in present:
        if seq > before + 1:
            yield before + 1, seq - 1
        before = seq


def _spans(entries: Iterable[Entry]) -> list[Span]:
    by_writer: dict[Writer, list[Entry]] = {}
    for entry in entries:
        by_writer.setdefault(entry.writer, []).append(entry)
    spans = []
    for writer, own in by_writer.items():
        seqs, walls = [entry.seq for entry in own], [entry.wall for entry in own]
        spans.append(Span(writer, min(seqs), max(seqs), min(walls), max(walls)))
    return sorted(spans, key=lambda span: (span.first, span.last))


def _most_at_once(spans: Iterable[Span]) -> int:
    edges = sorted(edge for span in spans for edge in ((span.first, 0, 1), (span.last, 1, -1)))
    now = most = 0
    for _, _, step in edges:
        now += step
        most = max(most, now)
    return most


async def read_disk(image: Path) -> bytes:
    """The content of a disk image, raw or qcow2, up to the last byte written; also while a guest writes to it."""
    if image.suffix == ".raw":
        return await asyncio.to_thread(_written, image)
    with tempfile.TemporaryDirectory() as scratch:
        flat = Path(scratch) / "flat.raw"
        await run("qemu-img", "convert", "--force-share", "-O", "raw", image, flat)
        return await asyncio.to_thread(_written, flat)


def _written(image: Path) -> bytes:
    with image.open("rb") as disk:
        end = 0
        try:
            while True:
                end = os.lseek(disk.fileno(), os.lseek(disk.fileno(), end, os.SEEK_DATA), os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:  # ENXIO: no more after this
                raise
        disk.seek(0)
        return disk.read(end)


async def read_journal(vmid: int, shared: Path, disks: Iterable[Path]) -> JournalReport:
    """The verdict on a guest of the lab. ``disks``: each node's own disk (its overlay), readable when it is off too.

    Raises ``NotFound`` when no disk of the guest holds a journal. Consoles are read before the disk, so a guest that
    writes meanwhile does not look as if it had lost anything.
    """
    nodes = list(disks)
    acks: list[Entry] = []
    for node in nodes:
        log = node / f"var/log/racimo/guests/{vmid}/serial.log"
        if log.is_file():
            acks += read_acknowledgements(log.read_bytes())
    places = [shared, *(node / "var/lib/racimo" for node in nodes)]
    images = [image for place in places for image in sorted(place.glob(f"**/vm-{vmid}-*")) if image.is_file()]
    for image in images:
        if image.suffix in (".raw", ".qcow2") and (records := read_records(await read_disk(image))):
            return judge(records, acks)
    if acks:
        return judge([], acks)
    raise NotFound(
        f"Guest {vmid} has no journal",
        why=f"none of its {len(images)} volumes holds a record, and no node has a console of it",
        todo="Create it with the lab's guest image and a second disk, and start it",
    )
