"""The life of guests on one node, by the store's rules."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest
from guest_nodes import put_under_ha
from guest_parts import HALT, OBEY_BUTTON, POWER_OFF

from racimo.errors import AlreadyExists, Cancelled, Conflict, NotFound, OperationFailed, Refused, StoreUnknown
from racimo.guest.operations import (
    ConfigureGuest,
    CreateGuest,
    DestroyGuest,
    RebootGuest,
    ResetGuest,
    ResumeGuest,
    ShutdownGuest,
    StartGuest,
    StopGuest,
    SuspendGuest,
)
from racimo.model.guest import RunState
from racimo.model.lease import Lease, boottime_ns, remove_lease, write_lease
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guest_nodes import Datacenter, GuestNode

    from racimo.store.base import Compare, Put

CONFIG = {"memory": "32", "vga": "none", "balloon": "0", "name": "tiny"}


async def a_guest(place: Datacenter, code: bytes = HALT, **config: str) -> GuestNode:
    node = await place.add("n1")
    await node.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": place.boot_disk(code), **config}))
    return node


async def written(node: GuestNode) -> tuple[RunState, str]:
    runtime = await node.layout.runtimes.get(100)
    return runtime.state, runtime.reason


async def until_written(node: GuestNode, state: RunState) -> str:
    async with asyncio.timeout(15):
        listing = await node.layout.store.list(node.layout.runtimes.prefix)
        if (await written(node))[0] is not state:
            async for _ in node.layout.store.watch(node.layout.runtimes.prefix, listing.revision):
                if (await written(node))[0] is state:
                    break
    return (await written(node))[1]


async def test_a_guest_is_created_started_and_stopped(place: Datacenter) -> None:
    node = await a_guest(place)
    guest = await node.layout.guests.get(100)
    assert guest.node == "n1" and guest.epoch == 1 and guest.config["machine"].startswith("pc-i440fx-")
    await node.run(StartGuest(vmid=100))
    assert await written(node) == (RunState.RUNNING, "") and await node.states() == {100: "running"}
    await node.run(StopGuest(vmid=100))
    assert await written(node) == (RunState.STOPPED, "Stopped") and await node.states() == {}
    await node.run(StopGuest(vmid=100))


async def test_a_number_that_is_taken_names_who_has_it(place: Datacenter) -> None:
    node = await a_guest(place)
    with pytest.raises(AlreadyExists, match="the number belongs to 'tiny' on node n1"):
        await node.run(CreateGuest(vmid=100, config=CONFIG))


async def test_a_guest_that_cannot_be_created_leaves_no_disk(place: Datacenter) -> None:
    node = await place.add("n1")
    with pytest.raises(NotFound, match="storage nowhere does not exist"):
        await node.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": "shared:1", "virtio1": "nowhere:1"}))
    assert [path for path in (place.root / "shared").rglob("*") if path.is_file()] == []


async def test_a_running_guest_is_not_started_twice(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    with pytest.raises(Conflict, match="Guest 100 is running"):
        await node.run(StartGuest(vmid=100))


async def test_a_start_loses_against_a_move_of_the_stopped_guest(place: Datacenter) -> None:
    node = await a_guest(place)
    await place.enrol("n2")
    view = await node.life.records.owned(100)
    assert await node.life.records.move(view, "n2", RunState.STOPPED, "")
    with pytest.raises(Conflict, match="cannot become starting"):
        await node.life.records.enter(view, RunState.STARTING)


async def test_a_command_for_another_epoch_is_refused(place: Datacenter) -> None:
    node = await a_guest(place)
    with pytest.raises(Conflict, match="it is for epoch 7, the guest is at epoch 1"):
        await node.run(StartGuest(vmid=100, epoch=7))


async def test_a_start_that_qemu_refuses_is_written_down_with_the_reason(place: Datacenter) -> None:
    node = await a_guest(place, args="-device no-such-device")
    with pytest.raises(OperationFailed, match="no-such-device"):
        await node.run(StartGuest(vmid=100))
    state, reason = await written(node)
    assert state is RunState.STOPPED and "no-such-device" in reason


async def test_an_ha_guest_starts_only_under_a_lease_and_with_its_mark(place: Datacenter) -> None:
    node = await a_guest(place)
    await put_under_ha(node)
    with pytest.raises(Refused, match="holds no valid HA lease"):
        await node.run(StartGuest(vmid=100))
    write_lease(node.paths.lease, Lease(boottime_ns() + 60 * 10**9, 3 * 10**9, 5 * 10**9, "x", 1))
    await node.run(StartGuest(vmid=100))
    assert (node.paths.ha_marks / "100").exists()
    await node.run(SuspendGuest(vmid=100))
    remove_lease(node.paths.lease)
    with pytest.raises(Refused, match="holds no valid HA lease"):
        await node.run(ResumeGuest(vmid=100))


async def test_only_the_node_that_owns_a_guest_marks_it_for_its_guard(place: Datacenter) -> None:
    node, other = await a_guest(place), await place.add("n2")
    await node.life.mark(100)
    assert (node.paths.ha_marks / "100").exists()
    with pytest.raises(Conflict, match="does not belong to node n2"):
        await other.life.mark(100)
    assert not (other.paths.ha_marks / "100").exists()


class ForgetfulStore(MemoryStore):
    """Commits the next transition to ``loses`` and loses its answer, or has the task cancelled (``cancels``)."""

    def __init__(self) -> None:
        super().__init__()
        self.loses: RunState | None = None
        self.cancels = False

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        revision = await super().txn(compares, puts, deletes)
        if self.loses is not None and any(f'"state":"{self.loses}"'.encode() in put.value for put in puts):
            self.loses = None
            raise asyncio.CancelledError if self.cancels else StoreUnknown("the answer was lost")
        return revision


@pytest.mark.parametrize("cancels", [False, True], ids=["the answer is lost", "the task is cancelled"])
async def test_a_stop_that_was_written_without_an_answer_is_gone_on_with(place: Datacenter, *, cancels: bool) -> None:
    store = place.use(ForgetfulStore())
    node = await a_guest(place)
    node.follow()
    await node.run(StartGuest(vmid=100))
    store.loses, store.cancels = RunState.STOPPING, cancels
    with pytest.raises((StoreUnknown, Cancelled, asyncio.CancelledError)):
        await node.run(StopGuest(vmid=100))
    assert "its stop was interrupted" in await until_written(node, RunState.STOPPED)
    assert await node.states() == {}


async def test_a_stop_that_the_guest_withstands_is_gone_on_with(place: Datacenter) -> None:
    node = await a_guest(place)
    node.follow()
    await node.run(StartGuest(vmid=100))
    stop = node.host.stop

    async def withstand(vmid: int) -> None:
        node.host.stop = stop  # type: ignore[method-assign]
        raise OperationFailed(f"Guest {vmid} does not die")

    node.host.stop = withstand  # type: ignore[method-assign]
    with pytest.raises(OperationFailed, match="does not die"):
        await node.run(StopGuest(vmid=100))
    await until_written(node, RunState.STOPPED)
    assert await node.states() == {}


async def test_suspend_resume_and_reset_keep_the_record_right(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    await node.run(SuspendGuest(vmid=100))
    assert await written(node) == (RunState.PAUSED, "Suspended") and await node.states() == {100: "paused"}
    await node.run(ResumeGuest(vmid=100))
    await node.run(ResetGuest(vmid=100))
    assert (await written(node))[0] is RunState.RUNNING and await node.states() == {100: "running"}


async def test_a_guest_that_does_not_shut_down_is_stopped_when_forced(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    with pytest.raises(OperationFailed, match=r"did not shut down within 0\.2 s"):
        await node.run(ShutdownGuest(vmid=100, timeout=0.2))
    assert (await written(node))[0] is RunState.RUNNING
    log = await node.run(ShutdownGuest(vmid=100, timeout=0.2, force_stop=True))
    assert any("is stopped" in line for line in log) and (await written(node))[0] is RunState.STOPPED


async def test_a_reboot_ends_the_old_process_and_starts_a_new_one(place: Datacenter) -> None:
    node = await a_guest(place, OBEY_BUTTON)
    await node.run(StartGuest(vmid=100))
    before = await node.host.status(100)
    await node.run(RebootGuest(vmid=100, timeout=20))
    after = await node.host.status(100)
    assert before is not None and after is not None and before.pid != after.pid and after.state == "running"


async def test_a_crash_is_written_down_with_its_reason(place: Datacenter) -> None:
    node = await a_guest(place)
    node.follow()
    await node.run(StartGuest(vmid=100))
    status = await node.host.status(100)
    assert status is not None
    os.kill(status.pid, signal.SIGKILL)
    assert await until_written(node, RunState.STOPPED) == "QEMU was killed by signal 9"


async def test_a_guest_that_shuts_itself_down_is_written_down(place: Datacenter) -> None:
    node = await a_guest(place, POWER_OFF)
    node.follow()
    await node.run(StartGuest(vmid=100))
    assert await until_written(node, RunState.STOPPED) == "The guest shut itself down"


async def test_a_new_daemon_takes_the_running_guest_over(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    before = await node.host.status(100)
    await node.kill_daemon()
    await node.restart()
    await node.reconciler.once()
    after = await node.host.status(100)
    assert before is not None and after is not None and before.pid == after.pid
    assert (await written(node))[0] is RunState.RUNNING
    await node.run(StopGuest(vmid=100))


async def test_a_new_daemon_writes_down_a_guest_that_died_meanwhile(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    status = await node.host.status(100)
    assert status is not None
    await node.kill_daemon()
    os.kill(status.pid, signal.SIGKILL)
    await node.restart()
    await node.reconciler.once()
    assert await written(node) == (RunState.STOPPED, "QEMU was killed by signal 9")


async def test_a_process_that_belongs_to_another_node_is_destroyed(place: Datacenter) -> None:
    node = await a_guest(place)
    node.follow()
    await node.run(StartGuest(vmid=100))
    await place.enrol("n2")
    view = await node.life.records.view(100)
    assert await node.life.records.move(view, "n2", RunState.RUNNING, "taken over")
    async with asyncio.timeout(15):
        await node.host.wait_gone(100, 15)
    runtime = await node.layout.runtimes.get(100)
    assert (runtime.node, runtime.state) == ("n2", RunState.RUNNING)


async def test_guests_go_on_while_the_store_does_not_answer(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    await node.kill_daemon()
    await node.restart()
    await place.store.close()
    await node.reconciler.once()
    assert await node.states() == {100: "running"}


async def test_a_guest_is_destroyed_with_its_disks_and_records(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    with pytest.raises(Conflict, match="Guest 100 is running"):
        await node.run(DestroyGuest(vmid=100))
    await node.run(StopGuest(vmid=100))
    await put_under_ha(node)
    with pytest.raises(Refused, match="is an HA resource"):
        await node.run(DestroyGuest(vmid=100))
    await node.run(DestroyGuest(vmid=100, purge=True))
    assert await node.layout.guests.all() == {} and await node.layout.runtimes.all() == {}
    assert await node.layout.resources.all() == {}
    assert [path for path in (place.root / "shared").rglob("*") if path.is_file()] == []


async def test_a_change_of_configuration_says_what_needs_a_restart(place: Datacenter) -> None:
    node = await a_guest(place)
    await node.run(StartGuest(vmid=100))
    log = await node.run(ConfigureGuest(vmid=100, values={"memory": "64", "name": "big"}))
    assert any(line.startswith("memory: will be seen at the next start") for line in log)
    assert (await node.layout.guests.get(100)).config["memory"] == "64"


async def test_guests_with_onboot_start_once_per_boot_in_order(place: Datacenter) -> None:
    node = await a_guest(place, onboot="1", startup="order=2")
    await node.run(CreateGuest(vmid=101, config={**CONFIG, "onboot": "1", "startup": "order=1"}))
    await node.run(CreateGuest(vmid=102, config=CONFIG))
    started: list[int] = []

    async def start(vmid: int) -> None:
        started.append(vmid)

    await node.reconciler.start_on_boot(start)
    await node.reconciler.start_on_boot(start)
    assert started == [101, 100]
