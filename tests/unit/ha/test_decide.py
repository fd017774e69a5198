"""``decide`` by tables: given this, the manager does that, and says why."""

from __future__ import annotations

from dataclasses import replace

import pytest
from given import NOW, SID, fenced, make_outcome, make_service, run_state, silent, told, turn, wanted, well

from racimo.ha.decide import decide
from racimo.ha.states import Fence, Move, NodeChange, ServiceChange, Snapshot
from racimo.model.guest import Guest, RunState
from racimo.model.ha import Heartbeat, NodeHealth, Requested, Service, ServiceState

S = ServiceState


def about_service(snapshot: Snapshot) -> ServiceChange | Move | None:
    found = [decision for decision in turn(snapshot) if isinstance(decision, (ServiceChange, Move))]
    assert len(found) <= 1
    return found[0] if found else None


def becomes(snapshot: Snapshot) -> Service:
    decision = about_service(snapshot)
    assert decision is not None and decision.service is not None
    return decision.service


def test_when_all_is_well_nothing_is_decided() -> None:
    assert turn(well()) == []


def test_the_next_look_is_when_the_first_node_would_be_suspect() -> None:
    assert decide(silent(well(), "n2", 2.0), NOW).next_wake == NOW + 1.0


def test_out_of_touch_nobody_expires() -> None:
    assert not [d for d in turn(silent(well(), "n1", 60, in_touch=False)) if isinstance(d, Fence)]


@pytest.mark.parametrize(("ago", "health"), [(2.9, None), (3.1, NodeHealth.UNKNOWN), (10.9, NodeHealth.UNKNOWN)])
def test_a_silent_node_is_unknown_before_it_is_fenced(ago: float, health: NodeHealth | None) -> None:
    changes = [d for d in turn(silent(well(), "n1", ago)) if isinstance(d, NodeChange)]
    assert [change.status.health for change in changes if change.status] == ([health] if health else [])


def test_a_node_is_fenced_by_the_heartbeat_that_was_seen_last() -> None:
    (fence,) = turn(silent(well(), "n1", 11.2))
    assert isinstance(fence, Fence)
    assert fence.revision == 40 and fence.status.health is NodeHealth.FENCE
    assert fence.why == "n1's lease ran out: nothing new seen of it for 11.2 s"
    assert "incarnation a at sequence 7" in fence.status.proof


def test_nothing_of_an_expired_node_moves_before_it_is_fenced() -> None:
    assert about_service(silent(well(), "n1", 60)) is None


def test_a_fenced_nodes_guest_starts_elsewhere_under_the_next_epoch() -> None:
    move = about_service(fenced(well(), "n1"))
    assert isinstance(move, Move)
    assert (move.guest.node, move.guest.epoch, move.fenced) == ("n2", 6, "n1")
    assert (move.runtime.node, move.runtime.epoch, move.runtime.state) == ("n2", 6, RunState.STOPPED)
    assert (move.service.node, move.service.epoch, move.service.state) == ("n2", 6, S.REQUEST_START)
    assert move.why == "vm:100 → n2: n1's lease ran out; n2 is the first of the emptiest of n2, n3"
    assert move.service.history[-1].what == "n1 → n2"


def test_a_fenced_node_that_shows_life_again_keeps_its_guests() -> None:
    back = fenced(well(state=S.RECOVERY), "n1")
    back = replace(back, heartbeats={**back.heartbeats, "n1": Heartbeat(node="n1", incarnation="b", sequence=1)})
    service = becomes(back)
    assert (service.state, service.node, service.epoch) == (S.REQUEST_START, "n1", 5)
    (node,) = [d for d in turn(back) if isinstance(d, NodeChange)]
    assert node.status is not None and node.status.health is NodeHealth.ONLINE and not node.status.proof


def test_without_the_guards_word_for_it_a_running_guest_is_not_recovered() -> None:
    service = becomes(fenced(well(guarded=False), "n1"))
    assert service.state is S.RECOVERY and "never confirmed" in service.why


def test_after_a_move_the_new_owner_has_to_say_anew_that_it_has_marked_the_guest() -> None:
    """What it said when the guest was there an epoch ago does not count: it may have taken the mark away since."""
    now = run_state(well(node="n2", epoch=4), RunState.RUNNING)
    moved = becomes(replace(now, outcomes={SID: make_outcome("n1", 3)}))
    assert (moved.node, moved.epoch, moved.guarded) == ("n1", 5, False)
    said = replace(now, services={SID: moved}, outcomes={SID: make_outcome("n1", 5)})
    assert becomes(said).guarded


