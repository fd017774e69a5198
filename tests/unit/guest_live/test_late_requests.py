"""Requests of a migration that reach its target late, or twice: no QEMU may wait for a guest that nobody sends."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from guest_parts import HALT

from racimo.errors import Conflict, NotFound
from racimo.guest.migration_request import IncomingRequest
from racimo.guest.operations import CreateGuest
from racimo.guest.reconcile import LOAD_TIMEOUT
from racimo.guest.reconciler import Reconciler
from racimo.model.guest import Lock, RunState
from racimo.model.node import Daemon

if TYPE_CHECKING:
    from guest_nodes import Datacenter, GuestNode

CONFIG = {"memory": "32", "vga": "none", "balloon": "0"}
LOCK = Lock(subject="guests/100", node="n1", incarnation="n1-1", task="first", reason="qmigrate")


@dataclass
class Clock:
    """Seconds, as a test says."""

    now: float = 0.0

    def __call__(self) -> float:
        return self.now


async def migrating(place: Datacenter, lock: Lock = LOCK) -> tuple[GuestNode, GuestNode, IncomingRequest]:
    """A guest that runs on n1, locked by the migration that would move it to n2, and what that asks n2."""
    source, target = await place.add("n1"), await place.add("n2")
    await source.run(CreateGuest(vmid=100, config={**CONFIG, "virtio0": place.boot_disk(HALT)}, start=True))
    await source.layout.locks.create("guests/100", lock)
    guest, hypervisor = await source.layout.guests.get(100), source.life.hypervisor
    request = IncomingRequest(
        vmid=100,
        source="n1",
        epoch=1,
        config=guest.config,
        cpu=source.host.started_with(100).cpu,
        qemu=hypervisor.version,
        acceleration=hypervisor.acceleration.kind,
        task=lock.task,
    )
    return source, target, request


async def test_a_request_of_a_migration_that_is_over_is_refused_during_the_next_one(place: Datacenter) -> None:
    _, target, request = await migrating(place, replace(LOCK, task="second"))
    with pytest.raises(Conflict, match="the migration from n1 that asked for it is over"):
        await target.incoming.prepare(replace(request, task="first"))
    await target.incoming.prepare(request)
    waiting = await target.host.status(100)
    assert waiting is not None
    with pytest.raises(Conflict, match="is over"):
        await target.incoming.prepare(replace(request, task="first"))
    still = await target.host.status(100)
    assert still is not None and (still.pid, still.state) == (waiting.pid, "inmigrate")


async def test_an_abort_that_comes_late_leaves_the_next_migration_alone(place: Datacenter) -> None:
    _, target, request = await migrating(place, replace(LOCK, task="second"))
    await target.incoming.prepare(request)
    await target.incoming.abort(100, 2, "first")
    assert await target.states() == {100: "inmigrate"}
    await target.incoming.abort(100, 2, "second")
    assert await target.states() == {}


async def test_what_was_prepared_goes_when_the_next_migration_holds_the_lock(place: Datacenter) -> None:
    source, target, request = await migrating(place)
    await target.incoming.prepare(request)
    await target.reconciler.once()
    assert await target.states() == {100: "inmigrate"}
    await source.layout.locks.update("guests/100", lambda lock: replace(lock, task="second"))
    await target.reconciler.once()
    assert await target.states() == {}


async def test_what_was_prepared_goes_when_the_daemon_that_asked_is_gone_for_good(place: Datacenter) -> None:
    source, target, request = await migrating(place)
    await target.incoming.prepare(request)
    await source.layout.daemons.create("n1", Daemon(node="n1", incarnation="n1-2"))
    await target.reconciler.once()
    assert await target.states() == {} and (await source.layout.locks.get("guests/100")) == LOCK


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.PAUSED])
async def test_a_guest_whose_state_never_comes_is_given_up_and_its_source_may_go_on(
    place: Datacenter, state: RunState
) -> None:
    """A second, late request replaced the QEMU that had got all; then the move was committed."""
    source, target, request = await migrating(place)
    clock = Clock()
    target.reconciler = Reconciler(target.life, clock)
    await target.incoming.prepare(request)
    await target.incoming.prepare(request)
    assert await source.life.records.move(await source.life.records.view(100), "n2", state, "")
    await target.reconciler.once()
    clock.now += LOAD_TIMEOUT - 1
    await target.reconciler.once()
    assert await target.states() == {100: "inmigrate"}
    clock.now += 1
    await target.reconciler.once()
    assert await target.states() == {}
    await target.reconciler.once()
    runtime = await target.layout.runtimes.get(100)
    assert runtime.state is RunState.STOPPED and "its state is being loaded, for 20 s" in runtime.reason
    with pytest.raises(NotFound, match="cannot run on node n2"):
        await target.incoming.resume(100, 2)
