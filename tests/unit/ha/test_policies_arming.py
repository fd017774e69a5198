"""``decide`` by policy: disarming, start order, the application's health, balance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from given import NOW, SID, fenced, make_service, run_state, seen, silent, told, wanted, well
from policies_given import after, becomes, services, several, turn

from racimo.ha.balancing import MoveAges
from racimo.ha.decide import decide
from racimo.ha.states import ArmingChange, BalanceChange, Fence, Move, ServiceChange, Snapshot
from racimo.model.datacenter import Datacenter
from racimo.model.guest import RunState
from racimo.model.ha import (
    Arming,
    ArmPhase,
    Balance,
    NodeHealth,
    Outcome,
    Requested,
    ServiceState,
)
from racimo.model.node import NodeFacts

S = ServiceState


# disarming


def disarming(snapshot: Snapshot, mode: str = "freeze") -> Snapshot:
    return replace(snapshot, arming=Arming(phase=ArmPhase.DISARMING, mode=mode))


def phase(snapshot: Snapshot) -> Arming | None:
    found = [d.arming for d in turn(snapshot) if isinstance(d, ArmingChange)]
    return found[0] if found else None


def test_disarming_freezes_all_and_then_begins_a_new_generation() -> None:
    asked = disarming(well())
    assert becomes(asked).state is S.FREEZE
    first = phase(asked)
    assert first is not None and first.phase is ArmPhase.DISARMING and "waits for vm:100" in first.why
    done = phase(after(asked))
    assert done is not None and (done.phase, done.generation) == (ArmPhase.DISARMED, 1)


def test_a_guest_in_recovery_is_finished_before_ha_is_disarmed() -> None:
    asked = disarming(fenced(well(), "n1"))
    assert isinstance(services(asked)[SID], Move)
    moved = after(asked)
    assert services(moved) == {}
    waiting = phase(moved)
    assert waiting is not None and "request_start" in waiting.why
    started = after(told(run_state(moved, RunState.RUNNING), "start"))
    assert becomes(started).state is S.FREEZE


def disarmed(snapshot: Snapshot) -> Snapshot:
    asked = after(disarming(snapshot))
    arming = phase(asked)
    assert arming is not None and arming.phase is ArmPhase.DISARMED
    return replace(asked, arming=arming)


def test_while_disarmed_nothing_is_fenced_moved_or_started() -> None:
    off = disarmed(well())
    for snapshot in (off, silent(off, "n1", 600), fenced(off, "n1"), run_state(off, RunState.STOPPED)):
        assert not [d for d in turn(snapshot) if isinstance(d, (Fence, Move, ServiceChange))]


def armed(snapshot: Snapshot, *, marked: bool) -> Snapshot:
    """HA is armed again; n2 and n3 have marked their guests since, n1 only if ``marked``."""
    arming = replace(snapshot.arming, phase=ArmPhase.ARMED)
    beats = {
        name: replace(beat, armed=arming.generation if marked or name != "n1" else 0)
        for name, beat in snapshot.heartbeats.items()
    }
    return replace(snapshot, arming=arming, heartbeats=beats)


def test_armed_again_proof_b_is_refused_until_the_node_has_marked_the_guest_anew() -> None:
    again = armed(disarmed(well()), marked=False)
    service = becomes(fenced(again, "n1"))
    assert service.state is S.RECOVERY and "since HA was armed again" in service.why
    old = Outcome(sid=SID, node="n1", epoch=5, command="mark", ok=True, armed=0)
    assert becomes(fenced(replace(again, outcomes={SID: old}), "n1")).state is S.RECOVERY
    new = replace(old, armed=1)
    assert isinstance(services(fenced(replace(again, outcomes={SID: new}), "n1"))[SID], Move)


def test_armed_again_a_frozen_guest_goes_on_once_its_node_has_marked_it() -> None:
    again = armed(disarmed(well()), marked=False)
    assert services(again) == {}
    assert becomes(armed(again, marked=True)).state is S.STARTED
    assert becomes(armed(run_state(again, RunState.STOPPED), marked=True)).state is S.REQUEST_START


def test_no_guest_goes_to_a_node_that_has_not_marked_since() -> None:
    again = armed(disarmed(several({SID: "n2"})), marked=False)
    marked = Outcome(sid=SID, node="n2", epoch=5, command="mark", ok=True, armed=1)
    move = services(fenced(replace(again, outcomes={SID: marked}), "n2"))[SID]
    assert isinstance(move, Move) and move.guest.node == "n3"


def proven(snapshot: Snapshot, proof: str, **fields: Any) -> Snapshot:
    """n1 was fenced with this proof."""
    found = fenced(snapshot, "n1")
    return replace(found, statuses={**found.statuses, "n1": replace(found.statuses["n1"], proof=proof, **fields)})


def test_power_that_was_off_frees_a_guest_that_no_guard_knew_unless_it_was_started_since() -> None:
    again = armed(disarmed(well()), marked=False)
    before = replace(again, before_cut=frozenset({SID}))
    assert isinstance(services(proven(before, "power: n1-bmc cut it"))[SID], Move)
    assert becomes(proven(again, "power: n1-bmc cut it")).state is S.RECOVERY
    assert becomes(proven(before, "lease: silent")).state is S.RECOVERY


def test_a_lease_that_ran_out_after_all_guests_were_marked_anew_frees_those_that_were_known_before() -> None:
    again = armed(disarmed(well()), marked=True)
    assert isinstance(services(proven(again, "lease: silent", armed=1))[SID], Move)
    assert becomes(proven(again, "lease: silent", armed=0)).state is S.RECOVERY
    never = replace(again, services={SID: replace(again.services[SID], guarded=False)})
    assert becomes(proven(never, "lease: silent", armed=1)).state is S.RECOVERY


def test_a_node_that_is_fenced_keeps_by_what_it_had_marked_its_guests() -> None:
    again = silent(armed(disarmed(well()), marked=True), "n1", 600)
    (fence,) = [d for d in turn(again) if isinstance(d, Fence)]
    assert fence.status.armed == 1
    beats = {name: beat for name, beat in again.heartbeats.items() if name != "n1"}
    old = replace(fence.status, health=NodeHealth.UNKNOWN)
    later = replace(again, heartbeats=beats, statuses={**again.statuses, "n1": old})
    assert after(later).statuses["n1"].armed == 1


def test_a_guest_whose_new_node_was_lost_before_it_could_confirm_the_mark_goes_by_all_that_it_had_marked() -> None:
    unconfirmed = well(guarded=False, seen=30)
    assert isinstance(services(proven(unconfirmed, "lease: silent", marked=30))[SID], Move)
    assert becomes(proven(unconfirmed, "lease: silent", marked=29)).state is S.RECOVERY
    assert becomes(proven(well(guarded=False), "lease: silent", marked=30)).state is S.RECOVERY
    again = armed(replace(unconfirmed, arming=Arming(generation=1)), marked=True)
    assert becomes(proven(again, "lease: silent", marked=30)).state is S.RECOVERY
    assert isinstance(services(proven(again, "lease: silent", marked=30, armed=1))[SID], Move)


def test_a_service_says_since_which_revision_its_guest_is_under_ha() -> None:
    first = replace(well(), services={}, revision=41)
    assert becomes(first).seen == 41
    assert becomes(disarming(replace(well(seen=7), revision=41))).seen == 7


def switched_off(snapshot: Snapshot, policy: str, mode: str, state: RunState = RunState.STOPPED) -> Snapshot:
    """n1 shut down in order while HA was disarmed; HA is armed again."""
    again = run_state(armed(disarmed(snapshot), marked=True), state)
    beats = {name: beat for name, beat in again.heartbeats.items() if name != "n1"}
    status = replace(again.statuses["n1"], health=NodeHealth.UNKNOWN, mode=mode)
    options = Datacenter(id="", name="", ha_shutdown_policy=policy)
    return replace(again, heartbeats=beats, statuses={**again.statuses, "n1": status}, options=options)


@pytest.mark.parametrize(
    ("policy", "mode", "moves"),
    [
        ("conditional", "poweroff", True),
        ("conditional", "reboot", False),
        ("freeze", "poweroff", False),
        ("failover", "reboot", True),
        ("migrate", "poweroff", True),
    ],
)
def test_what_was_stopped_with_its_node_while_disarmed_goes_by_the_shutdown_policy(
    policy: str, mode: str, *, moves: bool
) -> None:
    off = switched_off(well(), policy, mode)
    assert isinstance(services(off).get(SID), Move) == moves
    unwanted = wanted(off, requested=Requested.STOPPED)
    assert (services(unwanted) == {}) == (not moves)
    if moves:
        assert becomes(unwanted).state is S.STOPPED


# cold start


def test_guests_start_by_order_and_delay() -> None:
    config = {"vm:100": {"startup": "order=2"}, "vm:101": {"startup": "order=1,up=30"}, "vm:102": {}}
    cold = several({"vm:100": "n1", "vm:101": "n2", "vm:102": "n3"}, 3, config)
    cold = replace(
        cold, wall=5000.0, runtimes={s: replace(r, state=RunState.STOPPED) for s, r in cold.runtimes.items()}
    )
    first = after(cold)
    states = {sid: service.state for sid, service in first.services.items()}
    assert states == {"vm:100": S.QUEUED, "vm:101": S.REQUEST_START, "vm:102": S.QUEUED}
    assert "vm:101 (order 1) starts first" in first.services["vm:100"].why
    up = replace(first.runtimes["vm:101"], state=RunState.RUNNING, since=5001.0)
    begun = replace(first.services["vm:101"], state=S.STARTED)
    second = replace(
        first, wall=5002.0, services={**first.services, "vm:101": begun}, runtimes={**first.runtimes, "vm:101": up}
    )
    waits = after(second)
    assert "has 30 s to come up first" in waits.services["vm:100"].why
    wake = decide(waits, NOW).next_wake
    assert wake is not None and wake <= NOW + 29.0
    third = after(replace(waits, wall=5031.5))
    assert third.services["vm:100"].state is S.REQUEST_START and third.services["vm:102"].state is S.QUEUED


def booting(snapshot: Snapshot, ago: float = 5.0, **fields: Any) -> Snapshot:
    """n1 has not been seen by this manager; its daemon has written down that its guest is stopped."""
    beats = {name: beat for name, beat in snapshot.heartbeats.items() if name != "n1"}
    sightings = {**snapshot.sightings, "n1": replace(seen(ago), known=False)}
    service = make_service(**fields)
    stopped = run_state(replace(snapshot, heartbeats=beats, sightings=sightings), RunState.STOPPED)
    return replace(stopped, services={SID: service})


@pytest.mark.parametrize("state", [S.STARTED, S.RELOCATE, S.RECOVERY, S.REQUEST_START_BALANCE])
def test_at_a_cold_start_a_guest_waits_for_its_node_that_may_just_be_booting(state: S) -> None:
    cold = booting(well(), state=state)
    assert services(cold) == {}
    wake = decide(cold, NOW).next_wake
    assert wake is not None and wake <= NOW + 6.0
    late = services(booting(well(), 11.5, state=state))[SID]
    assert isinstance(late, Move) and late.guest.node == "n2"


@pytest.mark.parametrize("state", [S.STARTED, S.RELOCATE, S.RECOVERY])
def test_a_guest_starts_on_its_node_once_that_has_booted(state: S) -> None:
    up = run_state(well(state=state), RunState.STOPPED)
    assert (becomes(up).state, becomes(up).node) == (S.REQUEST_START, "n1")


def test_a_guest_whose_node_was_seen_alive_before_does_not_wait_for_it() -> None:
    gone = booting(well())
    known = replace(gone, sightings={**gone.sightings, "n1": seen(5.0)})
    assert isinstance(services(known)[SID], Move)


def test_a_guest_that_is_recovered_waits_for_nobody() -> None:
    config = {"vm:100": {"startup": "order=2"}, "vm:101": {"startup": "order=1"}}
    both = fenced(several({"vm:100": "n1", "vm:101": "n1"}, 3, config), "n1")
    assert all(isinstance(decision, Move) for decision in services(both).values())


# application health


def unwell(snapshot: Snapshot, error: str = "no answer") -> Snapshot:
    service = snapshot.services[SID]
    outcome = Outcome(
        sid=SID, node=service.node, epoch=service.epoch, attempt=service.attempt, command="probe", ok=not error,
        error=error,
    )  # fmt: skip
    return replace(snapshot, outcomes={SID: outcome})


def test_an_application_that_is_not_well_is_restarted_then_relocated_then_an_error() -> None:
    probed = wanted(well(), probe="tcp:10.0.0.5:80")
    first = becomes(unwell(probed))
    assert (first.state, first.renew, first.restarts) == (S.REQUEST_START, True, 1)
    again = after(told(replace(probed, services={SID: first}), "start"))
    assert again.services[SID].state is S.STARTED and again.services[SID].restarts == 1
    second = becomes(unwell(again))
    assert (second.state, second.target, second.relocations) == (S.RELOCATE, "n2", 1)
    last = replace(again.services[SID], restarts=1, relocations=1)
    assert becomes(unwell(replace(again, services={SID: last}))).state is S.ERROR


def test_an_application_that_answers_again_clears_what_was_counted() -> None:
    probed = wanted(well(restarts=1, relocations=1), probe="agent")
    service = becomes(unwell(probed, ""))
    assert (service.state, service.restarts, service.relocations) == (S.STARTED, 0, 0)


def test_an_old_answer_of_a_probe_is_passed_over() -> None:
    probed = unwell(wanted(well(), probe="agent"))
    assert services(replace(probed, services={SID: make_service(attempt=2)})) == {}
    assert services(wanted(probed, probe="")) == {}


# rebalance on start


def test_with_rebalance_on_start_a_guest_starts_where_it_is_best() -> None:
    busy = several({"vm:100": "n1", "vm:101": "n1", "vm:102": "n2"})
    off = replace(
        busy,
        options=Datacenter(id="", name="", crs_rebalance_on_start=True),
        services={**busy.services, SID: make_service(state=S.STOPPED)},
        runtimes={**busy.runtimes, SID: replace(busy.runtimes[SID], state=RunState.STOPPED)},
    )
    asked = becomes(off)
    assert asked.state is S.REQUEST_START_BALANCE
    move = services(after(off))[SID]
    assert isinstance(move, Move) and move.guest.node == "n3"


def test_guests_that_wait_to_be_started_anew_spread_as_if_they_were_nowhere() -> None:
    snapshot = several({f"vm:{vmid}": "n1" for vmid in range(100, 106)})
    waiting = replace(
        snapshot,
        options=Datacenter(id="", name="", crs_rebalance_on_start=True),
        services={sid: replace(one, state=S.REQUEST_START_BALANCE) for sid, one in snapshot.services.items()},
        runtimes={sid: replace(one, state=RunState.STOPPED) for sid, one in snapshot.runtimes.items()},
    )
    decided = services(waiting)
    moved = {sid: one.guest.node for sid, one in decided.items() if isinstance(one, Move)}
    assert moved == {"vm:101": "n2", "vm:102": "n3", "vm:104": "n2", "vm:105": "n3"}
    assert set(decided) == set(snapshot.services)


def test_a_guest_that_is_not_wanted_leaves_each_waiting_state() -> None:
    for state in (S.QUEUED, S.REQUEST_START_BALANCE, S.RECOVERY, S.RELOCATE):
        asked = wanted(well(state=state), requested=Requested.STOPPED)
        assert becomes(asked).state is S.REQUEST_STOP


# balance


def unbalanced(**options: Any) -> Snapshot:
    """Four guests on n1, none elsewhere, and the datacenter balances itself."""
    config = {"memory": "2048", "cores": "2"}
    sids = [f"vm:{vmid}" for vmid in range(100, 104)]
    snapshot = several(dict.fromkeys(sids, "n1"), 3, dict.fromkeys(sids, config))
    facts = NodeFacts(cpus=8, memory=16 << 30)
    chosen = Datacenter(id="", name="", crs="static", crs_auto_rebalance=True, **options)
    nodes = {name: replace(node, facts=facts) for name, node in snapshot.nodes.items()}
    return replace(snapshot, nodes=nodes, options=chosen, wall=10_000.0)


def rounds(snapshot: Snapshot, count: int) -> tuple[Snapshot, list[ServiceChange]]:
    """So many rounds, each time with what was remembered of the one before; the moves of the last."""
    moves: list[ServiceChange] = []
    for _ in range(count):
        decisions = turn(snapshot)
        moves = [d for d in decisions if isinstance(d, ServiceChange)]
        (remembered,) = [d.balance for d in decisions if isinstance(d, BalanceChange)]
        snapshot = replace(snapshot, balance=remembered, wall=snapshot.wall + 10.0)
    return snapshot, moves


def test_guests_are_moved_for_balance_after_the_rounds_set_one_at_a_time_with_the_reason() -> None:
    assert rounds(unbalanced(), 2)[1] == []
    later, (move,) = rounds(unbalanced(), 3)
    assert move.service is not None and move.service.state is S.MIGRATE and move.service.target in ("n2", "n3")
    assert "for balance: it takes load from n1" in move.why
    assert later.balance.rounds == 0 and len(later.balance.moves) == 1


def test_between_two_rounds_nothing_is_counted_and_the_next_is_waited_for() -> None:
    first = rounds(unbalanced(), 1)[0]
    soon = replace(first, wall=first.wall - 4.0)
    made = decide(soon, NOW)
    assert made.decisions == () and made.next_wake is not None and made.next_wake <= NOW + 4.0


def test_no_more_guests_are_moved_in_an_hour_than_set() -> None:
    full = replace(unbalanced(crs_moves_per_hour=2), balance=Balance(rounds=3, moves=(9_000.0, 9_500.0)))
    full = replace(full, move_ages=(1_000.0, 500.0))
    assert not [d for d in turn(full) if isinstance(d, ServiceChange)]
    assert [d for d in turn(replace(full, move_ages=(3_600.0, 3_100.0))) if isinstance(d, ServiceChange)]


def test_a_wall_clock_that_jumps_allows_no_further_moves_for_balance() -> None:
    full = replace(unbalanced(crs_moves_per_hour=1), balance=Balance(rounds=3, moves=(9_500.0,)), move_ages=(500.0,))
    for jumped in (9_500.0 + 86_400.0, 9_500.0 - 86_400.0):
        assert not [d for d in turn(replace(full, wall=jumped)) if isinstance(d, ServiceChange)]


def test_a_move_for_balance_is_counted_before_it_is_made() -> None:
    ready = replace(unbalanced(), balance=Balance(rounds=3))
    assert [type(d) for d in turn(ready)] == [BalanceChange, ServiceChange]


def test_each_move_for_balance_is_as_old_as_it_has_been_seen() -> None:
    ages = MoveAges()
    assert ages.look((5.0,), now=100.0) == (0.0,)
    assert ages.look((5.0, 7.0), now=130.0) == (30.0, 0.0)


def test_without_the_option_nothing_is_balanced() -> None:
    assert turn(replace(unbalanced(), options=Datacenter(id="", name=""))) == []


# what disarming leaves behind


def test_a_node_that_has_not_marked_since_ha_was_armed_is_not_fenced_and_its_guest_says_why() -> None:
    again = armed(disarmed(well()), marked=False)
    cut_off = silent(again, "n1", 600)
    assert not [d for d in turn(cut_off) if isinstance(d, Fence)]
    service = becomes(cut_off)
    assert service.state is S.RECOVERY and "it may still run there" in service.why
    assert services(after(cut_off)) == {}
    assert [d for d in turn(silent(armed(again, marked=True), "n1", 600)) if isinstance(d, Fence)]
