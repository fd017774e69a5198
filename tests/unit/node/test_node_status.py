from __future__ import annotations

import time
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


@pytest.mark.parametrize(
    ("file", "text"), [("cpuacct/cpuacct.usage", "{ns}\n"), ("cpu.stat", "usage_usec {us}\nuser_usec 1\n")]
)
async def test_a_container_counts_what_it_uses_itself_and_not_its_host(
    proc: Path, tmp_path: Path, file: str, text: str
) -> None:
    group = tmp_path / "cgroup"
    (group / file).parent.mkdir(parents=True)
    (group / file).write_text(text.format(ns=0, us=0))
    meter = ProcMeter(proc, window=0.0, cgroup=group)
    await meter.read()
    (proc / "stat").write_text("cpu 900 0 0 100 0 0 0 0\n")  # the host is busy
    began = time.monotonic_ns()
    assert (await meter.read()).cpu == 0.0
    (group / file).write_text(text.format(ns=10**18, us=10**15))
    assert (await meter.read()).cpu > 1.0 and time.monotonic_ns() > began


async def test_a_container_whose_group_counts_nothing_falls_back_to_proc(proc: Path, tmp_path: Path) -> None:
    meter = ProcMeter(proc, window=0.0, cgroup=tmp_path / "none")
    await meter.read()
    (proc / "stat").write_text("cpu 130 0 0 170 0 0 0 0\n")
    assert (await meter.read()).cpu == pytest.approx(0.3)
