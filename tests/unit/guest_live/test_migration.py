"""Live migration between two nodes over shared storage and TLS: whatever is cut off, exactly one guest is left."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from guest_nodes import put_under_ha
from guest_parts import DIRTY_MEMORY, HALT

from racimo.errors import (
    Cancelled,
    Conflict,
    NotFound,
    OperationFailed,
    RacimoError,
    Refused,
    StoreUnavailable,
    StoreUnknown,
    Unreachable,
)
from racimo.guest.migration import LiveMigration
from racimo.guest.migration_follow import MigrationLimits
from racimo.guest.migration_status import migration_status
from racimo.guest.operations import CreateGuest, DestroyGuest, MigrateGuest, StartGuest, StopGuest, SuspendGuest
from racimo.model.guest import Lock, RunState
from racimo.model.lease import Lease, boottime_ns, write_lease
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Sequence

    from guest_nodes import Datacenter, GuestNode

    from racimo.store.base import Compare, Put

CONFIG = {"memory": "32", "vga": "none", "balloon": "0"}
SLOW = 64
"""KiB a second: a migration that goes on for as long as a test needs."""


async def two_nodes(place: Datacenter, code: bytes = HALT, *, start: bool = True) -> tuple[GuestNode, GuestNode]:
    """A guest that runs on the first of two nodes."""
    source, target = await place.add("n1"), await place.add("n2")
    await source.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": place.boot_disk(code)}, start=start))
    source.follow()
    target.follow()
    return source, target


async def settled(source: GuestNode, target: GuestNode) -> tuple[str, int, dict[int, str], dict[int, str]]:
    """Owner and epoch by the record, and the processes of both nodes, once nothing is in doubt any more."""
    async with asyncio.timeout(20):
        while True:
            nodes = {"n1": source, "n2": target}
            guest = await source.layout.guests.get(100)
            runtime = await source.layout.runtimes.get(100)
            here = {name: await node.states() for name, node in nodes.items()}
            agrees = (runtime.state is RunState.RUNNING) == (here[guest.node] == {100: "running"})
            if agrees and all(states == {} for name, states in here.items() if name != guest.node):
                return guest.node, guest.epoch, here["n1"], here["n2"]
            await asyncio.sleep(0.05)  # records and processes of two nodes: no single event tells


def kill_guest(node: GuestNode) -> None:
    os.kill(node.units.children[100].pid, signal.SIGKILL)


async def started_migrating(source: GuestNode, operation: MigrateGuest) -> asyncio.Task[list[str]]:
    """The migration under way: memory is being sent."""
    task = asyncio.create_task(source.run(operation))
    monitor = await source.host.monitor(100)
    async with asyncio.timeout(20):
        with monitor.events("MIGRATION") as events:
            while (await monitor.query("query-migrate")).get("status") != "active":
                async with asyncio.timeout(20):
                    await events.get()
    return task


def give_lease(node: GuestNode) -> None:
    write_lease(node.paths.lease, Lease(boottime_ns() + 60 * 10**9, 3 * 10**9, 5 * 10**9, "x", 1))


async def test_a_running_guest_moves_and_the_record_says_so(place: Datacenter) -> None:
    source, target = await two_nodes(place, DIRTY_MEMORY)
    log = await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n2", 2, {}, {100: "running"})
    assert any("downtime" in line and "encrypted" not in line for line in log)
    back = await target.run(MigrateGuest(vmid=100, target="n1"))
    assert await settled(source, target) == ("n1", 3, {100: "running"}, {}) and back


async def test_a_paused_guest_stays_paused_when_it_moves(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    await source.run(SuspendGuest(vmid=100))
    await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await source.states() == {} and await target.states() == {100: "paused"}
    assert (await source.layout.runtimes.get(100)).state is RunState.PAUSED


async def test_a_stopped_guest_moves_by_its_record(place: Datacenter) -> None:
    source, target = await two_nodes(place, start=False)
    await source.run(MigrateGuest(vmid=100, target="n2"))
    guest = await source.layout.guests.get(100)
    assert (guest.node, guest.epoch) == ("n2", 2)
    await target.run(StartGuest(vmid=100))
    assert await settled(source, target) == ("n2", 2, {}, {100: "running"})


async def test_a_stopped_guest_does_not_move_where_it_could_never_start(place: Datacenter) -> None:
    source, _ = await two_nodes(place, start=False)
    place.storages["shared"] = replace(place.storages["shared"], nodes=("n1",))
    with pytest.raises(Refused, match="cannot be used on n2"):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    del place.wire.nodes["n2"]
    with pytest.raises(Unreachable):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    assert (await source.layout.guests.get(100)).node == "n1"


async def test_nothing_is_kept_of_a_guest_that_left_or_was_destroyed(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    await source.run(MigrateGuest(vmid=100, target="n2"))
    async with asyncio.timeout(10):
        while source.paths.guest_run(100).exists():  # noqa: ASYNC110 - the reconciler does it a moment later
            await asyncio.sleep(0.05)
    await target.run(StopGuest(vmid=100))
    assert source.paths.guest_log(100).exists() and target.paths.guest_log(100).exists()
    await target.run(DestroyGuest(vmid=100))
    assert not target.paths.guest_run(100).exists() and not target.paths.guest_log(100).exists()
    async with asyncio.timeout(10):
        while source.paths.guest_log(100).exists():  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.05)


async def test_a_node_that_was_off_when_a_guest_was_destroyed_keeps_nothing_of_it_either(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n2", 2, {}, {100: "running"})
    await source.kill_daemon()
    await target.run(StopGuest(vmid=100))
    await target.run(CreateGuest(vmid=101, config={**CONFIG, "virtio0": place.boot_disk(HALT)}))
    await target.run(DestroyGuest(vmid=100))
    for vmid in (100, 101):
        source.paths.guest_log(vmid).mkdir(parents=True, exist_ok=True)
    await source.restart()
    source.follow()
    async with asyncio.timeout(10):
        while source.paths.guest_log(100).exists():  # noqa: ASYNC110 - the reconciler does it a moment later
            await asyncio.sleep(0.05)
    assert source.paths.guest_log(101).exists()


async def test_a_guest_with_a_local_disk_is_refused_with_the_reason(place: Datacenter) -> None:
    source = await place.add("n1")
    await place.add("n2")
    await source.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": "local:0.01"}, start=True))
    with pytest.raises(Refused, match="exist on node n1 only"):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    await source.run(StopGuest(vmid=100))
    with pytest.raises(Refused, match="exist on node n1 only"):
        await source.run(MigrateGuest(vmid=100, target="n2"))


async def test_a_target_that_does_not_exist_is_named(place: Datacenter) -> None:
    source, _ = await two_nodes(place)
    with pytest.raises(NotFound, match="Node n9 does not exist"):
        await source.run(MigrateGuest(vmid=100, target="n9"))


async def test_a_target_without_the_storage_refuses_and_the_guest_goes_on(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    place.storages["shared"] = replace(place.storages["shared"], nodes=("n1",))
    with pytest.raises(Refused, match="cannot be used on n2"):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n1", 1, {100: "running"}, {})


async def test_a_cancelled_migration_leaves_the_guest_where_it_was(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    task = await started_migrating(source, MigrateGuest(vmid=100, target="n2", bwlimit=SLOW))
    [running] = [record.upid for record in source.tasks.list() if record.running]
    source.tasks.cancel(running)
    with pytest.raises(Cancelled):
        await task
    assert await settled(source, target) == ("n1", 1, {100: "running"}, {})


async def test_a_killed_target_qemu_leaves_the_guest_at_the_source(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    task = await started_migrating(source, MigrateGuest(vmid=100, target="n2", bwlimit=SLOW))
    kill_guest(target)
    with pytest.raises(OperationFailed, match="The migration of guest 100 failed"):
        await task
    assert await settled(source, target) == ("n1", 1, {100: "running"}, {})


async def test_a_killed_source_qemu_leaves_no_guest_running_and_says_why(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    task = await started_migrating(source, MigrateGuest(vmid=100, target="n2", bwlimit=SLOW))
    kill_guest(source)
    with pytest.raises(RacimoError):
        await task
    assert await settled(source, target) == ("n1", 1, {}, {})
    assert (await source.layout.runtimes.get(100)).reason == "QEMU was killed by signal 9"


async def test_a_target_killed_before_it_ran_gives_the_guest_back(place: Datacenter) -> None:
    source, target = await two_nodes(place, DIRTY_MEMORY)

    async def kill() -> None:
        kill_guest(target)
        await target.host.wait_gone(100, 10)

    place.wire.before["resume"] = kill
    with pytest.raises(OperationFailed, match="It goes on where it was"):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n1", 3, {100: "running"}, {})


async def test_a_target_that_ran_and_died_is_not_replaced_by_what_the_source_remembers(place: Datacenter) -> None:
    source, target = await two_nodes(place)

    async def kill() -> None:
        if 100 in target.host.vmids:
            kill_guest(target)
            await target.host.wait_gone(100, 10)
        raise Unreachable("the answer was lost", may_have_acted=True)

    place.wire.after["resume"] = kill
    await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n2", 2, {}, {})


async def test_a_lost_connection_after_the_commit_leaves_the_guest_at_the_target(place: Datacenter) -> None:
    source, target = await two_nodes(place)

    async def cut() -> None:
        raise Unreachable("the network is gone")

    place.wire.before["resume"] = cut
    log = await source.run(MigrateGuest(vmid=100, target="n2"))
    assert any(line.startswith("WARN") for line in log)
    assert await settled(source, target) == ("n2", 2, {}, {100: "running"})


async def test_a_target_that_cannot_be_told_to_give_up_does_so_by_itself(place: Datacenter) -> None:
    source, target = await two_nodes(place)

    async def cut() -> None:
        raise Unreachable("the network is gone")

    place.wire.before["abort"] = cut
    task = await started_migrating(source, MigrateGuest(vmid=100, target="n2", bwlimit=SLOW))
    [running] = [record.upid for record in source.tasks.list() if record.running]
    source.tasks.cancel(running)
    with pytest.raises(Cancelled):
        await task
    assert await settled(source, target) == ("n1", 1, {100: "running"}, {})


async def test_a_source_daemon_killed_while_sending_leaves_the_guest_at_the_source(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    lock = Lock(subject="guests/100", node="n1", incarnation="n1-1", task="t", reason="qmigrate")
    await source.layout.locks.create("guests/100", lock)
    view = await source.life.records.owned(100)
    limits = MigrationLimits(bandwidth=SLOW * 1024)

    class Silent:
        def log(self, text: str) -> None: ...
        def warn(self, text: str) -> None: ...
        def progress(self, fraction: float, text: str = "") -> None: ...

    migration = LiveMigration(source.life, view, "n2", limits, Silent())
    arrived = await migration._ask_in()
    sending = asyncio.create_task(migration._send(await source.host.monitor(100), arrived))
    monitor = await source.host.monitor(100)
    async with asyncio.timeout(10):
        while await target.states() != {100: "inmigrate"} or not (await migration_status(monitor)).active:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    sending.cancel()
    await asyncio.gather(sending, return_exceptions=True)
    await source.kill_daemon()
    await source.restart()
    await source.layout.locks.remove("guests/100")  # as the new daemon does with what the old one left
    source.follow()
    assert await settled(source, target) == ("n1", 1, {100: "running"}, {})
    assert (await monitor_status(source)) in ("cancelling", "cancelled", "failed")


async def monitor_status(node: GuestNode) -> str:
    return str((await (await node.host.monitor(100)).query("query-migrate")).get("status"))


async def test_a_source_daemon_killed_after_the_commit_leaves_the_guest_at_the_target(place: Datacenter) -> None:
    source, target = await two_nodes(place)

    async def die() -> None:
        raise asyncio.CancelledError

    place.wire.before["resume"] = die
    with pytest.raises((asyncio.CancelledError, Cancelled)):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    source.life.busy.doubt(100)
    assert await settled(source, target) == ("n2", 2, {}, {100: "running"})


class TroubledStore(MemoryStore):
    """Fails the transactions that change an owner as told: ``lost`` answers after a commit, ``down`` writes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.trouble: list[str] = []

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        if self.trouble and len(puts) == 2:
            kind = self.trouble.pop(0)
            if kind == "lost":
                await super().txn(compares, puts, deletes)
                raise StoreUnknown("the answer was lost")
            if kind == "lost before":
                raise StoreUnknown("the request was lost")
            raise StoreUnavailable("no quorum")
        return await super().txn(compares, puts, deletes)


