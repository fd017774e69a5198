"""``decide`` by policy: rules, maintenance, shutdown, disarming, start order, the application's health."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from given import NOW, SID, fenced, make_service, run_state, silent, told, wanted, well

from racimo.ha.decide import decide
from racimo.ha.states import ArmingChange, BalanceChange, Decision, Fence, Move, NodeChange, ServiceChange, Snapshot
from racimo.model.datacenter import Datacenter
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import (
    Arming,
    ArmPhase,
    Balance,
    Heartbeat,
    Maintenance,
    NodeHealth,
    Outcome,
    Requested,
    Resource,
    Service,
    ServiceState,
)
from racimo.model.node import NodeFacts
from racimo.model.rule import Affinity, Rule, RuleKind
from racimo.placement.rules import compile_rules

S = ServiceState


def turn(snapshot: Snapshot) -> list[Decision]:
    return list(decide(snapshot, NOW).decisions)


def services(snapshot: Snapshot) -> dict[str, ServiceChange | Move]:
    return {d.sid: d for d in turn(snapshot) if isinstance(d, (ServiceChange, Move))}


def becomes(snapshot: Snapshot, sid: str = SID) -> Service:
    service = services(snapshot)[sid].service
    assert service is not None
    return service


def after(snapshot: Snapshot) -> Snapshot:
    """The snapshot once this turn's changes of services stand in the store; moves are carried out by their nodes."""
    for decision in turn(snapshot):
        if isinstance(decision, ServiceChange) and decision.service is not None:
            snapshot = replace(snapshot, services={**snapshot.services, decision.sid: decision.service})
        if isinstance(decision, Move):
            snapshot = replace(
                snapshot,
                services={**snapshot.services, decision.sid: decision.service},
                guests={**snapshot.guests, decision.sid: decision.guest},
                runtimes={**snapshot.runtimes, decision.sid: decision.runtime},
            )
        if isinstance(decision, NodeChange) and decision.status is not None:
            snapshot = replace(snapshot, statuses={**snapshot.statuses, decision.node: decision.status})
    return snapshot


def arrived(snapshot: Snapshot, node: str, sid: str = SID) -> Snapshot:
    """Its live migration to ``node`` was committed."""
    guest = replace(snapshot.guests[sid], node=node, epoch=snapshot.guests[sid].epoch + 1)
    runtime = Runtime(vmid=guest.vmid, node=node, epoch=guest.epoch, state=RunState.RUNNING)
    return after(
        replace(snapshot, guests={**snapshot.guests, sid: guest}, runtimes={**snapshot.runtimes, sid: runtime})
    )


def several(places: dict[str, str], count: int = 3, config: dict[str, dict[str, str]] | None = None) -> Snapshot:
    """Guests that run on the nodes given."""
    configs = config or {}
    return replace(
        well(count),
        resources={sid: Resource(sid=sid) for sid in places},
        services={sid: make_service(sid=sid, node=node) for sid, node in places.items()},
        guests={
            sid: Guest(vmid=int(sid[3:]), node=node, epoch=5, config=configs.get(sid, {}))
            for sid, node in places.items()
        },
        runtimes={
            sid: Runtime(vmid=int(sid[3:]), node=node, epoch=5, state=RunState.RUNNING) for sid, node in places.items()
        },
    )


def ruled(snapshot: Snapshot, *rules: Rule) -> Snapshot:
    return replace(snapshot, rules=compile_rules(rules, list(snapshot.nodes)))


def homes(nodes: dict[str, int], *, strict: bool = False, sids: tuple[str, ...] = (SID,)) -> Rule:
    return Rule(name="home", kind=RuleKind.NODES, resources=sids, nodes=nodes, strict=strict)


def pair(affinity: Affinity, *sids: str) -> Rule:
    return Rule(name="pair", kind=RuleKind.RESOURCES, resources=sids, affinity=affinity)


def announced(snapshot: Snapshot, node: str, mode: str, *, gave_up: bool = False) -> Snapshot:
    beat = replace(snapshot.heartbeats[node], mode=mode, gave_up=gave_up)
    return replace(snapshot, heartbeats={**snapshot.heartbeats, node: beat})


def policy(snapshot: Snapshot, name: str, **options: Any) -> Snapshot:
    return replace(snapshot, options=Datacenter(id="", name="", ha_shutdown_policy=name, **options))


def maintained(snapshot: Snapshot, *nodes: str) -> Snapshot:
    return replace(snapshot, maintenance={node: Maintenance(node=node) for node in nodes})


# node affinity


def test_a_guest_goes_to_the_node_that_its_rule_prefers() -> None:
    service = becomes(ruled(well(), homes({"n2": 2, "n1": 1})))
    assert (service.state, service.target) == (S.MIGRATE, "n2")
    assert service.why.startswith("rule home prefers n2 to n1")


