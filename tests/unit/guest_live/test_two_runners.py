"""Ways to have a guest run twice, or on from an old state, that were found by looking for them. None may work."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from guest_nodes import put_under_ha
from guest_parts import HALT, OBEY_BUTTON

from racimo.errors import Conflict, OperationFailed, Refused, StoreUnknown, Unreachable
from racimo.guest.busy import Busy
from racimo.guest.ha_operations import HaStart
from racimo.guest.migration import LiveMigration
from racimo.guest.migration_follow import MigrationLimits
from racimo.guest.operations import CreateGuest, MigrateGuest, StartGuest
from racimo.model.guest import Lock, RunState
from racimo.model.lease import Lease, boottime_ns, write_lease
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from guest_nodes import Datacenter, GuestNode

    from racimo.guest.units import UnitStart
    from racimo.store.base import Compare, Put, Stored

CONFIG = {"memory": "32", "vga": "none", "balloon": "0"}
MIGRATING = Lock(subject="guests/100", node="n1", incarnation="n1-1", task="t", reason="qmigrate")


class Silent:
    """A report that nobody reads."""

    def log(self, text: str) -> None: ...
    def warn(self, text: str) -> None: ...
    def progress(self, fraction: float, text: str = "") -> None: ...


class EventfulStore(MemoryStore):
    """Does what a test says after a record was read, or instead of a change of an owner, each once."""

    def __init__(self) -> None:
        super().__init__()
        self.after_get: dict[str, Callable[[], Awaitable[None]]] = {}
        self.instead_of_move: Callable[[], Awaitable[None]] | None = None

    async def get(self, key: str) -> Stored | None:
        found = await super().get(key)
        await self._read([key])
        return found

    async def snapshot(self, keys: Sequence[str]) -> tuple[Stored | None, ...]:
        found = await super().snapshot(keys)
        await self._read(keys)
        return found

    async def _read(self, keys: Sequence[str]) -> None:
        for event in [self.after_get.pop(key) for key in keys if key in self.after_get]:
            await event()

    async def txn(
        self, compares: Sequence[Compare] = (), puts: Sequence[Put] = (), deletes: Sequence[str] = ()
    ) -> int | None:
        event, self.instead_of_move = (self.instead_of_move, None) if len(puts) == 2 else (None, self.instead_of_move)
        if event is not None:
            await event()
            raise StoreUnknown("the request was lost")
        return await super().txn(compares, puts, deletes)


async def two_nodes(place: Datacenter, code: bytes = HALT) -> tuple[GuestNode, GuestNode]:
    source, target = await place.add("n1"), await place.add("n2")
    await source.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": place.boot_disk(code)}, start=True))
    return source, target


async def sent(source: GuestNode) -> None:
    """A migration up to its commit: all is sent, both halt."""
    migration = LiveMigration(source.life, await source.life.records.owned(100), "n2", MigrationLimits(), Silent())
    arrived = await migration._ask_in()
    await migration._send(await source.host.monitor(100), arrived)


async def until_state(node: GuestNode, states: dict[int, str]) -> None:
    async with asyncio.timeout(15):
        while await node.states() != states:  # noqa: ASYNC110 - QEMU tells of it in no one event
            await asyncio.sleep(0.05)


def give_lease(node: GuestNode, incarnation: str) -> None:
    write_lease(node.paths.lease, Lease(boottime_ns() + 60 * 10**9, 3 * 10**9, 5 * 10**9, incarnation, 1))


async def test_a_start_that_outlives_its_lease_does_not_go_on_under_the_next_one(place: Datacenter) -> None:
    """The daemon halts after STARTING; the node is fenced, the guest recovered; the node gets a new lease."""
    node = await place.add("n1")
    await place.enrol("n2")
    await node.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": place.boot_disk(HALT)}))
    await put_under_ha(node)
    give_lease(node, "first")
    start, began = node.units.start, []

    async def halted(order: UnitStart) -> None:
        view = await node.life.records.view(100)
        assert view.state is RunState.STARTING
        assert await node.life.records.move(view, "n2", RunState.RUNNING, "n1's lease ran out")
        give_lease(node, "second")
        await start(order)
        began.append(order)

    node.units.start = halted  # type: ignore[method-assign]
    with pytest.raises((Refused, OperationFailed)):
        await node.run(StartGuest(vmid=100))
    assert began and not node.host.last_started_with(100).released
    assert "no valid HA lease" in (node.paths.guest_log(100) / "qemu.log").read_text()  # QEMU never opened the disk


async def test_a_daemon_that_lets_a_guest_go_on_undoes_the_move_of_the_daemon_before(place: Datacenter) -> None:
    """The daemon is killed while its commit is on the way to the store, where it arrives late."""
    source, _ = await two_nodes(place)
    await source.layout.locks.create("guests/100", MIGRATING)
    under_way = await source.life.records.owned(100)
    await sent(source)
    await source.kill_daemon()
    await source.restart()
    source.follow()
    await until_state(source, {100: "running"})
    assert not await source.life.records.move(under_way, "n2", RunState.RUNNING, "")


async def test_a_guest_that_ran_at_its_target_and_broke_there_is_not_taken_back(place: Datacenter) -> None:
    """Its target let it run, the answer was lost, and then it is refused to go on: its disks are newer by then."""
    source, target = await two_nodes(place, OBEY_BUTTON)
    target.follow()

    async def run_and_break() -> None:
        place.wire.after.clear()
        monitor = await target.host.monitor(100)
        await monitor.execute("set-action", {"shutdown": "pause"})
        await monitor.execute("system_powerdown")
        await until_state(target, {100: "shutdown"})
        raise Unreachable("the answer was lost", may_have_acted=True)

    place.wire.after["resume"] = run_and_break
    await source.run(MigrateGuest(vmid=100, target="n2"))
    guest = await source.layout.guests.get(100)
    assert (guest.node, guest.epoch) == ("n2", 2) and source.host.vmids == frozenset()


async def test_a_target_does_not_let_a_guest_run_that_somebody_else_gave_it_stopped(place: Datacenter) -> None:
    """The commit is lost; HA gives the guest to the same node, with the same epoch. The source takes it for its own."""
    store = place.use(EventfulStore())
    source, target = await two_nodes(place)
    states: list[dict[int, str]] = []

    async def take_over() -> None:
        view = await source.life.records.view(100)
        assert await source.life.records.move(view, "n2", RunState.STOPPED, "n1's lease ran out")

    async def look() -> None:
        states.append(await target.states())

    store.instead_of_move, place.wire.after["resume"] = take_over, look
    with pytest.raises(OperationFailed, match="was not migrated"):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    assert states == [] and target.host.vmids == frozenset()


async def test_a_target_that_reads_the_record_just_before_the_commit_keeps_the_guest(place: Datacenter) -> None:
    """It reads the owner; the source commits and gives the lock back; only then it goes on looking."""
    store = place.use(EventfulStore())
    source, target = await two_nodes(place)
    await source.layout.locks.create("guests/100", MIGRATING)
    await sent(source)
    view = await source.life.records.view(100)

    async def commit() -> None:
        assert await source.life.records.move(view, "n2", RunState.RUNNING, "")
        await source.layout.locks.remove("guests/100")

    store.after_get[source.layout.guests.key(100)] = commit
    await target.reconciler.once()
    assert target.host.vmids == {100}


async def test_a_commit_between_two_reads_of_the_target_does_not_cost_it_the_guest(place: Datacenter) -> None:
    """Owner and ``Runtime`` are looked at; the commit changes both after the first of these was read."""
    store = place.use(EventfulStore())
    source, target = await two_nodes(place)
    await source.layout.locks.create("guests/100", MIGRATING)
    await sent(source)
    view = await source.life.records.view(100)

    async def commit() -> None:
        assert await source.life.records.move(view, "n2", RunState.RUNNING, "")

    store.after_get[source.layout.runtimes.key(100)] = commit
    await target.reconciler.once()
    assert target.host.vmids == {100}


@pytest.mark.parametrize("all_sent", [False, True], ids=["nothing sent", "all sent"])
async def test_a_guest_recovered_by_the_target_of_its_migration_starts_there_at_once(
    place: Datacenter, *, all_sent: bool
) -> None:
    """Its source lost its power meanwhile; what was prepared for the migration is in the way, and of the same epoch."""
    source, target = await two_nodes(place)
    await put_under_ha(source)
    give_lease(source, "a")
    (target.paths.lease).parent.mkdir(parents=True, exist_ok=True)
    give_lease(target, "b")
    if all_sent:
        await sent(source)
    else:
        view = await source.life.records.owned(100)
        await LiveMigration(source.life, view, "n2", MigrationLimits(), Silent())._ask_in()
    await source.units.kill(100)
    assert target.host.vmids == {100} and target.host.started_with(100).epoch == 2
    view = await source.life.records.view(100)
    assert await source.life.records.move(view, "n2", RunState.STOPPED, "n1's lease ran out")
    wait_gone = target.host.wait_gone

    async def look_only_now(vmid: int, timeout: float) -> bool:
        target.host.wait_gone = wait_gone  # type: ignore[method-assign]
        target.follow()  # on a busy machine the reconciler's look at the guest comes later than the command
        return await wait_gone(vmid, timeout)

    target.host.wait_gone = look_only_now  # type: ignore[method-assign]
    await target.run(HaStart(vmid=100, epoch=2))
    assert await target.states() == {100: "running"} and not target.host.started_with(100).incoming
    assert (await target.layout.runtimes.get(100)).state is RunState.RUNNING


async def test_a_guest_that_comes_without_its_process_is_written_down_as_stopped(place: Datacenter) -> None:
    """Its target was reset, and its source lost its power just after the commit: nobody is left who knows."""
    source, target = await two_nodes(place)
    target.follow()
    await until_state(target, {})
    view = await source.life.records.view(100)
    assert await source.life.records.move(view, "n2", RunState.RUNNING, "")
    async with asyncio.timeout(15):
        while (await target.layout.runtimes.get(100)).state is not RunState.STOPPED:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await target.layout.runtimes.get(100)).node == "n2"


async def test_looking_at_a_guest_in_doubt_does_not_call_for_the_next_look() -> None:
    """Else a migration that comes in would be looked at all the time; somebody who worked on it does call for one."""
    busy = Busy()
    busy.doubt(100)
    busy.woken.clear()
    async with busy.hold(100, looking=True):
        pass
    assert not busy.woken.is_set()
    async with busy.hold(100):
        pass
    assert busy.woken.is_set()


async def test_a_source_whose_record_was_changed_does_not_let_the_guest_run(place: Datacenter) -> None:
    """A guest that is not under HA was given away by an administrator, just before the commit."""
    source, _ = await two_nodes(place)
    await place.enrol("n3")
    let_run: list[int] = []

    async def give_away() -> None:
        place.wire.after.clear()
        assert await source.life.records.move(await source.life.records.view(100), "n3", RunState.STOPPED, "removed")

    async def cont(vmid: int) -> None:
        let_run.append(vmid)

    place.wire.after["incoming"] = give_away
    source.host.cont = cont  # type: ignore[method-assign]
    with pytest.raises(Conflict, match="was not handed over"):
        await source.run(MigrateGuest(vmid=100, target="n2"))
    assert let_run == []


async def test_a_command_that_reads_while_its_guest_is_moved_does_not_write_over_the_new_owner(
    place: Datacenter,
) -> None:
    """It reads the guest as its own; the guest is moved; then it would read, and compare with, the new record."""
    store = place.use(EventfulStore())
    source, _ = await two_nodes(place)
    view = await source.life.records.view(100)

    async def move() -> None:
        assert await source.life.records.move(view, "n2", RunState.RUNNING, "")

    store.after_get[source.layout.guests.key(100)] = move
    with pytest.raises(Conflict):
        await source.life.stop(100, Silent())
    runtime = await source.layout.runtimes.get(100)
    assert (runtime.node, runtime.epoch, runtime.state) == ("n2", 2, RunState.RUNNING)


async def test_a_removed_machine_leaves_the_guests_of_its_namesake_alone(place: Datacenter) -> None:
    """n1 was removed and replaced by a machine of the same name, which runs the guest; the old n1 is switched on."""
    old = await place.add("n1")
    await old.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": place.boot_disk(HALT)}))
    view = await old.life.records.view(100)
    await old.life.records.enter(await old.life.records.enter(view, RunState.STARTING), RunState.RUNNING)
    await place.layout.nodes.update("n1", lambda node: replace(node, id="another"))
    old.life.records._node_id = "id-n1"
    await old.reconciler.once()
    with pytest.raises(Conflict, match="is not the node n1 of the datacenter any more"):
        await old.run(StartGuest(vmid=100))
    assert (await old.layout.runtimes.get(100)).state is RunState.RUNNING and old.host.vmids == frozenset()