def test_without_a_node_that_can_run_it_a_guest_waits_and_says_so_once() -> None:
    alone = replace(fenced(well(), "n1"), allowed={SID: frozenset({"n1"})})
    service = becomes(alone)
    assert service.state is S.RECOVERY and "no node can have it: n2, n3 lacks a storage of its" in service.why
    assert about_service(replace(alone, services={SID: service})) is None


@pytest.mark.parametrize("requested", [Requested.STOPPED, Requested.DISABLED])
def test_a_guest_that_is_not_wanted_to_run_is_not_moved(requested: Requested) -> None:
    assert becomes(wanted(fenced(well(), "n1"), requested=requested)).state is S.STOPPED


def test_guests_of_a_fenced_node_are_spread() -> None:
    snapshot = fenced(well(), "n1")
    sids = [f"vm:{vmid}" for vmid in (100, 101, 102, 103)]
    snapshot = replace(
        snapshot,
        resources={sid: replace(snapshot.resources[SID], sid=sid) for sid in sids},
        services={sid: make_service(sid=sid) for sid in sids},
        guests={sid: Guest(vmid=int(sid[3:]), node="n1", epoch=5) for sid in sids},
        runtimes={},
    )
    moves = [d for d in turn(snapshot) if isinstance(d, Move)]
    assert [move.guest.node for move in moves] == ["n2", "n3", "n2", "n3"]


def test_a_node_without_a_heartbeat_is_fenced_only_if_guests_wait_for_it() -> None:
    lost = silent(well(), "n1", 60)
    lost = replace(lost, heartbeats={name: beat for name, beat in lost.heartbeats.items() if name != "n1"})
    assert isinstance(turn(lost)[0], Fence)
    assert not [d for d in turn(replace(lost, resources={}, services={})) if isinstance(d, Fence)]


FIRST_ANSWERS = [
    ("", 0, 0, S.STARTED, "n1"),
    ("boom", 0, 0, S.REQUEST_START, "n1"),
    ("boom", 1, 0, S.REQUEST_START, "n2"),
    ("boom", 1, 1, S.ERROR, "n1"),
]


@pytest.mark.parametrize(("error", "restarts", "relocations", "state", "node"), FIRST_ANSWERS)
def test_a_start_is_tried_again_then_elsewhere_then_it_is_an_error(
    error: str, restarts: int, relocations: int, state: S, node: str
) -> None:
    asked = well(state=S.REQUEST_START, restarts=restarts, relocations=relocations)
    asked = run_state(asked, RunState.RUNNING if not error else RunState.STOPPED)
    service = becomes(told(asked, "start", error))
    assert (service.state, service.node) == (state, node)
    assert error in service.why


def test_a_guest_whose_start_failed_moves_only_when_its_node_says_that_it_is_stopped() -> None:
    failed = told(well(state=S.REQUEST_START, restarts=1), "start", "boom")
    assert about_service(run_state(failed, RunState.STARTING)) is None
    assert about_service(run_state(failed, RunState.STOPPED, epoch=4)) is None
    assert isinstance(about_service(run_state(failed, RunState.STOPPED)), Move)


@pytest.mark.parametrize("fields", [{"attempt": 9}, {"epoch": 4}, {"node": "n2"}, {"command": "mark"}])
def test_an_answer_to_another_command_is_none(fields: dict[str, object]) -> None:
    asked = told(well(state=S.REQUEST_START), "start")
    assert about_service(replace(asked, outcomes={SID: replace(asked.outcomes[SID], **fields)})) is None  # type: ignore[arg-type]


def test_only_disabled_clears_an_error() -> None:
    broken = well(state=S.ERROR, restarts=1, relocations=1)
    assert about_service(broken) is None
    assert about_service(wanted(broken, requested=Requested.STOPPED)) is None
    service = becomes(wanted(broken, requested=Requested.DISABLED))
    assert (service.state, service.restarts, service.relocations) == (S.STOPPED, 0, 0)