def test_without_failback_it_stays_where_its_rule_allows_it() -> None:
    assert turn(ruled(wanted(well(), failback=False), homes({"n2": 2, "n1": 1}))) == []


def test_without_failback_it_leaves_a_node_that_a_strict_rule_forbids() -> None:
    service = becomes(ruled(wanted(well(), failback=False), homes({"n3": 1}, strict=True)))
    assert (service.state, service.target) == (S.MIGRATE, "n3")


def test_a_guest_is_recovered_on_the_preferred_node_that_is_left() -> None:
    move = services(ruled(fenced(well(), "n1"), homes({"n1": 3, "n3": 2, "n2": 1})))[SID]
    assert isinstance(move, Move) and move.guest.node == "n3"


def test_a_strict_rule_without_an_online_node_keeps_the_guest_in_recovery_with_the_reason() -> None:
    service = becomes(ruled(fenced(well(), "n1"), homes({"n1": 1}, strict=True)))
    assert service.state is S.RECOVERY and "strict rule home" in service.why


def test_a_move_that_failed_is_not_tried_again_at_once() -> None:
    moving = after(ruled(well(), homes({"n2": 2, "n1": 1})))
    failed = after(replace(told(moving, "migrate", "unlike CPU"), wall=1000.0))
    assert failed.services[SID].state is S.STARTED and services(failed) == {}
    later = decide(replace(failed, wall=1010.0), NOW)
    assert later.next_wake is not None and later.next_wake <= NOW + 20.0
    assert becomes(replace(failed, wall=1031.0)).state is S.MIGRATE


# resource affinity


def test_guests_that_are_kept_apart_leave_each_other_and_one_stays() -> None:
    both = ruled(several({"vm:100": "n1", "vm:101": "n1"}), pair(Affinity.NEGATIVE, "vm:100", "vm:101"))
    changes = services(both)
    assert list(changes) == ["vm:100"]
    assert becomes(both, "vm:100").state is S.MIGRATE


def test_guests_that_are_kept_together_come_together_and_do_not_swap() -> None:
    both = ruled(several({"vm:100": "n1", "vm:101": "n2"}), pair(Affinity.POSITIVE, "vm:100", "vm:101"))
    changes = services(both)
    assert list(changes) == ["vm:100"]
    assert becomes(both, "vm:100").target == "n2"
    assert services(arrived(after(both), "n2", "vm:100")) == {}


def test_guests_kept_apart_are_recovered_on_different_nodes() -> None:
    both = several({"vm:100": "n1", "vm:101": "n2", "vm:102": "n1"}, 4)
    rules = [pair(Affinity.NEGATIVE, "vm:100", "vm:101", "vm:102")]
    moves = services(ruled(fenced(both, "n1"), *rules))
    assert {move.guest.node for move in moves.values() if isinstance(move, Move)} == {"n3", "n4"}


def test_a_request_to_move_to_where_a_rule_forbids_it_is_dropped_with_the_reason() -> None:
    both = ruled(several({"vm:100": "n1", "vm:101": "n2"}), pair(Affinity.NEGATIVE, "vm:100", "vm:101"))
    asked = replace(both, resources={**both.resources, SID: Resource(sid=SID, target="n2", target_mode="migrate")})
    change = services(asked)[SID]
    assert isinstance(change, ServiceChange) and change.clear_target
    assert "keeps apart from it" in change.why


# what a node has


def test_a_guest_is_not_started_where_its_memory_bridge_or_storage_is_missing() -> None:
    config = {"memory": "2048", "net0": "virtio=02:00:00:00:00:01,bridge=vmbr7"}
    snapshot = fenced(several({SID: "n1"}, 4, {SID: config}), "n1")
    facts = {
        "n2": NodeFacts(memory=1 << 30, bridges=("vmbr7",)),
        "n3": NodeFacts(memory=8 << 30, bridges=("vmbr0",)),
        "n4": NodeFacts(memory=8 << 30, bridges=("vmbr0", "vmbr7")),
    }
    nodes = {name: replace(node, facts=facts.get(name, NodeFacts())) for name, node in snapshot.nodes.items()}
    move = services(replace(snapshot, nodes=nodes, storages={}))[SID]
    assert isinstance(move, Move) and move.guest.node == "n4"
    without = {name: node for name, node in nodes.items() if name != "n4"}
    why = becomes(replace(snapshot, nodes=without, storages={})).why
    assert "n2 has 1.0 GiB of memory left, and it needs 2.0 GiB" in why and "n3 has no bridge vmbr7" in why


# maintenance


def test_guests_leave_a_node_in_maintenance_live_and_come_back() -> None:
    away = maintained(well(), "n1")
    (node,) = [d for d in turn(away) if isinstance(d, NodeChange)]
    assert node.status is not None and node.status.health is NodeHealth.MAINTENANCE
    assert (becomes(away).state, becomes(away).target, becomes(away).home) == (S.MIGRATE, "n2", "n1")
    there = arrived(after(away), "n2")
    assert there.services[SID].home == "n1" and services(there) == {}
    back = becomes(maintained(there))
    assert (back.state, back.target) == (S.MIGRATE, "n1")
    home = arrived(after(maintained(there)), "n1")
    assert home.services[SID].home == "" and services(home) == {}