@pytest.mark.parametrize("trouble", [["lost"], ["lost before"], ["down", "lost before", "lost"], ["down"]])
async def test_a_commit_with_an_unknown_outcome_is_found_out(place: Datacenter, trouble: list[str]) -> None:
    store = place.use(TroubledStore())
    source, target = await two_nodes(place)
    store.trouble = trouble
    await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n2", 2, {}, {100: "running"})


async def test_a_store_that_stays_away_gives_the_guest_back_to_the_source(place: Datacenter) -> None:
    store = place.use(TroubledStore())
    source, target = await two_nodes(place)
    store.trouble = ["down"] * 100
    with pytest.raises(StoreUnavailable):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n1", 1, {100: "running"}, {})


async def test_a_guest_taken_over_during_its_migration_runs_on_neither_side(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    await place.enrol("n3")
    task = await started_migrating(source, MigrateGuest(vmid=100, target="n2", bwlimit=SLOW))
    view = await source.life.records.view(100)
    assert await source.life.records.move(view, "n3", RunState.STOPPED, "fenced")
    await (await source.host.monitor(100)).execute("migrate-set-parameters", {"max-bandwidth": 1 << 40})
    with pytest.raises((Conflict, OperationFailed)):
        await task
    async with asyncio.timeout(15):
        assert await source.host.wait_gone(100, 15) and await target.host.wait_gone(100, 15)


async def test_an_ha_guest_moves_only_to_a_node_with_a_lease(place: Datacenter) -> None:
    source, target = await two_nodes(place)
    give_lease(source)
    await put_under_ha(source)
    with pytest.raises(Refused, match="may not run on node n2 now"):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n1", 1, {100: "running"}, {})
    give_lease(target)
    await source.run(MigrateGuest(vmid=100, target="n2"))
    assert await settled(source, target) == ("n2", 2, {}, {100: "running"})
    assert (target.paths.ha_marks / "100").exists()
