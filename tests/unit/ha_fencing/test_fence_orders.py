"""Proof A in ``decide`` and in the transactions: when power is to be cut, and when that proves anything."""

from __future__ import annotations

import math
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from given import NOW, SID, make_service, silent, wanted, well

from racimo.ha.commit import Commit
from racimo.ha.decide import decide
from racimo.ha.fencing.orders import fence_by_power, power_off
from racimo.ha.observer import Observer
from racimo.ha.states import Fence, PowerOff, Snapshot
from racimo.ha.view import Records
from racimo.model.fence import FenceStage, Fencing
from racimo.model.ha import Arming, ArmPhase, Heartbeat, ManagerTerm, NodeHealth, NodeStatus, Requested, ServiceState
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def fenced_setup(ago: float = 3.2, fence_from: float | None = None) -> Snapshot:
    """n1, which runs vm:100, has a fence device and was silent for so long; n2 manages."""
    snapshot = silent(well(), "n1", ago)
    sighting = snapshot.sightings["n1"]
    sighting = replace(sighting, fence_from=sighting.suspect if fence_from is None else fence_from)
    return replace(
        snapshot, sightings={**snapshot.sightings, "n1": sighting}, node="n2", fenceable=frozenset({"n1", "n2"})
    )


def ordered(snapshot: Snapshot, **fields: Any) -> Snapshot:
    """The order about n1's last heartbeat stands in the store."""
    defaults: dict[str, Any] = {"node": "n1", "incarnation": "a", "revision": 40, "term": 1, "by": "n2"}
    return replace(snapshot, fencings={"n1": Fencing(**(defaults | fields))})


def orders(snapshot: Snapshot) -> list[PowerOff]:
    return [d for d in decide(snapshot, NOW).decisions if isinstance(d, PowerOff)]


def fences(snapshot: Snapshot) -> list[Fence]:
    return [d for d in decide(snapshot, NOW).decisions if isinstance(d, Fence)]


def test_a_node_that_missed_three_beats_is_to_lose_its_power_at_once() -> None:
    (order,) = orders(fenced_setup())
    assert (order.fencing.node, order.fencing.incarnation, order.fencing.revision) == ("n1", "a", 40)
    assert (order.fencing.by, order.fencing.term, order.fencing.attempt) == ("n2", 1, 1)
    assert order.why == "n1 is to lose its power: nothing new seen of it for 3.2 s"


def test_the_next_look_is_when_the_device_may_be_used() -> None:
    assert decide(fenced_setup(1.0, fence_from=NOW + 1.5), NOW).next_wake == NOW + 1.5


@pytest.mark.parametrize(
    "snapshot",
    [
        fenced_setup(2.9),
        fenced_setup(3.2, fence_from=NOW + 1),
        fenced_setup(3.2, fence_from=math.inf),
        replace(fenced_setup(), fenceable=frozenset()),
        replace(fenced_setup(), node="n1"),
        wanted(fenced_setup(), requested=Requested.STOPPED),
        replace(fenced_setup(), services={SID: make_service(state=ServiceState.ERROR)}),
        replace(fenced_setup(), services={SID: make_service(state=ServiceState.FREEZE)}),
    ],
    ids=["too soon", "after a pause", "never alive", "no device", "itself", "not wanted", "error", "frozen"],
)  # fmt: skip
def test_no_power_is_cut_where_nothing_is_won_or_it_is_too_soon(snapshot: Snapshot) -> None:
    assert orders(snapshot) == []


@pytest.mark.parametrize("change", [{"away": True}, {"mode": "reboot"}, {"leaving": True}])
def test_a_node_that_said_it_would_be_silent_is_left_to_its_lease(change: dict[str, Any]) -> None:
    snapshot = fenced_setup()
    beat = replace(snapshot.heartbeats["n1"], **change)
    assert orders(replace(snapshot, heartbeats={**snapshot.heartbeats, "n1": beat})) == []


