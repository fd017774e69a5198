"""``decide`` by policy: rules, what a node has, maintenance, shutdown."""

from __future__ import annotations

from dataclasses import replace

import pytest
from given import NOW, SID, fenced, run_state, silent, told, wanted, well
from policies_given import (
    after,
    announced,
    arrived,
    becomes,
    homes,
    maintained,
    pair,
    policy,
    ruled,
    services,
    several,
    turn,
)

from racimo.ha.decide import decide
from racimo.ha.states import Fence, Move, NodeChange, ServiceChange, Snapshot
from racimo.model.guest import RunState
from racimo.model.ha import (
    Heartbeat,
    NodeHealth,
    Requested,
    Resource,
    ServiceState,
)
from racimo.model.node import NodeFacts
from racimo.model.rule import Affinity

S = ServiceState


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


def test_one_that_waits_for_room_does_not_draw_its_group_to_where_it_lies() -> None:
    sids = {"vm:100": "n3", "vm:101": "n1", "vm:102": "n2"}
    sizes = {"vm:100": {"memory": "1024"}, "vm:101": {"memory": "6144"}, "vm:102": {"memory": "1024"}}
    snapshot = ruled(several(sids, 3, sizes), pair(Affinity.POSITIVE, *sids))
    room = {"n1": 8, "n2": 1, "n3": 4}
    new = replace(
        snapshot,
        services={},
        nodes={name: replace(node, facts=NodeFacts(memory=room[name] << 30)) for name, node in snapshot.nodes.items()},
        runtimes={sid: replace(one, state=RunState.STOPPED) for sid, one in snapshot.runtimes.items()},
    )
    assert (becomes(new, "vm:100").state, becomes(new, "vm:101").state) == (S.REQUEST_START, S.QUEUED)
    move = services(new)["vm:102"]
    assert isinstance(move, Move) and move.guest.node == "n3"


def test_one_that_is_being_stopped_does_not_draw_its_group_to_where_it_ends() -> None:
    snapshot = several({"vm:100": "n1", "vm:101": "n2", "vm:102": "n3"})
    ruled_ = ruled(snapshot, pair(Affinity.POSITIVE, "vm:100", "vm:101", "vm:102"))
    stopping = replace(snapshot.services["vm:100"], state=S.REQUEST_STOP)
    queued = replace(snapshot.services["vm:101"], state=S.QUEUED)
    ending = replace(
        ruled_,
        resources={**snapshot.resources, "vm:100": Resource(sid="vm:100", requested=Requested.STOPPED)},
        services={**snapshot.services, "vm:100": stopping, "vm:101": queued},
        runtimes={**snapshot.runtimes, "vm:101": replace(snapshot.runtimes["vm:101"], state=RunState.STOPPED)},
    )
    move = services(ending)["vm:101"]
    assert isinstance(move, Move) and move.guest.node == "n3"


def test_where_a_guest_was_to_move_draws_its_group_no_more_once_it_was_recovered_elsewhere() -> None:
    sids = {"vm:100": "n1", "vm:101": "n1", "vm:102": "n1"}
    snapshot = several({**sids, "vm:103": "n2"})
    moving = replace(snapshot.services["vm:100"], state=S.MIGRATE, target="n2")
    snapshot = replace(snapshot, services={**snapshot.services, "vm:100": moving})
    moves = services(ruled(fenced(snapshot, "n1"), pair(Affinity.POSITIVE, *sids)))
    assert {sid: move.guest.node for sid, move in moves.items() if isinstance(move, Move)} == dict.fromkeys(sids, "n3")


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


def a_group_with_a_home_on_n3(*bridges: str) -> Snapshot:
    """vm:100 and vm:101 are kept together on n1, a rule prefers n3 for vm:100; n3 has ``bridges``, the others all."""
    card = {"net0": "virtio=02:00:00:00:00:01,bridge=vmbr7"}
    both = several({"vm:100": "n1", "vm:101": "n1"}, 3, {"vm:101": card})
    facts = {"n3": NodeFacts(bridges=bridges)}
    nodes = {name: replace(node, facts=facts.get(name, NodeFacts())) for name, node in both.nodes.items()}
    rules = pair(Affinity.POSITIVE, "vm:100", "vm:101"), homes({"n3": 1})
    return ruled(replace(both, nodes=nodes, storages={}), *rules)


def test_a_group_follows_a_node_rule_of_one_of_it_only_to_where_all_have_what_they_need() -> None:
    assert services(a_group_with_a_home_on_n3("vmbr0")) == {}
    assert services(fenced(a_group_with_a_home_on_n3("vmbr0"), "n2")) == {}
    assert becomes(a_group_with_a_home_on_n3("vmbr0", "vmbr7")).target == "n3"


def test_a_group_is_recovered_where_all_of_it_have_what_they_need() -> None:
    lost = services(fenced(a_group_with_a_home_on_n3("vmbr0"), "n1"))
    assert {move.guest.node for move in lost.values() if isinstance(move, Move)} == {"n2"}


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
