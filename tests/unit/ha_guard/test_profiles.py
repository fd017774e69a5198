"""The sets of times: where the fast one is refused, and that a switch loses no guest."""

from __future__ import annotations

import pytest
from one_node import OneNode

from racimo.errors import BadParameter, Refused
from racimo.ha.heartbeat import COMMITS_NEEDED
from racimo.ha.profiles import demand_quick, slowest_ms
from racimo.ha.timing import PROFILES
from racimo.model.ha import Heartbeat

DEFAULT, FAST, PATIENT = PROFILES["default"], PROFILES["fast"], PROFILES["patient"]


def beats(**took_ms: int) -> dict[str, Heartbeat]:
    return {name: Heartbeat(node=name, incarnation="a", sequence=9, commit_ms=ms) for name, ms in took_ms.items()}


def test_fast_is_taken_where_every_heartbeat_is_quick() -> None:
    at_the_limit = slowest_ms(FAST)
    demand_quick("fast", beats(n1=12, n2=at_the_limit))
    with pytest.raises(Refused):
        demand_quick("fast", beats(n1=12, n2=at_the_limit + 1))


def test_fast_is_refused_with_the_numbers_where_one_is_slow_or_not_known() -> None:
    with pytest.raises(Refused, match="within 250 ms; they take n2: 251 ms, n3: not measured yet"):
        demand_quick("fast", beats(n1=12, n2=251, n3=0))


def test_the_others_are_taken_where_fast_is_not() -> None:
    slow, refused = beats(n1=900, n2=0), []
    for name in PROFILES:
        try:
            demand_quick(name, slow)
        except Refused:
            refused.append(name)
    assert refused == ["fast"]


def test_there_are_no_others() -> None:
    with pytest.raises(BadParameter):
        demand_quick("frantic", {})


async def test_a_node_says_how_quick_its_heartbeats_are_once_it_knows() -> None:
    one = OneNode()
    await one.records()
    await one.ha.holder._begin()
    for _ in range(COMMITS_NEEDED):
        assert one.ha.holder.commit_ms() == 0
        await one.ha.holder.beat()
    assert one.ha.holder.commit_ms() == 1
    await one.ha.holder.beat()
    assert (await one.layout.heartbeats.get("n1")).commit_ms == 1
    await one.store.close()


async def test_switching_to_shorter_times_kills_nothing_though_its_first_heartbeat_is_not_heard_of() -> None:
    """Observers may count by it, so the lease ends sooner; but not by the margin of the longer one."""
    one = OneNode()
    await one.records()
    await one.ha.holder._begin()
    await one.ha.holder.beat()
    one.ha.holder.profile = lambda: FAST
    await one.store.close()
    await one.ha.holder.beat()
    assert one.desk.lease is not None
    assert one.desk.lease.deadline_ns == one.clock.boottime_ns() + FAST.lease_ns
    one.clock.now += FAST.lease - FAST.kill_margin - 0.1
    assert one.ha.holder.holds()
    one.clock.now += 0.2
    assert not one.ha.holder.holds()