def test_an_order_is_given_once_and_again_after_a_first_failure() -> None:
    assert orders(ordered(fenced_setup())) == []
    (again,) = orders(ordered(fenced_setup(), stage=FenceStage.FAILED))
    assert again.fencing.attempt == 2
    assert orders(ordered(fenced_setup(), stage=FenceStage.FAILED, attempt=2)) == []


def test_an_order_of_an_earlier_manager_is_given_anew() -> None:
    (again,) = orders(ordered(fenced_setup(), term=0))
    assert (again.fencing.term, again.fencing.attempt) == (1, 2)


def test_the_order_of_another_candidate_is_given_anew_when_that_one_is_silent_too() -> None:
    by_n3 = ordered(fenced_setup(), by="n3")
    assert orders(by_n3) == []
    assert orders(silent(by_n3, "n3", 3.2))[0].fencing.by == "n2"


def test_a_newer_heartbeat_makes_a_new_order_of_its_own() -> None:
    (order,) = orders(ordered(fenced_setup(), revision=39, stage=FenceStage.FAILED, attempt=2))
    assert (order.fencing.revision, order.fencing.attempt) == (40, 1)


def test_a_confirmed_order_fences_the_node_and_says_who_confirmed() -> None:
    why = "n1-bmc cut it and then said that it is off"
    (fence,) = fences(ordered(fenced_setup(), stage=FenceStage.CONFIRMED, why=why))
    assert (fence.node, fence.revision, fence.status.health) == ("n1", 40, NodeHealth.FENCE)
    assert fence.why == f"n1's power is off: {why}"
    assert fence.status.proof.startswith("power: n1-bmc cut it") and "incarnation a at sequence 7" in fence.status.proof


@pytest.mark.parametrize("stage", [FenceStage.RUNNING, FenceStage.FAILED])
def test_what_was_not_confirmed_fences_nobody_before_the_lease_ran_out(stage: FenceStage) -> None:
    assert fences(ordered(fenced_setup(10.9), stage=stage)) == []
    (fence,) = fences(ordered(fenced_setup(11.1), stage=stage))
    assert fence.status.proof.startswith("lease:")


@pytest.mark.parametrize("change", [{"revision": 39}, {"incarnation": "b"}])
def test_a_confirmation_about_another_heartbeat_proves_nothing(change: dict[str, Any]) -> None:
    assert fences(ordered(fenced_setup(), stage=FenceStage.CONFIRMED, **change)) == []


def test_while_ha_is_disarmed_no_power_is_cut_and_no_confirmation_taken() -> None:
    disarmed = replace(fenced_setup(), arming=Arming(phase=ArmPhase.DISARMED))
    assert orders(disarmed) == []
    assert fences(ordered(disarmed, stage=FenceStage.CONFIRMED)) == []


def lost_while_disarmed(ago: float, *, marked: bool = False, **fields: Any) -> Snapshot:
    """HA was armed again since; n1 was never seen alive by this observer, and has marked its guests if ``marked``."""
    snapshot = fenced_setup(ago, fence_from=math.inf)
    beat = replace(snapshot.heartbeats["n1"], armed=1 if marked else 0)
    service = make_service(state=ServiceState.RECOVERY)
    return replace(
        snapshot,
        arming=Arming(generation=1),
        heartbeats={**snapshot.heartbeats, "n1": beat},
        services={SID: service},
        **fields,
    )


def test_a_node_of_which_the_lease_proves_nothing_is_cut_when_that_is_over() -> None:
    assert orders(lost_while_disarmed(10.9)) == []
    assert fences(lost_while_disarmed(11.1)) == []
    (order,) = orders(lost_while_disarmed(11.1))
    assert order.fencing.revision == 40
    assert orders(lost_while_disarmed(11.1, marked=True)) == []
    assert fences(lost_while_disarmed(11.1, marked=True))


