"""The oracle tells lost writes, gaps and second writers from an orderly history."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.errors import NotFound
from racimo.lab.journal import JournalReport, judge, read_acknowledgements, read_journal, read_records

if TYPE_CHECKING:
    from pathlib import Path

FIRST_BOOT = "11111111-1111-1111-1111-111111111111"
SECOND_BOOT = "22222222-2222-2222-2222-222222222222"


def fields(seq: int, node: str = "n1", epoch: int = 1, boot: str = FIRST_BOOT) -> str:
    return f"{seq} {node} {epoch} {boot} {seq / 10:.2f} {1_700_000_000 + seq / 10:.6f}"


def disk(*records: str) -> bytes:
    """A data disk with these records, each in the place that its number says; block 0 stays empty."""
    content = bytearray(512 * 64)
    for record in records:
        at = 512 * int(record.split()[0])
        content[at : at + 512] = f"racimo-journal {record}\n".encode().ljust(512, b"\0")
    return bytes(content)


def console(*lines: str) -> bytes:
    return b"racimo lab guest\r\n" + b"".join(f"ack {line}\r\n".encode() for line in lines)


def verdict(content: bytes, *consoles: bytes) -> JournalReport:
    return judge(read_records(content), [ack for log in consoles for ack in read_acknowledgements(log)])


def test_an_orderly_history_is_sound() -> None:
    history = [fields(seq) for seq in range(1, 21)]
    report = verdict(disk(*history), console(*history))
    assert report.sound
    assert (report.writes, report.acknowledged, report.writers_at_once) == (20, 20, 1)


def test_a_move_and_a_restart_are_writers_one_after_the_other() -> None:
    source = [fields(seq) for seq in range(1, 6)]
    target = [fields(seq, "n2", 2) for seq in range(6, 11)]
    restarted = [fields(seq, "n3", 3, SECOND_BOOT) for seq in range(11, 16)]
    report = verdict(disk(*source, *target, *restarted), console(*source), console(*target), console(*restarted))
    assert report.sound
    assert [(span.writer.node, span.first, span.last) for span in report.writers] == [
        ("n1", 1, 5), ("n2", 6, 10), ("n3", 11, 15),
    ]  # fmt: skip


def test_an_acknowledged_write_that_is_not_on_the_disk_is_lost() -> None:
    report = verdict(disk(*(fields(seq) for seq in range(1, 5))), console(*(fields(seq) for seq in range(1, 7))))
    assert report.lost == (5, 6)
    assert not report.sound


def test_a_write_that_was_never_acknowledged_may_be_there_or_not() -> None:
    report = verdict(disk(*(fields(seq) for seq in range(1, 6))), console(*(fields(seq) for seq in range(1, 5))))
    assert report.sound
    assert (report.writes, report.acknowledged) == (5, 4)


def test_a_hole_in_the_numbers_is_a_gap() -> None:
    report = verdict(disk(fields(1), fields(2), fields(6), fields(7), fields(9)))
    assert report.gaps == ((3, 5), (8, 8))
    assert not report.sound


def test_two_writers_that_acknowledge_the_same_number_are_a_split_brain() -> None:
    left = [fields(seq) for seq in range(1, 11)]
    right = [fields(seq, "n2", 2, SECOND_BOOT) for seq in range(6, 14)]
    report = verdict(disk(*left[:5], *right), console(*left), console(*right))
    assert report.writers_at_once == 2
    assert report.lost == (6, 7, 8, 9, 10)


def test_interleaved_writers_are_a_split_brain_even_if_nothing_was_acknowledged() -> None:
    records = [fields(seq, *(("n1", 1) if seq % 2 else ("n2", 2))) for seq in range(1, 11)]
    assert verdict(disk(*records)).writers_at_once == 2


def test_three_writers_at_once_are_counted_as_three() -> None:
    logs = [console(*(fields(seq, f"n{n}", n) for seq in range(1, 9))) for n in (1, 2, 3)]
    assert verdict(disk(*(fields(seq) for seq in range(1, 9))), *logs).writers_at_once == 3


def test_a_line_torn_apart_by_a_power_cut_acknowledges_nothing() -> None:
    whole = console(fields(1), fields(2))
    assert [ack.seq for ack in read_acknowledgements(whole)] == [1, 2]
    assert [ack.seq for ack in read_acknowledgements(whole[:-3])] == [1]
    assert read_acknowledgements(b"ck 3 n1 1 " + FIRST_BOOT.encode() + b" 1.00 1.000000\r\n") == []


def test_a_record_in_a_strange_place_is_not_counted() -> None:
    content = bytearray(disk(fields(1), fields(2)))
    content[512 * 5 : 512 * 6] = content[512 * 2 : 512 * 3]
    content[512 * 7 + 40 : 512 * 8 + 40] = content[512 : 512 * 2]
    assert [record.seq for record in read_records(bytes(content))] == [1, 2]


async def test_the_journal_is_found_on_the_shared_directory_and_the_consoles_on_the_nodes(tmp_path: Path) -> None:
    history = [fields(seq) for seq in range(1, 6)]
    images = tmp_path / "shared/images/100"
    images.mkdir(parents=True)
    (images / "vm-100-disk-0.raw").write_bytes(bytes(4096))
    (images / "vm-100-disk-1.raw").write_bytes(disk(*history))
    logs = tmp_path / "n1/var/log/racimo/guests/100"
    logs.mkdir(parents=True)
    (logs / "serial.log").write_bytes(console(*history))
    report = await read_journal(100, tmp_path / "shared", [tmp_path / "n1", tmp_path / "n2"])
    assert report.sound
    assert (report.writes, report.acknowledged) == (5, 5)


async def test_a_guest_without_a_journal_is_told_apart_from_one_that_lost_everything(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="has no journal"):
        await read_journal(100, tmp_path, [tmp_path / "n1"])
    logs = tmp_path / "n1/var/log/racimo/guests/100"
    logs.mkdir(parents=True)
    (logs / "serial.log").write_bytes(console(fields(1)))
    assert (await read_journal(100, tmp_path, [tmp_path / "n1"])).lost == (1,)
