"""What was used over time: rings of fixed size."""

from __future__ import annotations

import asyncio
import sqlite3
from typing import TYPE_CHECKING

import pytest

from racimo.api.history import SLOTS, STEPS, History

if TYPE_CHECKING:
    from pathlib import Path

BEGIN = 604_800 * 3000


async def test_a_slot_tells_the_average_and_the_largest_of_its_looks(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    for second, cpu in ((0, 0.2), (20, 0.4), (70, 0.9)):
        await history.note(BEGIN + second, {"node": {"cpu": cpu}})
    averages = await history.read("node", "hour", BEGIN + 80)
    assert [(slot.at - BEGIN, round(slot.figures["cpu"], 3)) for slot in averages] == [(0, 0.3), (60, 0.9)]
    largest = await history.read("node", "day", BEGIN + 80, largest=True)
    assert [slot.figures for slot in largest] == [{"cpu": 0.9}]


async def test_a_ring_never_grows_and_forgets_what_is_older_than_its_span(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    for minute in range(2 * SLOTS):
        await history.note(BEGIN + 60 * minute, {"guest/100": {"mem": minute}})
    now = BEGIN + 60 * (2 * SLOTS - 1)
    found = await history.read("guest/100", "hour", now)
    assert [slot.figures["mem"] for slot in found] == list(range(SLOTS, 2 * SLOTS))
    assert await history.read("guest/100", "hour", now + 60 * SLOTS) == []
    with sqlite3.connect(tmp_path / "history.sqlite") as base:
        assert base.execute("SELECT count(*) FROM ring WHERE span = 'hour'").fetchone() == (SLOTS,)
    base.close()


async def test_of_what_is_forgotten_nothing_is_left_and_of_a_stranger_nothing_is_told(tmp_path: Path) -> None:
    history = History(tmp_path / "history.sqlite")
    await history.note(BEGIN, {"guest/100": {"mem": 1}, "guest/101": {"mem": 2}})
    await history.keep_guests({101})
    assert await history.read("guest/100", "year", BEGIN) == []
    assert [slot.figures for slot in await history.read("guest/101", "year", BEGIN)] == [{"mem": 2}]
    assert await history.read("guest/102", "hour", BEGIN) == []


@pytest.mark.parametrize("span", list(STEPS))
async def test_looks_of_many_at_once_are_all_kept(tmp_path: Path, span: str) -> None:
    history = History(tmp_path / "history.sqlite")
    await asyncio.gather(*(history.note(BEGIN, {f"guest/{vmid}": {"mem": vmid}}) for vmid in range(100, 110)))
    for vmid in range(100, 110):
        assert [slot.figures["mem"] for slot in await history.read(f"guest/{vmid}", span, BEGIN)] == [vmid]
