"""Who may count whom, and which lease may be extended: the rules one by one."""

from __future__ import annotations

import math
from dataclasses import replace

from racimo.ha.observer import Observer, names
from racimo.ha.timing import PROFILES
from racimo.model.ha import Heartbeat

DEFAULT, FAST = PROFILES["default"], PROFILES["fast"]


def observer(now: float) -> Observer:
    made = Observer(DEFAULT.beat, now)
    made.contact(now)
    return made


def in_touch(watcher: Observer, since: float, until: float) -> None:
    while since < until:
        since = min(until, since + DEFAULT.beat)
        watcher.contact(since)


def test_a_promise_is_counted_from_when_it_was_given() -> None:
    watcher = observer(0.0)
    watcher.see("n1", 5, "default", 0.0)
    watcher.promise("n1", DEFAULT.lease, 8.0)
    in_touch(watcher, 0.0, 8.0 + DEFAULT.expiry)
    assert not watcher.expired("n1", 8.0 + DEFAULT.expiry - 0.01)
    assert watcher.expired("n1", 8.0 + DEFAULT.expiry)


def test_a_shorter_promise_takes_back_nothing_of_a_longer_one() -> None:
    watcher = observer(0.0)
    watcher.see("n1", 5, "fast", 0.0)
    watcher.promise("n1", DEFAULT.lease, 1.0)
    watcher.promise("n1", FAST.lease, 2.0)
    in_touch(watcher, 0.0, 12.0)
    assert not watcher.expired("n1", 1.0 + DEFAULT.expiry - 0.01)


def test_a_promise_for_a_node_that_was_not_seen_yet_counts_once_it_is() -> None:
    watcher = observer(0.0)
    watcher.promise("n1", DEFAULT.lease, 0.0)
    watcher.see("n1", 5, "fast", 0.1)
    in_touch(watcher, 0.0, 8.0)
    assert not watcher.expired("n1", 8.0)


def test_who_is_not_named_by_a_heartbeat_never_counts_by_it() -> None:
    watcher = observer(0.0)
    watcher.see("n1", 5, "default", 0.0, counts=False)
    in_touch(watcher, 0.0, 100.0)
    sighting = watcher.sighting("n1", 100.0)
    assert sighting is not None and sighting.expires == math.inf
    watcher.see("n1", 6, "default", 100.0)
    in_touch(watcher, 100.0, 100.0 + DEFAULT.expiry)
    assert watcher.expired("n1", 100.0 + DEFAULT.expiry)


def test_a_heartbeat_that_names_nobody_is_counted_by_all() -> None:
    beat = Heartbeat(node="n1", incarnation="a", sequence=1)
    assert names(beat, "n9")
    assert names(replace(beat, peers=("n1", "n9")), "n9")
    assert not names(replace(beat, peers=("n1", "n2")), "n9")


def test_after_an_outage_nobody_is_suspected_before_it_could_show_life() -> None:
    watcher = observer(0.0)
    watcher.see("n1", 5, "default", 0.0)
    watcher.contact(60.0)
    sighting = watcher.sighting("n1", 60.0)
    assert sighting is not None and sighting.suspect == 60.0 + DEFAULT.suspect
