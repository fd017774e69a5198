"""Migrations that are broken off in the middle: whatever dies, exactly one guest is left, and the journal proves it."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest
from lab_talk import call, guest_row, settled, standing_lab, until, verdict, well, written

from racimo.errors import RacimoError
from racimo.lab.datacenter import api
from racimo.lab.demo import create_guest
from racimo.lab.watch import guest_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from racimo.lab.lab import Lab

pytestmark = [pytest.mark.lab, pytest.mark.root]

VMID = 100
SLOW = "1M"
"""Bytes a second: the migration takes some half a minute, and is broken off long before."""


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three nodes, and a guest on n1 that keeps its journal."""
    with standing_lab("rb") as lab:
        asyncio.run(create_guest(lab.node("n1"), VMID, lab))
        yield lab


async def under_way(lab: Lab) -> str:
    """Have the guest run on n1 and begin a slow migration to n2; returns its task when memory is being sent."""
    n1 = lab.node("n1")
    row = await guest_row(n1, VMID)
    if row["status"] != "running":
        await call(n1, "post", f"/nodes/{row['node']}/qemu/{VMID}/status/start")
    await written(lab, VMID, 3)
    if row["node"] != "n1":
        await well(n1, "guest", "migrate", str(VMID), "n1")
    upid = str((await well(n1, "guest", "migrate", str(VMID), "n2", "--bwlimit", SLOW, "--no-wait"))["upid"])

    async def sending() -> bool:
        lines = await call(n1, "get", f"/nodes/n1/tasks/{upid}/log")
        return "sending to" in str(lines)

    await until("memory being sent", sending)
    assert sorted(process.node for process in guest_processes(lab, VMID)) == ["n1", "n2"]
    return upid


async def ended(lab: Lab, upid: str) -> str:
    """Wait for the end of the task; returns what it failed with."""
    async with api(lab.node("n1")) as client:
        try:
            await client.wait_task(upid, timeout=60)
        except RacimoError as error:
            return str(error)
    raise AssertionError("the migration succeeded")


def homes(lab: Lab) -> list[str]:
    """The nodes on which the guest has a process."""
    return [process.node for process in guest_processes(lab, VMID)]


def kill_guest(lab: Lab, node: str) -> None:
    """``kill -9`` of the guest's QEMU on that node."""
    (process,) = [process for process in guest_processes(lab, VMID) if process.node == node]
    os.kill(process.pid, signal.SIGKILL)


async def goes_on(lab: Lab, node: str) -> None:
    """One process, where the record says; it writes, nothing was lost, and never two wrote."""
    assert await settled(lab, lab.node("n3"), VMID) == node
    assert (await written(lab, VMID)).name == node
    report = await verdict(lab, VMID)
    assert report.writers_at_once == 1


async def rests(lab: Lab) -> None:
    """No process anywhere, and the record says stopped on n1; then the guest starts there again."""

    async def stopped() -> bool:
        row = await guest_row(lab.node("n3"), VMID)
        return (row.get("node"), row.get("status")) == ("n1", "stopped") and not guest_processes(lab, VMID)

    await until("no process of the guest, and its record stopped on n1", stopped)
    await well(lab.node("n3"), "guest", "start", str(VMID))
    await goes_on(lab, "n1")


async def test_a_cancelled_migration_leaves_the_guest_at_its_source(lab: Lab) -> None:
    upid = await under_way(lab)
    await well(lab.node("n2"), "task", "cancel", upid)
    assert "cancel" in (await ended(lab, upid)).lower()
    await goes_on(lab, "n1")
    assert homes(lab) == ["n1"]


async def test_a_target_that_is_killed_leaves_the_guest_at_its_source(lab: Lab) -> None:
    upid = await under_way(lab)
    kill_guest(lab, "n2")
    assert "failed" in await ended(lab, upid)
    await goes_on(lab, "n1")
    assert homes(lab) == ["n1"]


async def test_a_source_that_is_killed_leaves_one_stopped_guest(lab: Lab) -> None:
    upid = await under_way(lab)
    kill_guest(lab, "n1")
    assert await ended(lab, upid)
    await rests(lab)
    assert homes(lab) == ["n1"]


async def test_a_daemon_killed_at_the_source_leaves_the_guest_there(lab: Lab) -> None:
    await under_way(lab)
    await lab.node("n1").succeed("systemctl", "kill", "-s", "KILL", "racimo-node")
    await until("the daemon of n1 again", lambda: serves(lab, "n1"))
    await goes_on(lab, "n1")
    assert homes(lab) == ["n1"]


async def test_a_daemon_killed_at_the_target_leaves_one_guest(lab: Lab) -> None:
    """The two QEMUs go on without it: the migration may succeed, or not. Here it is cancelled before."""
    upid = await under_way(lab)
    await lab.node("n2").succeed("systemctl", "kill", "-s", "KILL", "racimo-node")
    await until("the daemon of n2 again", lambda: serves(lab, "n2"))
    await well(lab.node("n1"), "task", "cancel", upid)
    await ended(lab, upid)
    await goes_on(lab, "n1")
    assert homes(lab) == ["n1"]


async def serves(lab: Lab, name: str) -> bool:
    try:
        await call(lab.node(name), "get", "/cluster/resources")
    except (RacimoError, OSError):
        return False
    return True


async def test_a_power_cut_of_the_target_leaves_the_guest_at_its_source(lab: Lab) -> None:
    upid = await under_way(lab)
    await lab.node("n2").power_cut()
    try:
        assert await ended(lab, upid)
        await goes_on(lab, "n1")
        assert homes(lab) == ["n1"]
    finally:
        await lab.node("n2").boot()
    await until("the daemon of n2 again", lambda: serves(lab, "n2"))


async def test_a_power_cut_of_the_source_leaves_one_stopped_guest(lab: Lab) -> None:
    """The target must not let run what it got: half of a memory."""
    await under_way(lab)
    n1 = lab.node("n1")
    await n1.power_cut()

    async def dropped() -> bool:
        return not guest_processes(lab, VMID)

    try:
        await until("the target's process gone, or about to go when n1 is back", dropped, 20)
    except AssertionError:
        assert homes(lab) == ["n2"]
    finally:
        await n1.boot()
    await until("the daemon of n1 again", lambda: serves(lab, "n1"))
    await rests(lab)
    assert homes(lab) == ["n1"]


async def test_a_migration_after_all_that_still_succeeds(lab: Lab) -> None:
    n1 = lab.node("n1")
    if (await guest_row(n1, VMID))["status"] != "running":
        await call(n1, "post", f"/nodes/n1/qemu/{VMID}/status/start")
    await well(n1, "guest", "migrate", str(VMID), "n2")
    await goes_on(lab, "n2")
    assert homes(lab) == ["n2"]