def test_a_guest_that_ended_by_itself_is_started_again() -> None:
    service = becomes(run_state(well(), RunState.STOPPED, reason="QEMU crashed"))
    assert service.state is S.REQUEST_START and "QEMU crashed" in service.why and service.attempt == 2


REQUESTS = [
    (S.STARTED, Requested.STOPPED, S.REQUEST_STOP),
    (S.REQUEST_START, Requested.DISABLED, S.REQUEST_STOP),
    (S.STOPPED, Requested.STARTED, S.REQUEST_START),
    (S.REQUEST_STOP, Requested.STARTED, S.REQUEST_START),
]


@pytest.mark.parametrize(("state", "requested", "then"), REQUESTS)
def test_what_is_wanted_becomes_a_command(state: S, requested: Requested, then: S) -> None:
    assert becomes(wanted(well(state=state), requested=requested)).state is then


def test_a_stopped_guest_is_stopped_when_its_node_says_so() -> None:
    asked = wanted(well(state=S.REQUEST_STOP), requested=Requested.STOPPED)
    assert about_service(asked) is None
    assert becomes(run_state(asked, RunState.STOPPED)).state is S.STOPPED
    assert becomes(told(asked, "stop", "it hangs")).state is S.ERROR


def test_a_request_to_migrate_goes_to_the_owner_and_ends_with_the_guests_move() -> None:
    asked = wanted(well(), target="n3", target_mode="migrate")
    service = becomes(asked)
    assert (service.state, service.target, service.node) == (S.MIGRATE, "n3", "n1")
    moving = replace(asked, services={SID: service})
    assert about_service(moving) is None
    arrived = replace(
        moving,
        guests={SID: Guest(vmid=100, node="n3", epoch=6)},
        runtimes={SID: replace(moving.runtimes[SID], node="n3", epoch=6)},
    )
    done = about_service(arrived)
    assert isinstance(done, ServiceChange) and done.service is not None and done.clear_target
    assert (done.service.state, done.service.node, done.service.epoch) == (S.STARTED, "n3", 6)


def test_a_failed_migration_leaves_the_guest_where_it_is() -> None:
    moving = told(wanted(well(state=S.MIGRATE, target="n3"), target="n3"), "migrate", "unlike CPU")
    done = about_service(moving)
    assert isinstance(done, ServiceChange) and done.service is not None and done.clear_target
    assert done.service.state is S.STARTED and "unlike CPU" in done.service.why


def test_a_relocation_stops_the_guest_first() -> None:
    asked = wanted(well(), target="n3", target_mode="relocate")
    stopping = replace(asked, services={SID: becomes(asked)})
    assert becomes(asked).state is S.RELOCATE
    assert about_service(stopping) is None
    move = about_service(run_state(stopping, RunState.STOPPED))
    assert isinstance(move, Move) and move.guest.node == "n3" and move.clear_target and not move.fenced


@pytest.mark.parametrize("target", ["n1", "n9"])
def test_a_request_to_move_to_where_it_cannot_go_is_dropped_with_the_reason(target: str) -> None:
    done = about_service(wanted(well(), target=target, target_mode="migrate"))
    assert isinstance(done, ServiceChange) and done.clear_target and target in done.why


def test_new_and_removed_and_ignored_resources() -> None:
    assert becomes(replace(well(), services={})).state is S.REQUEST_START
    for gone in (replace(well(), resources={}), wanted(well(), requested=Requested.IGNORED)):
        decision = about_service(gone)
        assert isinstance(decision, ServiceChange) and decision.service is None


def test_a_resource_whose_guest_vanished_is_an_error_that_says_so() -> None:
    service = becomes(replace(well(), guests={}, runtimes={}))
    assert service.state is S.ERROR and "does not exist" in service.why


def test_a_node_that_is_no_longer_a_member_is_forgotten_when_no_guest_is_its() -> None:
    gone = fenced(well(), "n3")
    gone = replace(gone, nodes={name: node for name, node in gone.nodes.items() if name != "n3"})
    assert NodeChange("n3", None, "n3 is no longer a member and no HA guest is assigned to it") in turn(gone)


def test_history_keeps_the_last_twenty_steps() -> None:
    service = make_service(state=S.STARTED)
    for _ in range(30):
        service = replace(
            becomes(run_state(replace(well(), services={SID: service}), RunState.STOPPED)), state=S.STARTED
        )
    assert len(service.history) == 20
