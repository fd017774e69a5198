"""What holds of ``decide`` whatever it is given."""

from __future__ import annotations

from given import NOW, turn
from hypothesis import given as for_all
from hypothesis import settings
from random_snapshots import snapshots

from racimo.ha.decide import decide
from racimo.ha.states import Move, NodeChange, ServiceChange, Snapshot, stopped
from racimo.model.ha import ArmPhase, ServiceState

S = ServiceState


@settings(max_examples=300, deadline=None)
@for_all(snapshots())
def test_no_guest_is_moved_without_a_proof(snapshot: Snapshot) -> None:
    for decision in turn(snapshot):
        if not isinstance(decision, Move):
            continue
        guest = snapshot.guests[decision.sid]
        assert decision.guest.epoch == guest.epoch + 1
        assert decision.guest.node in snapshot.heartbeats and decision.guest.node != guest.node
        ended = stopped(guest, snapshot.runtimes.get(decision.sid))
        if decision.fenced:
            assert decision.fenced == guest.node and guest.node not in snapshot.heartbeats
            assert snapshot.statuses[guest.node].proof
            service = decision.service
            assert ended or (service.guarded and service.armed == snapshot.arming.generation)
        else:
            assert ended


@settings(max_examples=300, deadline=None)
@for_all(snapshots())
def test_while_disarmed_nothing_is_fenced_and_nothing_moves(snapshot: Snapshot) -> None:
    if snapshot.arming.phase is ArmPhase.DISARMED:
        changes = [d for d in turn(snapshot) if not isinstance(d, NodeChange)]
        assert all(isinstance(d, ServiceChange) and d.service is None for d in changes)


@settings(max_examples=300, deadline=None)
@for_all(snapshots())
def test_guests_go_only_to_nodes_that_are_open_to_them_and_by_the_rules(snapshot: Snapshot) -> None:
    places = {sid: service.target or service.node for sid, service in snapshot.services.items()}
    goes = {}
    for decision in turn(snapshot):
        if isinstance(decision, Move):
            goes[decision.sid] = decision.guest.node
        elif isinstance(decision, ServiceChange) and decision.service and decision.service.state is S.MIGRATE:
            goes[decision.sid] = decision.service.target
    for sid, node in goes.items():
        if snapshot.services[sid].state in (S.MIGRATE, S.RELOCATE) and snapshot.services[sid].target == node:
            continue
        beat = snapshot.heartbeats[node]
        assert beat.mode == "active" and node not in snapshot.maintenance
        assert beat.armed == snapshot.arming.generation
        home = snapshot.rules.homes.get(sid)
        assert home is None or home.priority(node) is not None
        for other in snapshot.rules.apart.get(sid, {}):
            nowhere = snapshot.services[other].state in (S.STOPPED, S.QUEUED, S.REQUEST_START_BALANCE)
            assert goes.get(other, places[other]) != node or (nowhere and other not in goes)


@settings(max_examples=300, deadline=None)
@for_all(snapshots())
def test_each_decision_says_why_and_changes_something(snapshot: Snapshot) -> None:
    for decision in turn(snapshot):
        assert decision.why
        if isinstance(decision, ServiceChange):
            assert decision.service != snapshot.services.get(decision.sid) or decision.clear_target
        if isinstance(decision, NodeChange):
            assert decision.status != snapshot.statuses.get(decision.node)


@settings(max_examples=300, deadline=None)
@for_all(snapshots())
def test_the_same_snapshot_gives_the_same_turn(snapshot: Snapshot) -> None:
    assert decide(snapshot, NOW) == decide(snapshot, NOW)
