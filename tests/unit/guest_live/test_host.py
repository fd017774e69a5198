"""The processes of a node's guests: real QEMU, tiny guests."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest
from guest_parts import HALT, POWER_OFF, boot_disk, qemu

from racimo.errors import Conflict, NotFound, OperationFailed
from racimo.guest.host import GuestHost, GuestLaunch
from racimo.guest.qemu.monitor import CommandRefused, MonitorSilent
from racimo.model.lease import Lease, boottime_ns, write_lease

if TYPE_CHECKING:
    from guest_parts import ChildUnits

    from racimo.model.paths import NodePaths


def launch_of(paths: NodePaths, code: bytes = HALT, *more: str, **settings: object) -> GuestLaunch:
    disk = boot_disk(paths.root / "disk.raw", code)
    return GuestLaunch(vmid=100, epoch=3, argv=qemu(paths, 100, disk, *more), **settings)  # type: ignore[arg-type]


async def exit_of(host: GuestHost) -> str:
    async with asyncio.timeout(10):
        return (await host.exits.get()).reason


async def test_a_launched_guest_waits_paused_until_it_is_let_run(host: GuestHost, paths: NodePaths) -> None:
    await host.launch(launch_of(paths))
    status = await host.status(100)
    assert status is not None and status.state == "prelaunch" and status.epoch == 3
    await host.cont(100)
    await host.pause(100)
    status = await host.status(100)
    assert status is not None and status.state == "paused"
    assert status.usage is not None and status.usage.memory > 1 << 20
    await host.stop(100)
    assert await host.status(100) is None
    assert await exit_of(host) == "It was stopped"


async def test_a_guest_that_shuts_itself_down_is_told_with_that_reason(host: GuestHost, paths: NodePaths) -> None:
    await host.launch(launch_of(paths, POWER_OFF))
    await host.cont(100)
    assert await exit_of(host) == "The guest shut itself down"


async def test_a_killed_guest_is_told_with_the_signal(host: GuestHost, paths: NodePaths) -> None:
    await host.launch(launch_of(paths))
    await host.kill(100)
    assert await exit_of(host) == "QEMU was killed by signal 9"


async def test_a_killed_qemu_is_reported_as_a_fault(host: GuestHost, paths: NodePaths) -> None:
    await host.launch(launch_of(paths))
    status = await host.status(100)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        gone = await host.exits.get()
    assert (gone.vmid, gone.epoch, gone.orderly) == (100, 3, False)
    assert host.vmids == frozenset()


async def test_a_new_daemon_finds_the_running_guest(host: GuestHost, paths: NodePaths, units: ChildUnits) -> None:
    await host.launch(launch_of(paths))
    await host.cont(100)
    before = await host.status(100)
    await host.close()
    other = GuestHost(paths, units)
    try:
        assert await other.adopt() == {100}
        assert await other.adopt() == frozenset()
        after = await other.status(100)
        assert before is not None and after is not None
        assert (after.pid, after.epoch, after.state) == (before.pid, 3, "running")
        await other.stop(100)
        assert await exit_of(other) == "It was stopped"
    finally:
        await other.close()


async def test_two_launches_of_one_guest_conflict(host: GuestHost, paths: NodePaths) -> None:
    await host.launch(launch_of(paths))
    with pytest.raises(Conflict):
        await host.launch(launch_of(paths))
    assert host.vmids == {100}


async def test_what_qemu_prints_when_it_refuses_stands_in_the_error(host: GuestHost, paths: NodePaths) -> None:
    with pytest.raises(OperationFailed, match="no-such-device"):
        await host.launch(launch_of(paths, HALT, "-device", "no-such-device"))
    assert host.vmids == frozenset()


async def test_a_missing_bridge_undoes_the_start(host: GuestHost, paths: NodePaths) -> None:
    from racimo.guest.network import Tap

    with pytest.raises(Exception, match="no bridge 'vmbr-none'"):
        await host.launch(launch_of(paths, taps=(Tap("tap100i0", "vmbr-none"),)))
    assert host.vmids == frozenset()


async def test_an_ha_guest_does_not_start_without_a_lease(host: GuestHost, paths: NodePaths) -> None:
    with pytest.raises(OperationFailed, match="no valid HA lease"):
        await host.launch(launch_of(paths, lease=paths.lease))


async def test_an_ha_guest_starts_under_a_lease(host: GuestHost, paths: NodePaths) -> None:
    paths.run.mkdir(parents=True)
    write_lease(paths.lease, Lease(boottime_ns() + 60 * 10**9, 3 * 10**9, 5 * 10**9, "abc", 1))
    await host.launch(launch_of(paths, lease=paths.lease))
    assert host.vmids == {100}


async def test_a_cancelled_start_leaves_no_process(host: GuestHost, paths: NodePaths, units: ChildUnits) -> None:
    async with asyncio.TaskGroup() as group:
        starting = group.create_task(host.launch(launch_of(paths)))
        async with asyncio.timeout(10):
            while 100 not in units.children:  # noqa: ASYNC110 - cut at any moment
                await asyncio.sleep(0)
        starting.cancel()
    assert host.vmids == frozenset() and await host.adopt() == frozenset()


async def test_a_command_that_qemu_refuses_carries_its_words(host: GuestHost, paths: NodePaths) -> None:
    await host.launch(launch_of(paths))
    with pytest.raises(CommandRefused, match="object-del failed for guest 100: object 'x' not found"):
        await (await host.monitor(100)).execute("object-del", {"id": "x"})


async def test_a_qemu_that_hangs_is_reported_within_the_time_out(host: GuestHost, paths: NodePaths) -> None:
    await host.launch(launch_of(paths))
    status = await host.status(100)
    assert status is not None
    monitor = await host.monitor(100)
    os.kill(status.pid, signal.SIGSTOP)
    with pytest.raises(MonitorSilent, match=r"did not answer within 0\.2 s"):
        await monitor.execute("query-status", timeout=0.2)
    await host.kill(100)


async def test_a_guest_without_a_process_is_named(host: GuestHost) -> None:
    with pytest.raises(NotFound, match="Guest 7 is not running on this node"):
        await host.monitor(7)
