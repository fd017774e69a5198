"""What an observer makes of the heartbeats that it sees, and of not having looked."""

from __future__ import annotations

from racimo.ha.observer import Observer


def test_an_observer_counts_from_when_it_saw_and_leaves_a_margin() -> None:
    observer = Observer(1.0, 0.0)
    observer.see("n2", 7, "default", 5.0)
    for now in range(1, 20):
        observer.contact(float(now))
        observer.see("n2", 7, "default", float(now))
    assert not observer.expired("n2", 15.9)
    assert observer.expired("n2", 16.1)
    observer.see("n2", 8, "default", 16.2)
    assert not observer.expired("n2", 19.0)


def test_out_of_touch_an_observer_calls_nobody_dead_and_then_waits() -> None:
    observer = Observer(1.0, 0.0)
    observer.see("n2", 7, "default", 0.0)
    assert not observer.expired("n2", 60.0)
    observer.contact(60.0)
    assert not observer.expired("n2", 60.5)
    for now in range(61, 72):
        observer.contact(float(now))
    assert observer.expired("n2", 71.5)


def test_a_short_outage_does_not_delay_a_failover() -> None:
    observer = Observer(1.0, 0.0)
    observer.see("n2", 7, "default", 0.0)
    for now in (4.5, 6.0, 8.0, 10.0, 11.0):
        observer.contact(now)
    assert observer.expired("n2", 11.1)
