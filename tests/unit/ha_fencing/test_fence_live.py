"""The manager's hand and eye over a store and real programs: orders carried out, results kept, devices checked."""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from one_node import Desk, HandClock, OneNode, Starter

from racimo.ha.daemon import HaNode
from racimo.ha.fencing.checker import Checker
from racimo.model.fence import FenceDevice, FenceStage, Fencing, ReturnStage
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Arming, Heartbeat, ManagerTerm, Resource, Service, ServiceState
from racimo.model.node import Node
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from conftest import Bench


class Datacenter:
    """n2 with real HA code, and n1 and n3 of which there are only heartbeats. vm:100 runs on n1."""

    def __init__(self, bench: Bench) -> None:
        self.bench, self.store, self.clock = bench, MemoryStore(), HandClock()
        self.layout, self.desk = Layout(self.store), Desk(self.clock)
        starter = Starter(self.layout, self.desk, "n2")
        self.ha = HaNode("n2", self.store, self.desk, starter, self.clock, fence_agents=bench.programs)
        self.commands = starter.commands

    async def fill(self) -> None:
        for name in ("n1", "n2", "n3"):
            await self.layout.nodes.create(name, Node(name=name, id=name, address=name, voter=True))
        await self.layout.guests.create(100, Guest(vmid=100, node="n1", epoch=5))
        await self.layout.runtimes.create(100, Runtime(vmid=100, node="n1", epoch=5, state=RunState.RUNNING))
        await self.layout.resources.create("vm:100", Resource(sid="vm:100"))
        service = Service(sid="vm:100", state=ServiceState.STARTED, node="n1", epoch=5, guarded=True)
        await self.layout.services.create("vm:100", service)

    async def device(self, node: str = "n1", **fields: Any) -> FenceDevice:
        device = self.bench.device(node, **fields)
        await self.layout.fence_devices.create(device.name, device)
        return device

    async def beat(self, *nodes: str) -> None:
        for name in nodes:
            held = await self.layout.heartbeats.find(name)
            beat = held.record if held else Heartbeat(node=name, incarnation="a", sequence=0)
            new = replace(beat, sequence=beat.sequence + 1)
            await self.store.txn([], [self.layout.heartbeats.put(name, new, held)])

    async def fencing(self) -> Fencing | None:
        held = await self.layout.fencings.find("n1")
        return held.record if held else None

    @asynccontextmanager
    async def runs(self) -> AsyncIterator[None]:
        """n2's HA code runs; its clock goes on with its own beats, one second each."""
        task = asyncio.create_task(self.ha.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await self.store.close()

    async def seconds(self, count: int, *beating: str) -> None:
        """Let so many seconds pass in which n2 and ``beating`` show life each second."""
        for _ in range(count):
            self.clock.now += 1.0
            await self.beat(*beating)
            sequence = self.ha.holder.sequence
            await until(lambda seen=sequence: self.ha.holder.sequence > seen + 1, "own beats")
            await until(lambda: self.ha.observer.in_touch(self.clock.now), "their echo")


async def until(condition: Callable[[], object], what: str) -> None:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < 20, f"waited 20 s for: {what}"
        await asyncio.sleep(0.005)


async def until_it(condition: Callable[[], Awaitable[object]], what: str) -> None:
    began = time.monotonic()
    while not await condition():
        assert time.monotonic() - began < 20, f"waited 20 s for: {what}"
        await asyncio.sleep(0.01)


@pytest.fixture
async def datacenter(bench: Bench) -> Datacenter:
    made = Datacenter(bench)
    await made.fill()
    return made


async def stage(datacenter: Datacenter) -> FenceStage | None:
    fencing = await datacenter.fencing()
    return fencing.stage if fencing else None


async def moved(datacenter: Datacenter) -> bool:
    return (await datacenter.layout.guests.get(100)).node != "n1"


async def test_a_silent_nodes_power_is_cut_and_its_guest_moves_on_the_confirmation(datacenter: Datacenter) -> None:
    device = await datacenter.device(power_on=False)
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        await datacenter.seconds(2, "n1", "n3")
        await datacenter.seconds(4, "n3")
        await until_it(lambda: moved(datacenter), "the guest's move")
        assert datacenter.bench.power(device) == "off"
        status = await datacenter.layout.node_statuses.get("n1")
        assert status.proof.startswith("power: n1-bmc cut it and then said that it is off, asked by n2 in term 1")
        assert await datacenter.layout.heartbeats.find("n1") is None


async def test_a_node_that_was_cut_is_switched_on_again_once_its_guest_was_recovered(datacenter: Datacenter) -> None:
    device = await datacenter.device()
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        await datacenter.seconds(2, "n1", "n3")
        await datacenter.seconds(4, "n3")
        await until_it(lambda: told(datacenter, "it was switched on again: n1-bmc says that it is on"), "the word")
        assert datacenter.bench.power(device) == "on"
        order = [call.split()[0] for call in datacenter.bench.calls if not call.startswith("status")]
        assert order == ["off", "on"] and await moved(datacenter)
        await datacenter.beat("n1")
        await until_it(lambda: told(datacenter, ""), "n1 shows life")


async def test_a_device_that_does_not_switch_a_node_on_is_told_so_three_times(datacenter: Datacenter) -> None:
    device = await datacenter.device(timeout=0.6)
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        await datacenter.seconds(2, "n1", "n3")
        datacenter.bench.fault(device, "dark")
        await datacenter.seconds(4, "n3")
        await until_it(lambda: moved(datacenter), "the guest's move")
        began = datacenter.clock.now
        while not await failed_to_return(datacenter, 3):
            assert datacenter.clock.now - began < 200, "its tries take too long"
            await datacenter.seconds(1, "n3")
        assert datacenter.clock.now - began > 60 and told_on(datacenter) == 3
        await until_it(
            lambda: told(datacenter, "it could not be switched on again in 3 tries: n1-bmc says"), "the word"
        )
        await datacenter.seconds(31, "n3")
        assert told_on(datacenter) == 3


def told_on(datacenter: Datacenter) -> int:
    return sum(call.startswith("on ") for call in datacenter.bench.calls)


async def told(datacenter: Datacenter, what: str) -> bool:
    status = await datacenter.layout.node_statuses.get("n1")
    return status.power.startswith(what) if what else not status.power


async def failed_to_return(datacenter: Datacenter, attempt: int) -> bool:
    fencing = await datacenter.fencing()
    back = fencing.back if fencing is not None else None
    return back is not None and (back.stage, back.attempt) == (ReturnStage.FAILED, attempt)


async def test_a_lying_device_is_asked_twice_and_nothing_moves_before_the_lease_ran_out(datacenter: Datacenter) -> None:
    device = await datacenter.device(timeout=0.6)
    datacenter.bench.fault(device, "lie")
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        await datacenter.seconds(2, "n1", "n3")
        await datacenter.seconds(4, "n3")
        for attempt in (1, 2):
            await until(lambda seen=attempt: told_off(datacenter) == seen, "the order")
            await until(lambda: datacenter.bench.calls[-1].startswith("status"), "the question")
            await datacenter.seconds(1, "n3")
        await until_it(lambda: tried(datacenter, 2), "the second failure")
        fencing = await datacenter.fencing()
        assert fencing is not None and "still says that it is on" in fencing.why
        assert not await moved(datacenter) and await datacenter.layout.heartbeats.find("n1") is not None
        await datacenter.seconds(8, "n3")
        await until_it(lambda: moved(datacenter), "the guest's move by the lease")
        assert (await datacenter.layout.node_statuses.get("n1")).proof.startswith("lease:")


def told_off(datacenter: Datacenter) -> int:
    return sum(call.startswith("off") for call in datacenter.bench.calls)


async def tried(datacenter: Datacenter, attempt: int) -> bool:
    fencing = await datacenter.fencing()
    return fencing is not None and (fencing.stage, fencing.attempt) == (FenceStage.FAILED, attempt)


async def test_several_nodes_are_cut_at_the_same_time(datacenter: Datacenter) -> None:
    devices = [await datacenter.device("n1"), await datacenter.device("n3")]
    for device in devices:
        datacenter.bench.fault(device, "slow")
    await datacenter.layout.guests.create(101, Guest(vmid=101, node="n3"))
    await datacenter.layout.resources.create("vm:101", Resource(sid="vm:101"))
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        await datacenter.seconds(2, "n1", "n3")
        await datacenter.seconds(4)
        await until(lambda: {datacenter.bench.power(device) for device in devices} == {"off"}, "both cut")
        actions = [call.split()[:2] for call in datacenter.bench.calls if call.startswith("off")]
        first_status = next(n for n, call in enumerate(datacenter.bench.calls) if call.startswith("off"))
        assert sorted(actions) == [["off", "n1-bmc"], ["off", "n3-bmc"]]
        assert datacenter.bench.calls[first_status + 1].startswith("off"), "the second waited for the first"


async def test_a_node_that_shows_life_while_its_device_hangs_is_not_taken(datacenter: Datacenter) -> None:
    device = await datacenter.device(timeout=1.0)
    datacenter.bench.fault(device, "hang")
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        await datacenter.seconds(2, "n1", "n3")
        await datacenter.seconds(4, "n3")
        await until(lambda: any(call.startswith("off") for call in datacenter.bench.calls), "the order")
        await datacenter.beat("n1")
        await until_it(lambda: is_over(datacenter), "the end of the fencing")
        await datacenter.seconds(1, "n1", "n3")
        assert await datacenter.layout.heartbeats.find("n1") is not None
        assert not await moved(datacenter)


async def is_over(datacenter: Datacenter) -> bool:
    return await stage(datacenter) not in (None, FenceStage.RUNNING)


async def test_a_candidate_has_the_silent_managers_power_cut_and_takes_over(datacenter: Datacenter) -> None:
    await datacenter.device()
    await datacenter.layout.manager.create("term", ManagerTerm(node="n1", incarnation="a", term=7))
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(datacenter.ha.holder.holds, "a lease")
        await datacenter.seconds(2, "n1", "n3")
        assert not datacenter.ha.manager.manages
        await datacenter.seconds(4, "n3")
        await until(lambda: datacenter.ha.manager.manages, "the office")
        await until_it(lambda: moved(datacenter), "the guest's move")
        fencing = await datacenter.fencing()
        assert fencing is not None and (fencing.by, fencing.term) == ("n2", 7)
        assert (await datacenter.layout.manager.get("term")).term == 8


async def check(datacenter: Datacenter) -> str:
    held = await datacenter.layout.fence_checks.find("n1-bmc")
    return "" if held is None else f"{'good' if held.record.ok else 'bad'}: {held.record.why}"


async def test_a_device_that_calls_a_living_node_off_is_not_relied_on_until_it_is_right(datacenter: Datacenter) -> None:
    checker = next(part for part in datacenter.ha.fencing if isinstance(part, Checker))
    checker.doubt_s = 0.0
    device = await datacenter.device()
    (datacenter.bench.directory / f"{device.name}.power").write_text("off\n")
    await datacenter.beat("n1", "n3")
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        why = "bad: it says that the power of n1 is off while n1 shows life"
        await until_it(lambda: checked(datacenter, why), why)
        assert datacenter.ha.manager.snapshot(datacenter.ha.view).fenceable == frozenset()
        (datacenter.bench.directory / f"{device.name}.power").write_text("on\n")
        await until_it(lambda: checked(datacenter, "good: it says that the power is on"), "a good check")
        assert datacenter.ha.manager.snapshot(datacenter.ha.view).fenceable == {"n1"}


async def checked(datacenter: Datacenter, wanted: str) -> bool:
    return await check(datacenter) == wanted


async def test_a_daemon_told_to_end_says_so_and_its_successor_carries_on() -> None:
    one = OneNode()
    await one.records()
    async with one.runs():
        await until(one.ha.holder.holds, "a lease")
    await one.ha.farewell()
    last = await one.layout.heartbeats.get("n1")
    assert last.away and last.mode == "active"
    one.ha = one.make()
    async with one.runs():
        await until(lambda: one.ha.holder.incarnation == last.incarnation, "the same incarnation")
        await until_it(lambda: shows_life(one), "a heartbeat of the successor")
    await one.store.close()


async def shows_life(one: OneNode) -> bool:
    return not (await one.layout.heartbeats.get("n1")).away


@pytest.mark.parametrize("started_since", [False, True], ids=["started before", "started since its last heartbeat"])
async def test_a_node_lost_while_ha_was_disarmed_is_proven_off_by_its_device(
    datacenter: Datacenter, *, started_since: bool
) -> None:
    """n1 has not marked its guest in the present generation: the end of its lease proves nothing."""
    device = await datacenter.device()
    await datacenter.beat("n1", "n3")
    await datacenter.layout.arming.create("state", Arming(generation=1))
    if started_since:
        await datacenter.layout.runtimes.update(100, lambda old: replace(old, since=1.0))
    async with datacenter.runs():
        await until(lambda: datacenter.ha.manager.manages, "a manager")
        await datacenter.seconds(9, "n3")
        assert datacenter.bench.power(device) == "on"
        await datacenter.seconds(4, "n3")
        await until_it(lambda: is_fenced(datacenter), "the proof")
        if started_since:
            await until_it(lambda: is_in_recovery(datacenter), "the reason")
            await datacenter.seconds(2, "n3")
            assert not await moved(datacenter)
        else:
            await until_it(lambda: moved(datacenter), "the guest's move")


async def is_fenced(datacenter: Datacenter) -> bool:
    return (await datacenter.layout.node_statuses.get("n1")).proof.startswith("power: n1-bmc cut it")


async def is_in_recovery(datacenter: Datacenter) -> bool:
    service = await datacenter.layout.services.get("vm:100")
    return service.state is ServiceState.RECOVERY and "never confirmed since HA was armed again" in service.why
