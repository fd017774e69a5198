"""When a live migration is helped along, and when it is given up."""

from __future__ import annotations

from racimo.guest.migration_follow import PATIENT_ROUNDS, Course, MigrationLimits
from racimo.guest.migration_status import MigrationStatus

MIB = 1 << 20


def look(rounds: int, remaining: int, throttle: int = 0) -> MigrationStatus:
    return MigrationStatus(
        "active", rounds=rounds, remaining=remaining, throttle=throttle, dirty_rate=90 * MIB, rate=30 * MIB
    )


def test_a_migration_that_makes_progress_is_left_alone() -> None:
    course = Course(MigrationLimits(patience=10), 0)
    turns = [course.see(look(1 + step // 50, 1000 - step), step * 5) for step in range(100)]
    assert not any(turn.lines or turn.give_up for turn in turns)


def test_a_busy_guest_gets_more_downtime_up_to_the_limit() -> None:
    course = Course(MigrationLimits(downtime=0.1, max_downtime=0.3), 0)
    raised = [course.see(look(rounds, 100), 1.0).downtime for rounds in range(1, PATIENT_ROUNDS + 5)]
    assert raised == [None] * PATIENT_ROUNDS + [0.2, 0.3, None, None]


def test_each_slow_down_is_told_once() -> None:
    course = Course(MigrationLimits(), 0)
    assert course.see(look(2, 100, 20), 1).lines == (
        "the guest writes faster than the network carries: slowed down by 20 %",
    )
    assert course.see(look(2, 100, 20), 2).lines == ()


def test_no_progress_for_longer_than_the_patience_is_given_up_with_the_numbers() -> None:
    course = Course(MigrationLimits(patience=10), 0)
    course.see(look(1, 100), 0)
    assert course.see(look(2, 100), 10).give_up == ""
    given_up = course.see(look(3, 100, 99), 10.1).give_up
    assert given_up == (
        "the guest writes 90 MiB/s and the network carries 30 MiB/s, although it was slowed down by 99 %"
    )


def test_the_first_round_may_take_as_long_as_it_takes() -> None:
    course = Course(MigrationLimits(patience=10), 0)
    assert course.see(look(1, 100), 5000).give_up == ""
