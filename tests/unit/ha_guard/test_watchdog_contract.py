"""The watchdog device: what we rely on of any, the kernel's and the stand-in, and what the guard makes of odd ones.

``RACIMO_TEST_WATCHDOG=/dev/watchdog1 pytest …`` runs the contract against a real device. It is armed for a minute at
most, and stopped: where that is refused (``nowayout``) the machine is reset.
"""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import pytest
from watchdog_stand_in import ALL, WDIOC_GETTIMELEFT, StandIn

from racimo.ha.guard import Guard
from racimo.ha.timing import PROFILES, longest_watchdog
from racimo.ha.watchdog import (
    WDIOC_GETTIMEOUT,
    WDIOC_SETTIMEOUT,
    WDIOF_MAGICCLOSE,
    WDIOF_SETTIMEOUT,
    DeviceWatchdog,
    KernelFile,
    NoWatchdog,
    SafeWatchdog,
    open_watchdog,
)
from racimo.model.lease import Lease, write_lease
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from racimo.ha.watchdog import WatchdogFile

REAL = os.environ.get("RACIMO_TEST_WATCHDOG", "")
S = 1_000_000_000
MARKED = 999_999_901


# the contract


@pytest.fixture(params=["stand-in", *([REAL] if REAL else [])])
def stand_in(request: pytest.FixtureRequest) -> StandIn | None:
    return StandIn() if request.param == "stand-in" else None


@pytest.fixture
def opened(stand_in: StandIn | None) -> Iterator[Callable[[], WatchdogFile]]:
    files: list[WatchdogFile] = []

    def open_it() -> WatchdogFile:
        files.append(stand_in.open("") if stand_in else KernelFile(REAL))
        return files[-1]

    yield open_it
    for file in files:
        file.write(b"V")
        file.close()


def test_it_says_what_it_is(opened: Callable[[], WatchdogFile]) -> None:
    options, identity = opened().information()
    assert options & (WDIOF_SETTIMEOUT | WDIOF_MAGICCLOSE) and identity


def test_it_takes_a_time_out_and_says_what_became_of_it(opened: Callable[[], WatchdogFile]) -> None:
    file = opened()
    given = file.control(WDIOC_SETTIMEOUT, 30)
    assert file.control(WDIOC_GETTIMEOUT, 0) == given >= 30


def test_it_is_fed_by_writing(opened: Callable[[], WatchdogFile], stand_in: StandIn | None) -> None:
    file = opened()
    if stand_in:
        stand_in.now += 2
    else:
        time.sleep(2)
    try:
        left = file.control(WDIOC_GETTIMELEFT, 0)
    except OSError as error:
        pytest.skip(f"this device does not say how long it has left: {error}")
    assert left < file.control(WDIOC_GETTIMEOUT, 0)
    file.write(b"\0")
    assert file.control(WDIOC_GETTIMELEFT, 0) > left


def test_it_is_opened_by_one_process_at_a_time(opened: Callable[[], WatchdogFile]) -> None:
    opened()
    with pytest.raises(OSError) as caught:
        opened()
    assert caught.value.errno == errno.EBUSY


# what is made of it


def safe(device: StandIn, tmp_path: Path) -> SafeWatchdog:
    return SafeWatchdog(DeviceWatchdog("/dev/watchdog", device.open), tmp_path / "watchdog")


def test_it_counts_what_was_asked_for_and_stops_when_told(tmp_path: Path) -> None:
    device = StandIn()
    watchdog = safe(device, tmp_path)
    assert not device.running and watchdog.seconds == 0
    watchdog.arm(4.5)
    assert (device.timeout, watchdog.seconds, watchdog.identity) == (5, 5, "stand-in")
    device.now = 4
    watchdog.feed()
    device.now = 8
    assert not device.bitten
    watchdog.disarm()
    assert not device.running and watchdog.seconds == 0


def test_one_that_can_only_count_longer_is_told_apart_and_used_while_that_is_safe(tmp_path: Path) -> None:
    device = StandIn(step=6)
    watchdog = safe(device, tmp_path)
    watchdog.arm(5)
    assert watchdog.seconds == 6 < longest_watchdog(5)


@pytest.mark.parametrize("device", [StandIn(step=60), StandIn(least=30), StandIn(options=WDIOF_MAGICCLOSE)])
def test_one_that_counts_longer_than_the_lease_allows_is_refused_once_and_stopped(
    device: StandIn, tmp_path: Path
) -> None:
    watchdog = safe(device, tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="60 s at least, and more than 7 s protect nothing"):
            watchdog.arm(5)
    assert not device.running and len(device.fed) <= 3
    watchdog.feed()
    assert not device.running


