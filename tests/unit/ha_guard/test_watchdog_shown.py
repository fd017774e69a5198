"""What ``racimo ha status`` says of a node's watchdog, by its guard's own report."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from watchdog_stand_in import StandIn

from racimo.ha.guard import Guard
from racimo.ha.local import LocalKeeper
from racimo.ha.watchdog import DeviceWatchdog, NoWatchdog, SafeWatchdog
from racimo.model.lease import Lease, write_lease
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from pathlib import Path

    from racimo.ha.watchdog import Watchdog

S = 1_000_000_000
MARKED = 999_999_902


def shown(root: Path, device: StandIn | None, *, guests: bool) -> str:
    """After a guard has looked once, with or without an HA guest in the datacenter."""
    paths = NodePaths(root)
    keeper = LocalKeeper(paths)
    if guests:
        keeper.mark(MARKED)
    write_lease(paths.lease, Lease(100 * S, 3 * S, 5 * S, "abc", 1))
    watchdog: Watchdog = NoWatchdog()
    if device is not None:
        watchdog = SafeWatchdog(DeviceWatchdog("/dev/watchdog", device.open), paths.watchdog)
    Guard(paths, watchdog).tick(50 * S)
    said = keeper.watchdog()
    keeper.close()
    return said


def test_an_armed_one_says_what_it_is_and_when_it_resets(tmp_path: Path) -> None:
    assert shown(tmp_path, StandIn(), guests=True) == "stand-in on /dev/watchdog, armed: resets after 5 s"
    assert shown(tmp_path / "slower", StandIn(step=6), guests=True).endswith("resets after 6 s")


def test_one_that_guards_nothing_is_not_armed(tmp_path: Path) -> None:
    assert shown(tmp_path, StandIn(), guests=False) == "/dev/watchdog, not armed"


def test_one_that_cannot_be_used_says_why(tmp_path: Path) -> None:
    said = shown(tmp_path, StandIn(least=30), guests=True)
    assert said.startswith("/dev/watchdog cannot be used:") and "60 s at least, and more than 7 s" in said


@pytest.mark.parametrize("guests", [True, False])
def test_a_node_without_one_says_nothing(tmp_path: Path, guests: bool) -> None:
    assert shown(tmp_path, None, guests=guests) == ""


def test_without_a_report_nothing_is_known(tmp_path: Path) -> None:
    keeper = LocalKeeper(NodePaths(tmp_path))
    assert keeper.watchdog() == ""
    keeper.close()
