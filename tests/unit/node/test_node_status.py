from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.node.status import CpuTicks, ProcMeter, read_cpu_ticks, read_memory

if TYPE_CHECKING:
    from pathlib import Path

MEMINFO = "MemTotal: 1000 kB\nMemAvailable: 400 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\nHugePages_Total: 0\n"


def test_waiting_for_a_disk_counts_as_idle() -> None:
    assert read_cpu_ticks("cpu  10 1 5 70 14 0 0 0 99 99\ncpu0 1 1 1 1\n") == CpuTicks(busy=16, total=100)


def test_memory_is_told_in_bytes() -> None:
    assert read_memory(MEMINFO)["MemTotal"] == 1000 * 1024


@pytest.fixture
def proc(tmp_path: Path) -> Path:
    (tmp_path / "stat").write_text("cpu 100 0 0 100 0 0 0 0\n")
    (tmp_path / "meminfo").write_text(MEMINFO)
    (tmp_path / "uptime").write_text("77.5 100.0\n")
    return tmp_path


async def test_the_processors_share_is_that_since_the_look_before(proc: Path) -> None:
    meter = ProcMeter(proc, window=0.0)
    await meter.read()
    (proc / "stat").write_text("cpu 130 0 0 170 0 0 0 0\n")
    usage = await meter.read()
    assert usage.cpu == pytest.approx(0.3)
    assert (usage.memory_used, usage.uptime) == (600 * 1024, 77)


async def test_two_looks_at_the_same_tick_do_not_divide_by_nothing(proc: Path) -> None:
    meter = ProcMeter(proc, window=0.0)
    assert (await meter.read()).cpu == 0.0
    assert (await meter.read()).cpu == 0.0
