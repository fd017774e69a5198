"""When much is to be decided at once, it is decided in turns: the daemon's heartbeats must not wait for all of it."""

from __future__ import annotations

from dataclasses import replace

from given import NOW, fenced, make_service, well

from racimo.ha.decide import AT_ONCE, decide
from racimo.ha.states import Move, Snapshot
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Resource


def crowded(count: int) -> Snapshot:
    """n1, with all guests on it, was fenced."""
    sids = {f"vm:{100 + number}": 100 + number for number in range(count)}
    return fenced(
        replace(
            well(),
            resources={sid: Resource(sid=sid) for sid in sids},
            services={sid: make_service(sid=sid) for sid in sids},
            guests={sid: Guest(vmid=vmid, node="n1", epoch=5) for sid, vmid in sids.items()},
            runtimes={sid: Runtime(vmid=v, node="n1", epoch=5, state=RunState.RUNNING) for sid, v in sids.items()},
        ),
        "n1",
    )


def applied(snapshot: Snapshot, moves: list[Move]) -> Snapshot:
    return replace(
        snapshot,
        services={**snapshot.services, **{move.sid: move.service for move in moves}},
        guests={**snapshot.guests, **{move.sid: move.guest for move in moves}},
        runtimes={**snapshot.runtimes, **{move.sid: move.runtime for move in moves}},
    )


def test_a_turn_decides_so_much_and_the_next_is_due_at_once() -> None:
    snapshot, moved = crowded(2 * AT_ONCE + 5), []
    for expected in (AT_ONCE, AT_ONCE, 5):
        turn = decide(snapshot, NOW)
        moves = [decision for decision in turn.decisions if isinstance(decision, Move)]
        assert len(moves) == expected
        assert (turn.next_wake == NOW) == (expected == AT_ONCE)
        snapshot = applied(snapshot, moves)
        moved += [move.sid for move in moves]
    assert moved == sorted(snapshot.guests, key=lambda sid: int(sid[3:]))
    owners = [guest.node for guest in snapshot.guests.values()]
    assert {owners.count("n2"), owners.count("n3")} == {202, 203}