def test_devices_that_alone_can_free_the_guests_are_asked_again_now_and_then() -> None:
    failed = {"stage": FenceStage.FAILED, "attempt": 2, "since": 1000.0}
    assert orders(ordered(lost_while_disarmed(80.0, wall=1059.0), **failed)) == []
    (again,) = orders(ordered(lost_while_disarmed(80.0, wall=1061.0), **failed))
    assert again.fencing.attempt == 3
    assert orders(ordered(lost_while_disarmed(80.0, wall=1061.0))) == []


def test_a_confirmation_about_a_node_that_has_no_heartbeat_any_more_proves_nothing() -> None:
    snapshot = ordered(fenced_setup(), stage=FenceStage.CONFIRMED)
    assert fence_by_power(replace(snapshot, heartbeats={}), "n1") is None
    assert power_off(replace(snapshot, heartbeats={}), "n1", NOW) is None


# -- when a device may be used at all


def observed(beat: float = 1.0) -> Observer:
    observer = Observer(beat, 0.0)
    for second in range(5):
        observer.see("n1", 10 + second, "default", float(second))
        hear(observer, second)
    return observer


def hear(observer: Observer, *moments: float) -> None:
    """An own heartbeat is acknowledged and seen at each of the moments."""
    for moment in moments:
        observer.answered(float(moment))
        observer.contact(float(moment))


def fence_from(observer: Observer, now: float) -> float:
    sighting = observer.sighting("n1", now)
    assert sighting is not None
    return sighting.fence_from


def test_a_device_may_be_used_three_beats_after_the_last() -> None:
    observer = observed()
    hear(observer, 5, 6, 7)
    assert fence_from(observer, 7.0) == 7.0


def test_no_device_is_used_on_a_node_that_was_never_seen_to_beat() -> None:
    observer = Observer(1.0, 0.0)
    observer.see("n1", 10, "default", 0.0)
    assert fence_from(observer, 0.0) == math.inf
    observer.see("n1", 0, "", 1.0)
    assert fence_from(observer, 1.0) == math.inf


def test_no_device_is_used_while_the_store_is_out_of_touch() -> None:
    assert fence_from(observed(), 7.5) == math.inf


def test_after_a_short_pause_of_the_store_nodes_have_time_to_show_life() -> None:
    observer = observed()
    hear(observer, 6.4)
    assert fence_from(observer, 6.4) == pytest.approx(8.4)


def test_after_a_long_pause_of_the_store_nodes_have_half_a_lease() -> None:
    observer = observed()
    hear(observer, 9.5)
    assert fence_from(observer, 9.5) == pytest.approx(14.5)


def test_no_device_is_used_while_own_heartbeats_are_not_acknowledged() -> None:
    observer = observed()
    hear(observer, 5)
    assert fence_from(observer, 6.8) == math.inf


def test_no_device_is_used_on_a_node_whose_lease_goes_on_without_the_store() -> None:
    observer = observed()
    observer.promise("n1", 10.0, 4.0)
    hear(observer, 5, 6, 7)
    assert fence_from(observer, 7.0) == 15.0


# -- the transactions, and what may come in between