def test_a_guest_that_can_go_nowhere_stays_in_maintenance_and_says_why_once() -> None:
    stuck = maintained(replace(well(), allowed={SID: frozenset({"n1"})}), "n1")
    service = becomes(stuck)
    assert service.state is S.STARTED and "n1 is in maintenance, and it stays" in service.why
    assert services(after(stuck)) == {}


def test_nothing_is_started_or_recovered_on_a_node_in_maintenance() -> None:
    move = services(maintained(fenced(well(), "n1"), "n2"))[SID]
    assert isinstance(move, Move) and move.guest.node == "n3"
    stopped = maintained(run_state(well(state=S.STOPPED), RunState.STOPPED), "n1")
    begun = services(stopped)[SID]
    assert isinstance(begun, Move) and begun.guest.node == "n2" and not begun.fenced


# shutdown policy

POLICIES = [
    ("conditional", "reboot", S.FREEZE),
    ("conditional", "poweroff", S.RELOCATE),
    ("freeze", "poweroff", S.FREEZE),
    ("failover", "reboot", S.RELOCATE),
    ("migrate", "reboot", S.MIGRATE),
    ("migrate", "poweroff", S.MIGRATE),
]


@pytest.mark.parametrize(("name", "mode", "state"), POLICIES)
def test_what_becomes_of_guests_when_their_node_shuts_down(name: str, mode: str, state: S) -> None:
    assert becomes(policy(announced(well(), "n1", mode), name)).state is state


def test_a_node_that_gave_up_migrating_goes_on_by_conditional_with_the_reason() -> None:
    service = becomes(policy(announced(well(), "n1", "reboot", gave_up=True), "migrate"))
    assert service.state is S.FREEZE and "did not all migrate away in the time set" in service.why


def rebooting() -> Snapshot:
    """n1 froze its guest, stopped it, and has ended in order."""
    frozen = run_state(after(announced(well(), "n1", "reboot")), RunState.STOPPED)
    assert frozen.statuses["n1"].mode == "reboot"
    gone = {name: beat for name, beat in frozen.heartbeats.items() if name != "n1"}
    return replace(frozen, heartbeats=gone)


def test_a_node_that_reboots_is_not_fenced_and_keeps_its_frozen_guest() -> None:
    silent_for_long = silent(rebooting(), "n1", 600)
    assert not [d for d in turn(silent_for_long) if isinstance(d, (Fence, Move, ServiceChange))]
    assert services(after(silent_for_long)) == {}


def test_a_frozen_guest_starts_when_its_node_is_back() -> None:
    back = rebooting()
    beats = {**back.heartbeats, "n1": Heartbeat(node="n1", incarnation="b", sequence=1)}
    service = becomes(replace(back, heartbeats=beats))
    assert service.state is S.REQUEST_START and service.node == "n1"


def test_a_guest_that_ends_while_its_node_reboots_is_frozen_with_the_others() -> None:
    ending = run_state(announced(well(), "n1", "reboot"), RunState.STOPPED, reason="the node shuts down")
    service = becomes(ending)
    assert service.state is S.FREEZE and "the node shuts down" in service.why


def test_a_frozen_guest_goes_elsewhere_when_an_administrator_will_not_wait() -> None:
    move = services(wanted(rebooting(), target="n3", target_mode="relocate"))[SID]
    assert isinstance(move, Move) and move.guest.node == "n3" and not move.fenced and move.clear_target


def test_a_node_that_dies_while_it_fails_its_guests_over_is_fenced_and_they_are_recovered() -> None:
    leaving = after(announced(well(), "n1", "poweroff"))
    assert [d for d in turn(silent(leaving, "n1", 12)) if isinstance(d, Fence)]
    assert isinstance(services(fenced(leaving, "n1"))[SID], Move)


def test_a_guest_that_is_failed_over_moves_by_the_nodes_own_word() -> None:
    leaving = after(announced(well(), "n1", "poweroff"))
    assert services(leaving) == {}
    move = services(run_state(leaving, RunState.STOPPED))[SID]
    assert isinstance(move, Move) and move.guest.node == "n2" and not move.fenced
    nowhere = replace(run_state(leaving, RunState.STOPPED), allowed={SID: frozenset({"n1"})})
    assert becomes(nowhere).state is S.RECOVERY


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
    assert not [d for d in turn(full) if isinstance(d, ServiceChange)]
    assert [d for d in turn(replace(full, wall=13_000.0)) if isinstance(d, ServiceChange)]


def test_without_the_option_nothing_is_balanced() -> None:
    assert turn(replace(unbalanced(), options=Datacenter(id="", name=""))) == []
