"""What holds a node's shutdown up, and for how long at most."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from aiohttp import web
from one_node import HandClock

from racimo.ha.announce import (
    LIMIT_S,
    SETTLED_S,
    SILENT_S,
    UNHEARD_S,
    Progress,
    SocketDaemon,
    Status,
    announce,
    hold_up,
    kind_of,
)
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

JOBS = """127 systemd-poweroff.service     start waiting
126 {target}              start waiting
131 umount.target                start waiting
208 racimo-shutdown.service      stop  running
"""
READY, BUSY = Status(True, Progress(True)), Status(True, Progress(False, "1 of its HA guests is still here"))


class JumpingClock(HandClock):
    """Sleeping moves it."""

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        await asyncio.sleep(0)


class Says:
    """A daemon that says at each moment what ``how`` says."""

    def __init__(self, clock: JumpingClock, how: Callable[[float], Status | None]) -> None:
        self.clock, self.how, self.began = clock, how, clock.now

    async def status(self) -> Status | None:
        return self.how(self.clock.now - self.began)


async def held(how: Callable[[float], Status | None]) -> tuple[float, str, list[str]]:
    clock, told = JumpingClock(), list[str]()
    began = clock.now
    why = await hold_up(Says(clock, how), clock, told.append)
    return clock.now - began, why, told


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("reboot.target", "reboot"),
        ("kexec.target", "reboot"),
        ("poweroff.target", "poweroff"),
        ("halt.target", "poweroff"),
        ("rescue.target", ""),
    ],
)
def test_what_the_machine_does_is_told_from_the_jobs_of_its_systemd(target: str, kind: str) -> None:
    assert kind_of(JOBS.format(target=target)) == kind


def test_a_unit_that_is_stopped_by_hand_is_no_shutdown() -> None:
    assert kind_of("17 racimo-shutdown.service stop running\n18 reboot.target stop waiting\n") == ""
    assert kind_of("No jobs running.\n") == ""


async def test_the_node_ends_when_nothing_has_been_left_for_a_moment() -> None:
    took, why, told = await held(lambda at: READY if at > 10 else BUSY)
    assert 10 + SETTLED_S <= took < 11 + SETTLED_S
    assert why == "HA is done with this node" and told == ["1 of its HA guests is still here"]


async def test_what_comes_back_while_it_settles_is_waited_for_again() -> None:
    took, _, _ = await held(lambda at: BUSY if at < 1 or 1.5 < at < 5 else READY)
    assert took >= 5 + SETTLED_S


async def test_a_daemon_that_is_restarted_is_waited_for_and_one_that_is_gone_is_not() -> None:
    took, why, _ = await held(lambda at: None if 2 < at < 2 + SILENT_S - 1 else READY if at > 5 else BUSY)
    assert why == "HA is done with this node"
    took, why, _ = await held(lambda at: BUSY if at < 2 else None)
    assert took < 3 + SILENT_S and "has not answered" in why


async def test_without_the_store_nobody_acts_so_nothing_is_waited_for() -> None:
    took, why, _ = await held(lambda at: Status(at < 5, Progress(False, "left")))
    assert took < 6 + UNHEARD_S and "the store has not taken heartbeats" in why


async def test_there_is_an_end_to_it() -> None:
    took, why, _ = await held(lambda at: BUSY)
    assert took < LIMIT_S + 1 and "still here" in why


async def test_it_is_announced_to_the_daemon_and_followed_over_its_socket(tmp_path: Path) -> None:
    paths = NodePaths(tmp_path)
    paths.run.mkdir(parents=True)

    async def status(request: web.Request) -> web.Response:
        assert paths.shutdown.read_text() == "reboot\n"
        shutdown = {"mode": "reboot", "policy": "conditional", "ready": True, "why": "", "guests": 0}
        return web.json_response({"node": "n1", "in_touch": True, "shutdown": shutdown})

    app = web.Application()
    app.router.add_get("/status", status)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.UnixSite(runner, str(paths.ha_socket)).start()
    clock, told = JumpingClock(), list[str]()
    try:
        jobs = JOBS.format(target="reboot.target")
        said = await announce(paths, jobs, SocketDaemon(paths.ha_socket), clock, told.append)
    finally:
        await runner.cleanup()
    assert said == "reboot: HA is done with this node"


async def test_where_ha_does_not_run_or_nothing_is_shut_down_nothing_is_announced(tmp_path: Path) -> None:
    paths, clock = NodePaths(tmp_path), JumpingClock()
    paths.run.mkdir(parents=True)
    daemon = SocketDaemon(paths.ha_socket)
    said = await announce(paths, JOBS.format(target="reboot.target"), daemon, clock, lambda why: None)
    assert said == "reboot: HA does not run here"
    paths.ha_socket.touch()
    assert await announce(paths, "", daemon, clock, lambda why: None) == "this machine is not being shut down"
    assert not paths.shutdown.exists()