def test_one_that_cannot_be_set_is_used_if_it_is_quick_enough(tmp_path: Path) -> None:
    device = StandIn(options=WDIOF_MAGICCLOSE, timeout=4)
    watchdog = safe(device, tmp_path)
    watchdog.arm(5)
    assert device.running and watchdog.seconds == 4


def test_one_that_another_program_holds_is_taken_when_it_is_given_back(tmp_path: Path) -> None:
    device = StandIn()
    holder = device.open("")
    watchdog = safe(device, tmp_path)
    with pytest.raises(OSError):
        watchdog.arm(5)
    holder.close()
    watchdog.arm(5)
    assert watchdog.seconds == 5


def test_without_a_way_out_it_goes_on_after_it_was_stopped(tmp_path: Path) -> None:
    device = StandIn(nowayout=True)
    watchdog = safe(device, tmp_path)
    watchdog.arm(5)
    watchdog.disarm()
    device.now += 5
    assert device.bitten


def test_every_profile_leaves_room_for_its_watchdog() -> None:
    for profile in PROFILES.values():
        assert profile.watchdog < longest_watchdog(profile.watchdog) < profile.lease


def test_a_machine_without_one_has_none(tmp_path: Path) -> None:
    assert isinstance(open_watchdog("none", tmp_path / "watchdog"), NoWatchdog)
    assert open_watchdog("/dev/watchdog7", tmp_path / "watchdog").name == "/dev/watchdog7"


# the guard


class Watched:
    """A guard over a stand-in; its ticks are at times given by hand."""

    def __init__(self, root: Path, device: StandIn) -> None:
        self.paths, self.device = NodePaths(root), device
        self.paths.ha_marks.mkdir(parents=True, exist_ok=True)
        self.guard = self.make()

    def make(self) -> Guard:
        return Guard(self.paths, SafeWatchdog(DeviceWatchdog("/dev/watchdog", self.device.open), self.paths.watchdog))

    def mark(self) -> None:
        (self.paths.ha_marks / str(MARKED)).touch()

    def lease(self, until: float) -> None:
        write_lease(self.paths.lease, Lease(round(until * S), 3 * S, 5 * S, "abc", 1))

    def ticks(self, until: float) -> None:
        while self.device.now < until and not self.device.bitten:
            self.device.now = round(self.device.now + 0.05, 3)
            self.guard.tick(round(self.device.now * S))


def test_it_is_armed_only_where_there_is_something_to_guard(tmp_path: Path) -> None:
    watched = Watched(tmp_path, StandIn())
    watched.lease(10)
    watched.ticks(1)
    assert not watched.device.running
    watched.mark()
    watched.ticks(2)
    assert watched.device.running and watched.paths.watchdog.read_text() == "5\n"


def test_one_that_counts_longer_is_fed_only_while_the_lease_outlasts_it(tmp_path: Path) -> None:
    watched = Watched(tmp_path, StandIn(step=7))
    watched.mark()
    watched.lease(10)
    watched.ticks(6.9)
    assert max(watched.device.fed) <= 3.05
    assert watched.device.deadline is not None and watched.device.deadline <= 10.05


@pytest.mark.parametrize(("before", "after"), [("default", "fast"), ("fast", "default"), ("patient", "fast")])
def test_switching_the_profile_sets_it_anew_and_starves_it_never(tmp_path: Path, before: str, after: str) -> None:
    """With the time-out of the longer profile it would never be fed by a shorter lease."""
    device = StandIn()
    watched = Watched(tmp_path, device)
    watched.mark()
    for name in (before, after):
        profile = PROFILES[name]
        for _ in range(40):
            lease = Lease(
                round((device.now + profile.lease) * S), profile.kill_margin_ns, profile.watchdog_ns, "abc", 1
            )
            write_lease(watched.paths.lease, lease)
            watched.ticks(device.now + profile.beat)
        assert not device.bitten and device.timeout == profile.watchdog


def test_a_guard_that_follows_one_that_was_killed_feeds_what_that_has_armed(tmp_path: Path) -> None:
    """Its guests are dead, so it has no lease and no reason of its own to arm the watchdog; but that runs."""
    device = StandIn()
    watched = Watched(tmp_path, device)
    watched.mark()
    watched.lease(10)
    watched.ticks(2)
    device.opened = 0  # the kernel closes the file of a process that was killed
    watched.paths.lease.unlink()
    watched.guard = watched.make()
    watched.ticks(30)
    assert not device.bitten


def test_what_cannot_be_used_is_said_and_the_guard_goes_on(tmp_path: Path) -> None:
    watched = Watched(tmp_path, StandIn(least=30))
    watched.mark()
    watched.lease(10)
    watched.ticks(2)
    assert len(watched.guard.notes) == 1 and "protect nothing" in watched.guard.notes[0]
    assert not watched.device.running


def test_options_of_the_stand_in_are_those_of_the_kernel() -> None:
    assert ALL == 0x180