class Shelf:
    """A store with a manager's term, n1's heartbeat and, if asked for, the order about it."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.layout = Layout(self.store)

    async def fill(self) -> None:
        await self.layout.manager.create("term", ManagerTerm(node="n2", incarnation="a", term=1))
        await self.layout.node_statuses.create("n1", NodeStatus(node="n1", health=NodeHealth.UNKNOWN))
        await self.beat(7)

    async def beat(self, sequence: int, incarnation: str = "a") -> None:
        held = await self.layout.heartbeats.find("n1")
        beat = Heartbeat(node="n1", incarnation=incarnation, sequence=sequence)
        await self.store.txn([], [self.layout.heartbeats.put("n1", beat, held)])

    async def basis(self) -> Records:
        records = Records()
        for table in ("manager", "heartbeats", "node_statuses", "fencings"):
            setattr(records, table, await getattr(self.layout, table).all())
        return records

    async def snapshot(self) -> tuple[Snapshot, Records]:
        basis, snapshot = await self.basis(), fenced_setup()
        revision = basis.heartbeats["n1"].revision if "n1" in basis.heartbeats else 0
        sighting = replace(snapshot.sightings["n1"], revision=revision)
        found = replace(
            snapshot,
            sightings={**snapshot.sightings, "n1": sighting},
            heartbeats={**snapshot.heartbeats, **{name: held.record for name, held in basis.heartbeats.items()}},
            fencings={name: held.record for name, held in basis.fencings.items()},
        )
        return found, basis

    async def commit(self, decision: PowerOff | Fence, basis: Records) -> bool:
        commit = Commit(self.layout, basis, basis.manager["term"].compare)
        return await self.store.txn(*commit.transaction(decision)) is not None

    async def order(self) -> bool:
        snapshot, basis = await self.snapshot()
        order = power_off(snapshot, "n1", NOW)
        assert order is not None
        return await self.commit(order, basis)

    async def confirm(self) -> None:
        await self.layout.fencings.update("n1", lambda old: replace(old, stage=FenceStage.CONFIRMED, why="said off"))

    async def fence(self) -> Fence | None:
        snapshot, _ = await self.snapshot()
        return fence_by_power(snapshot, "n1")


@asynccontextmanager
async def shelf() -> AsyncIterator[Shelf]:
    made = Shelf()
    await made.fill()
    try:
        yield made
    finally:
        await made.store.close()


async def test_order_confirmation_and_taking_leave_no_heartbeat_and_a_proof() -> None:
    async with shelf() as s:
        assert await s.order()
        await s.confirm()
        fence = await s.fence()
        assert fence is not None and await s.commit(fence, await s.basis())
        assert await s.layout.heartbeats.find("n1") is None
        assert (await s.layout.node_statuses.get("n1")).proof.startswith("power: said off")


async def test_no_device_is_asked_when_a_newer_heartbeat_stands_in_the_store() -> None:
    async with shelf() as s:
        snapshot, basis = await s.snapshot()
        order = power_off(snapshot, "n1", NOW)
        await s.beat(8)
        assert order is not None and not await s.commit(order, basis)
        assert await s.layout.fencings.find("n1") is None


async def test_a_node_that_beats_between_order_and_confirmation_is_not_taken_by_it() -> None:
    async with shelf() as s:
        assert await s.order()
        await s.beat(8)
        await s.confirm()
        assert await s.fence() is None


@pytest.mark.parametrize("incarnation", ["a", "b"])
async def test_a_node_that_beats_between_confirmation_and_taking_is_not_taken(incarnation: str) -> None:
    async with shelf() as s:
        assert await s.order()
        await s.confirm()
        fence, basis = await s.fence(), await s.basis()
        await s.beat(8 if incarnation == "a" else 1, incarnation)
        assert fence is not None and not await s.commit(fence, basis)
        assert await s.fence() is None


async def test_a_late_confirmation_proves_nothing_of_the_incarnation_that_began_since() -> None:
    async with shelf() as s:
        assert await s.order()
        await s.beat(1, "b")
        await s.confirm()
        assert await s.fence() is None


async def test_of_two_orders_about_one_heartbeat_one_is_given() -> None:
    async with shelf() as s:
        (first, basis), (second, other_basis) = await s.snapshot(), await s.snapshot()
        orders = [power_off(snapshot, "n1", NOW) for snapshot in (first, replace(second, node="n3"))]
        assert orders[0] and orders[1]
        assert await s.commit(orders[0], basis)
        assert not await s.commit(orders[1], other_basis)


async def test_a_deposed_manager_can_neither_order_nor_take() -> None:
    async with shelf() as s:
        snapshot, basis = await s.snapshot()
        order = power_off(snapshot, "n1", NOW)
        await s.layout.manager.update("term", lambda old: replace(old, node="n3", term=2))
        assert order is not None and not await s.commit(order, basis)
