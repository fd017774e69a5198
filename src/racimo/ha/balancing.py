"""Automatic rebalancing: when the nodes are used too unlike for long enough, guests move, a few in an hour. Pure."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from racimo.ha.states import BalanceChange
from racimo.ha.step import Step
from racimo.model.ha import ArmPhase, Requested, ServiceState
from racimo.placement.rebalance import Goal, Method, imbalance, rebalance, rounds_above

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from racimo.ha.service_turn import ServiceTurn
    from racimo.ha.states import Decision
    from racimo.model.datacenter import Datacenter
    from racimo.placement.rebalance import Plan

ROUND_S = 10.0
HOUR_S = 3600.0
AT_ONCE = 1
"""So many guests, or groups that are kept together, are on their way for balance at one time: the next is chosen by
what the first has changed."""
AT_REST = (ServiceState.STARTED, ServiceState.STOPPED, ServiceState.ERROR)


class MoveAges:
    """How long ago moves for balance were made, without trust in a wall clock, which may jump and is another on each
    node: from when this process first saw each of them. One that has just begun takes all for new."""

    def __init__(self) -> None:
        self._seen: dict[float, float] = {}

    def look(self, moves: Sequence[float], now: float) -> tuple[float, ...]:
        """The age of each, in seconds; ``now`` is on a monotonic clock."""
        self._seen = {move: self._seen.get(move, now) for move in moves}
        return tuple(now - self._seen[move] for move in moves)


def goal_of(options: Datacenter, moves: int, steps: int | None = None) -> Goal:
    """What the datacenter's options ask for."""
    known = options.crs_method in tuple(Method)
    method = Method(options.crs_method) if known else Method.BRUTEFORCE
    return Goal(threshold=options.crs_threshold, margin=options.crs_margin, moves=moves, steps=steps, method=method)


def plan(turn: ServiceTurn, goal: Goal) -> Plan:
    """The moves that would be made now. Guests that are on their way, locked or away from home stay."""
    movable = [sid for sid in turn.snapshot.services if _is_movable(turn, sid)]
    allowed = {sid: nodes for sid in movable if (nodes := turn.choosing.feasible(sid)) is not None}
    return rebalance(turn.choosing.fleet, movable, goal, allowed=allowed)


def _is_movable(turn: ServiceTurn, sid: str) -> bool:
    snapshot = turn.snapshot
    service, resource, guest = snapshot.services[sid], snapshot.resources.get(sid), snapshot.guests.get(sid)
    if resource is None or guest is None or resource.requested is not Requested.STARTED or resource.target:
        return False
    if service.state is not ServiceState.STARTED or service.home or sid in snapshot.locks:
        return False
    step = Step(turn, resource, service, guest)
    return step.runs and step.node in turn.scene.open and not step.is_paused()


def balance(turn: ServiceTurn) -> Iterator[Decision]:
    """One round, if it is time for one and nothing else is under way."""
    snapshot, options = turn.snapshot, turn.snapshot.options
    if not options.crs_auto_rebalance or snapshot.arming.phase is not ArmPhase.ARMED:
        return
    before, wall = snapshot.balance, snapshot.wall
    since = wall - before.round_at
    if 0 <= since < ROUND_S:
        turn.wake_in(ROUND_S - since)
        return
    turn.wake_in(ROUND_S)
    if any(service.state not in AT_REST for service in snapshot.services.values()):
        return
    ages = dict(zip(before.moves, snapshot.move_ages, strict=False))
    moved = tuple(at for at in before.moves if ages.get(at, 0.0) < HOUR_S)
    goal = goal_of(options, max(0, options.crs_moves_per_hour - len(moved)), AT_ONCE)
    found = imbalance(turn.choosing.fleet)
    rounds = rounds_above(before.rounds, found, goal)
    now = replace(before, rounds=min(rounds, options.crs_hold), round_at=wall, moves=moved)
    why = f"the imbalance is {found:.2f}, above {goal.threshold:g} for {rounds} of {options.crs_hold} rounds"
    decisions: list[Decision] = []
    if rounds >= options.crs_hold and goal.moves:
        moves = plan(turn, goal).moves
        for move in moves:
            step = Step(turn, snapshot.resources[move.sid], snapshot.services[move.sid], snapshot.guests[move.sid])
            decision = step.command(ServiceState.MIGRATE, f"for balance: {move.why}", target=move.target)
            decisions += [decision] if decision is not None else []
        if moves:
            now = replace(now, rounds=0, moves=(*moved, *(wall for _ in moves)))
    if (now.rounds, now.moves) != (before.rounds, before.moves) or rounds:
        yield BalanceChange(now, why)  # before the moves: a manager that ends in between has rather made too few
    yield from decisions
