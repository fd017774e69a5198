"""One fencing with real programs: what devices do and say, and what is believed of it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from racimo.ha.clock import SystemClock
from racimo.ha.fencing.course import Course, Verdict

if TYPE_CHECKING:
    from conftest import Bench

    from racimo.model.fence import FenceDevice


async def cut(bench: Bench, *levels: list[FenceDevice]) -> Verdict:
    return await Course(bench.programs, SystemClock()).cut(levels)


async def test_a_device_that_cuts_and_then_says_off_confirms(bench: Bench) -> None:
    device = bench.device()
    verdict = await cut(bench, [device])
    assert verdict.confirmed and verdict.why == "n1-bmc cut it and then said that it is off"
    assert [(answer.action, answer.ok) for answer in verdict.answers] == [("off", True), ("status", True)]
    assert bench.power(device) == "off"


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("lie", "still says that it is on"),
        ("hang", "gave no answer within 0.4 s"),
        ("stuck", "gave no answer within 0.4 s"),
        ("error", "login denied"),
        ("bad", "unknown option"),
        ("mute", "does not say that it is off"),
    ],
)
async def test_what_a_device_does_not_say_itself_is_not_believed(bench: Bench, fault: str, why: str) -> None:
    device = bench.device(timeout=0.4)
    bench.fault(device, fault)
    verdict = await cut(bench, [device])
    assert not verdict.confirmed
    assert why in verdict.why and device.name in verdict.why


async def test_exit_code_2_without_the_word_off_is_bad_options_and_no_confirmation(bench: Bench) -> None:
    device = bench.device()
    bench.fault(device, "bad")
    answer = await bench.programs.ask(device, "status")
    assert not answer.ok and answer.power == ""


async def test_a_device_that_reports_early_is_believed_when_it_says_off_itself(bench: Bench) -> None:
    device = bench.device()
    bench.fault(device, "early")
    began = time.monotonic()
    verdict = await cut(bench, [device])
    assert verdict.confirmed and time.monotonic() - began >= 0.6
    assert verdict.answers[-1].power == "off"


async def test_a_slow_device_is_waited_for_until_its_time_is_over(bench: Bench) -> None:
    slow, slower = bench.device(name="slow"), bench.device(name="slower", timeout=0.3)
    for device in (slow, slower):
        bench.fault(device, "slow")
    assert (await cut(bench, [slow])).confirmed
    assert not (await cut(bench, [slower])).confirmed


async def test_all_devices_of_a_level_have_to_confirm(bench: Bench) -> None:
    left, right = bench.device(name="left"), bench.device(name="right", timeout=0.4)
    bench.fault(right, "lie")
    verdict = await cut(bench, [left, right])
    assert not verdict.confirmed and verdict.why.startswith("right reported")


async def test_no_device_is_asked_for_its_status_before_all_of_its_level_were_told(bench: Bench) -> None:
    left, right = bench.device(name="left"), bench.device(name="right")
    bench.fault(left, "slow")
    assert (await cut(bench, [left, right])).confirmed
    actions = [call.split()[0] for call in bench.calls]
    assert actions == ["off", "off", "status", "status"]


async def test_the_second_level_is_tried_when_the_first_fails(bench: Bench) -> None:
    first, second = bench.device(name="ipmi"), bench.device(name="pdu", level=2)
    bench.fault(first, "error")
    verdict = await cut(bench, [first], [second])
    assert verdict.confirmed and verdict.why.startswith("pdu")
    assert "off pdu" in bench.calls[1]


async def test_no_further_level_is_tried_for_a_node_that_shows_life(bench: Bench) -> None:
    first, second = bench.device(name="ipmi"), bench.device(name="pdu", level=2)
    bench.fault(first, "error")
    turns = iter([True, False])
    verdict = await Course(bench.programs, SystemClock(), lambda: next(turns)).cut([[first], [second]])
    assert not verdict.confirmed and "shows life" in verdict.why
    assert bench.power(second) == "on"


async def test_only_off_is_ever_told_to_a_device(bench: Bench) -> None:
    device = bench.device()
    await cut(bench, [device])
    assert {call.split()[0] for call in bench.calls} == {"off", "status"}


async def test_a_secret_is_neither_an_argument_nor_in_what_is_told(bench: Bench) -> None:
    device = bench.device(secrets={"password": "grapes-4711"})
    bench.fault(device, "error")
    answer = await bench.programs.ask(device, "off")
    assert answer.said == "Failed: login denied for ***"
    assert "grapes" not in "".join(bench.calls) and "grapes" not in repr(device)


async def test_a_value_with_a_line_break_is_not_sent(bench: Bench) -> None:
    answer = await bench.programs.ask(bench.device(options={"plug": "n1-bmc\naction=on"}), "off")
    assert not answer.ok and "control character" in answer.said and bench.calls == []


async def test_a_program_that_is_not_there_says_how_to_get_it(bench: Bench) -> None:
    device = bench.device()
    missing = type(device)(name="x", node="n1", agent="fence_ipmilan")
    answer = await bench.programs.ask(missing, "off")
    assert not answer.ok and "apt-get install fence-agents" in answer.said


async def test_a_program_is_killed_with_its_children_when_it_is_late_or_broken_off(bench: Bench) -> None:
    device = bench.device(timeout=0.3)
    bench.fault(device, "hang")
    await bench.programs.ask(device, "off")
    task = asyncio.create_task(bench.programs.ask(bench.device(), "off"))
    while len(bench.calls) < 2:  # noqa: ASYNC110 - a file tells
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.wait({task})
    assert task.cancelled()
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(bench.directory).encode() in _read(path)]
    assert left == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
