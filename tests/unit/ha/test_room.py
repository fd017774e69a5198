"""``decide`` where memory is short: a guest is started where it is only if it has room there."""

from __future__ import annotations

from dataclasses import replace

from given import SID, fenced, run_state, well
from policies_given import becomes, homes, maintained, pair, ruled, services, several

from racimo.ha.states import Move, Snapshot
from racimo.model.guest import RunState, Runtime
from racimo.model.ha import Requested, ServiceState
from racimo.model.node import NodeFacts
from racimo.model.rule import Affinity

S = ServiceState
OTHER = "vm:101"
GIB = 1 << 30


def with_memory(snapshot: Snapshot, **gibs: int) -> Snapshot:
    sizes = {name: NodeFacts(memory=gibs.get(name, 64) * GIB) for name in snapshot.nodes}
    return replace(snapshot, nodes={name: replace(node, facts=sizes[name]) for name, node in snapshot.nodes.items()})


def in_state(snapshot: Snapshot, sid: str, state: ServiceState, run: RunState) -> Snapshot:
    runtime = Runtime(vmid=int(sid[3:]), node=snapshot.guests[sid].node, epoch=5, state=run)
    services = {**snapshot.services, sid: replace(snapshot.services[sid], state=state)}
    return replace(snapshot, services=services, runtimes={**snapshot.runtimes, sid: runtime})


def two_of_8_gib(state: ServiceState, **gibs: int) -> Snapshot:
    """vm:100 and vm:101 on n1; the first is stopped."""
    config = {"memory": "8192"}
    snapshot = several({SID: "n1", OTHER: "n1"}, 2, {SID: config, OTHER: config})
    return in_state(with_memory(snapshot, **gibs), SID, state, RunState.STOPPED)


def test_a_stopped_guest_is_started_elsewhere_when_its_node_has_no_room() -> None:
    move = services(two_of_8_gib(S.STOPPED, n1=12))[SID]
    assert isinstance(move, Move) and move.guest.node == "n2"


def test_without_room_anywhere_it_waits_and_says_why() -> None:
    service = becomes(two_of_8_gib(S.STOPPED, n1=12, n2=4))
    assert service.state is S.QUEUED
    assert "n1, n2 has 4.0 GiB of memory left, and it needs 8.0 GiB" in service.why


def test_a_guest_that_ended_by_itself_has_kept_its_place() -> None:
    assert becomes(two_of_8_gib(S.STARTED, n1=12)).state is S.REQUEST_START


def test_a_new_guest_is_not_started_on_a_node_that_others_were_just_given() -> None:
    config = {"memory": "8192"}
    snapshot = several({SID: "n2", OTHER: "n1"}, 2, {SID: config, OTHER: config})
    for sid in (SID, OTHER):
        snapshot = in_state(snapshot, sid, S.QUEUED, RunState.STOPPED)
    snapshot = replace(ruled(with_memory(snapshot, n1=12), homes({"n1": 0}, strict=True)), services={})
    moves = services(snapshot)
    assert {sid: move.guest.node for sid, move in moves.items() if isinstance(move, Move)} == {SID: "n1", OTHER: "n2"}


def test_a_guest_that_runs_though_it_is_stopped_for_ha_takes_its_memory() -> None:
    snapshot = several({SID: "n1", OTHER: "n2"}, 2, {SID: {"memory": "8192"}, OTHER: {"memory": "8192"}})
    snapshot = in_state(with_memory(snapshot, n2=12), OTHER, S.STOPPED, RunState.RUNNING)
    unwanted = replace(snapshot.resources[OTHER], requested=Requested.STOPPED)
    snapshot = replace(snapshot, resources={**snapshot.resources, OTHER: unwanted})
    assert "n2 has 4.0 GiB of memory left" in becomes(maintained(snapshot, "n1")).why


def test_a_guest_is_not_started_beside_one_kept_apart_that_is_still_leaving() -> None:
    snapshot = ruled(several({SID: "n1", OTHER: "n1"}, 2), pair(Affinity.NEGATIVE, SID, OTHER))
    leaving = replace(snapshot.services[OTHER], state=S.MIGRATE, target="n2")
    snapshot = replace(snapshot, services={**snapshot.services, OTHER: leaving})
    assert becomes(in_state(snapshot, SID, S.STOPPED, RunState.STOPPED)).state is S.QUEUED


def test_a_guest_that_waited_for_recovery_is_not_started_where_a_strict_rule_forbids_it() -> None:
    snapshot = run_state(well(state=S.RECOVERY), RunState.STOPPED)
    move = services(ruled(snapshot, homes({"n2": 0}, strict=True)))[SID]
    assert isinstance(move, Move) and move.guest.node == "n2"


def test_it_waits_on_while_no_node_may_have_it() -> None:
    snapshot = run_state(fenced(well(state=S.RECOVERY), "n2"), RunState.STOPPED)
    assert SID not in services(ruled(snapshot, homes({"n2": 0}, strict=True)))


def test_it_is_started_where_it_is_when_its_group_is_there() -> None:
    snapshot = in_state(several({SID: "n1", OTHER: "n1"}), SID, S.RECOVERY, RunState.STOPPED)
    assert becomes(ruled(snapshot, pair(Affinity.POSITIVE, SID, OTHER))).state is S.REQUEST_START
