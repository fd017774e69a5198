"""The guard, run as systemd runs it, against real processes."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from guarded_node import BASE, GuardedNode, eventually

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator


@pytest.fixture
def node(tmp_path: Path) -> Iterator[GuardedNode]:
    guarded = GuardedNode(tmp_path)
    yield guarded
    guarded.close()


def dies(process: subprocess.Popen[bytes], within: float) -> float:
    return eventually(lambda: process.poll() is not None, within, "the guest's end")


def lives(process: subprocess.Popen[bytes], seconds: float = 0.4) -> bool:
    time.sleep(seconds)
    return process.poll() is None


def test_a_guest_runs_as_long_as_the_lease_is_renewed(node: GuardedNode) -> None:
    node.lease(1.5)
    guest = node.guest(1)
    for sequence in range(2, 7):
        node.lease(1.5, sequence=sequence)
        assert lives(guest, 0.3)


def test_an_expired_lease_kills_only_ha_guests_and_before_its_end(node: GuardedNode) -> None:
    node.lease(1.5, margin=0.8)
    marked, plain = node.guest(1), node.guest(2, marked=False)
    end = time.monotonic() + 1.5
    dies(marked, 1.4)
    assert time.monotonic() < end
    assert marked.returncode == -signal.SIGKILL
    assert lives(plain)


def test_without_a_lease_file_ha_guests_die_at_once(node: GuardedNode) -> None:
    node.lease(60)
    guest = node.guest(1)
    assert lives(guest)
    node.paths.lease.unlink()
    assert dies(guest, 5) < 0.5


@pytest.mark.parametrize("content", ["", "soon 1 1 abc 1\n", "9 9\n", "99999999999999999999 0 0 abc 1", "\xff\n"])
def test_what_is_not_a_lease_is_none(node: GuardedNode, content: str) -> None:
    node.lease(60)
    guest = node.guest(1)
    node.paths.lease.write_text(content)
    dies(guest, 5)
    assert guest.returncode == -signal.SIGKILL


def test_it_goes_on_killing_what_is_started_without_a_lease(node: GuardedNode) -> None:
    for number in (1, 2):
        dies(node.guest(number), 5)
    kills = node.report()["kills"]
    assert [kill["vmid"] for kill in kills] == [BASE + 1, BASE + 2]


def test_it_says_what_it_killed_and_when_that_was_dead(node: GuardedNode) -> None:
    guest = node.guest(1)
    dies(guest, 5)
    eventually(lambda: node.report()["kills"][0]["dead_ns"] > 0, 5, "the report of the end")
    kill = node.report()["kills"][0]
    assert kill["pid"] == guest.pid and kill["why"] == "no lease"
    assert 0 <= kill["dead_ns"] - kill["at_ns"] < 500_000_000


def test_killed_it_comes_back_and_kills_in_time(node: GuardedNode) -> None:
    node.lease(2.5)
    guest = node.guest(1)
    node.supervisor.process.kill()
    dies(guest, 2.4)
    assert node.supervisor.starts == 2


def test_stopped_it_is_replaced_before_the_lease_ends(node: GuardedNode) -> None:
    node.lease(4.0, margin=1.0)
    guest = node.guest(1)
    os.kill(node.supervisor.process.pid, signal.SIGSTOP)
    dies(guest, 3.9)
    assert node.supervisor.starts == 2


def test_it_is_small_and_nearly_idle(node: GuardedNode) -> None:
    node.lease(60)
    node.guest(1)
    time.sleep(0.5)
    process = Path(f"/proc/{node.supervisor.process.pid}")
    before = process.joinpath("stat").read_text().split()
    time.sleep(2)
    after = process.joinpath("stat").read_text().split()
    ticks = sum(int(after[place]) - int(before[place]) for place in (13, 14))
    resident = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmRSS"))
    assert int(resident.split()[1]) < 20 * 1024
    assert ticks / os.sysconf("SC_CLK_TCK") / 2 < 0.03


class Feeder:
    """The lab's watchdog: notes when it was fed."""

    def __init__(self, path: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._socket.setblocking(False)

    def heard(self) -> list[bytes]:
        words = []
        while True:
            try:
                words.append(self._socket.recv(100))
            except BlockingIOError:
                return words

    def close(self) -> None:
        self._socket.close()


def test_the_watchdog_is_fed_while_the_lease_outlasts_it_and_when_all_are_dead(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path / "watchdog")
    node = GuardedNode(tmp_path, f"unix:{tmp_path / 'watchdog'}")
    try:
        node.lease(60, watchdog=2.0)
        guest = node.guest(1)
        time.sleep(0.6)
        assert feeder.heard()[:2] == [b"arm 2", b"feed"]
        node.lease(1.9, margin=0.4, watchdog=2.0)  # too little left to feed, too much to kill
        time.sleep(0.3)
        feeder.heard()
        time.sleep(0.7)
        assert feeder.heard() == [] and guest.poll() is None
        dies(guest, 3)
        time.sleep(0.6)
        assert b"feed" in feeder.heard()
    finally:
        node.close()
        feeder.close()


def test_a_stopped_guard_feeds_no_watchdog(tmp_path: Path) -> None:
    feeder = Feeder(tmp_path / "watchdog")
    node = GuardedNode(tmp_path, f"unix:{tmp_path / 'watchdog'}")
    try:
        node.lease(60, watchdog=2.0)
        node.guest(1)
        time.sleep(0.5)
        os.kill(node.supervisor.process.pid, signal.SIGSTOP)
        time.sleep(0.1)
        feeder.heard()
        time.sleep(0.6)
        assert feeder.heard() == []
    finally:
        node.close()
        feeder.close()
