"""Policies over a store: disarming and the guard's marks, a node that shuts down, the application's health."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from one_node import OneNode

from racimo.errors import BadParameter, OperationFailed
from racimo.ha.daemon import HaNode
from racimo.ha.probe import ProbeSettings
from racimo.model.datacenter import Datacenter
from racimo.model.ha import Arming, ArmPhase, Heartbeat, Resource, ServiceState
from racimo.model.node import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from racimo.store.collection import Held


class Policies(OneNode):
    """One node with a guest under HA, whose application and whose shutdown are in the test's hand."""

    wish = ""
    well = True
    asked = 0

    def make(self) -> HaNode:
        return HaNode(
            "n1", self.store, self.desk, self.operations, self.clock, application=self, wish=lambda: self.wish
        )

    async def ask(self, vmid: int, probe: str, timeout: float) -> None:
        self.asked += 1
        if not self.well:
            raise OperationFailed(f"{probe} does not answer")

    async def disarm(self) -> None:
        held = await self.layout.arming.find("state")
        asked = replace(held.record if held else Arming(), phase=ArmPhase.DISARMING, mode="freeze")
        await self.store.txn([], [self.layout.arming.put("state", asked, held)])

    async def arm(self) -> None:
        await self.layout.arming.update("state", lambda old: replace(old, phase=ArmPhase.ARMED))

    def service(self) -> ServiceState | None:
        held = self.ha.view.services.get("vm:100")
        return held.record.state if held else None

    async def begin(self, **fields: object) -> None:
        await self.layout.resources.create("vm:100", replace(Resource(sid="vm:100"), **fields))  # type: ignore[arg-type]
        await self.until(lambda: self.service() is ServiceState.STARTED, "the guest started")


@pytest.fixture
async def one() -> AsyncIterator[Policies]:
    node = Policies()
    await node.records()
    yield node
    await node.store.close()


async def test_disarmed_the_guard_lets_go_and_armed_it_holds_and_confirms_anew(one: Policies) -> None:
    async with one.runs():
        await one.begin()
        await one.disarm()
        await one.until(lambda: one.desk.marks == set(), "the mark's end")
        arming = one.ha.view.arming["state"].record
        assert (arming.phase, arming.generation) == (ArmPhase.DISARMED, 1)
        assert one.service() is ServiceState.FREEZE and one.desk.running == {100} and not one.desk.kills
        one.desk.running.clear()  # it ends by itself, and nobody starts it
        commands = list(one.operations.commands)
        await one.layout.store.txn([], deletes=[one.layout.runtimes.key(100)])
        await one.arm()
        await one.until(lambda: one.service() is ServiceState.STARTED, "the guest started again")
        assert one.desk.marks == {100} and one.operations.commands == [*commands, ("start", 100, 1)]
        service = one.ha.view.services["vm:100"].record
        assert service.guarded and service.armed == 1
        beat = one.ha.view.heartbeats["n1"].record
        assert beat.armed == 1


async def test_without_a_lease_nothing_is_marked_when_ha_is_armed_again(one: Policies) -> None:
    async with one.runs():
        await one.begin()
        await one.disarm()
        await one.until(lambda: one.desk.marks == set(), "the mark's end")
        one.desk.guard_silent = 10.0  # so no heartbeat is sent any more
        one.clock.now += 60
        await one.arm()
        await one.until(lambda: one.ha.view.arming["state"].record.phase is ArmPhase.ARMED, "the view")
        assert one.desk.marks == set() and one.desk.running == {100}
        one.desk.guard_silent = 0.0
        await one.until(lambda: one.desk.marks == {100}, "the mark, with a lease")
        assert one.desk.running == {100}


async def test_a_node_says_by_which_revision_it_has_marked_all_guests(one: Policies) -> None:
    async with one.runs():
        await one.begin()
        added = (await one.layout.resources.hold("vm:100")).revision
        await one.until(lambda: one.ha.holder.marked >= added and one.desk.marks == {100}, "all marked")
        find, halted, go_on = one.ha.view.layout.resources.find, asyncio.Event(), asyncio.Event()

        async def halt(name: str | int) -> Held[Resource] | None:
            found = await find(name)
            halted.set()
            await go_on.wait()
            return found

        one.ha.view.layout.resources.find = halt  # type: ignore[method-assign]
        await one.store.txn([], [], [one.layout.resources.key("vm:100"), one.layout.services.key("vm:100")])
        async with asyncio.timeout(10):
            await halted.wait()
        one.ha.view.layout.resources.find = find  # type: ignore[method-assign]
        again = await one.layout.resources.create("vm:100", Resource(sid="vm:100"))
        await one.until(lambda: one.ha.view.revision >= again, "the view")
        assert one.ha.holder.marked < again and one.desk.marks == {100}
        go_on.set()
        await one.until(lambda: one.ha.holder.marked >= again, "marked anew")
        assert one.desk.marks == {100}
        await one.until(lambda: one.ha.view.heartbeats["n1"].record.marked >= again, "its heartbeat says so")


async def test_a_node_that_reboots_stops_its_guests_and_then_may_end_without_being_fenced(one: Policies) -> None:
    async with one.runs():
        await one.begin()
        assert not one.ha.shutdown.ready
        one.wish = "reboot"
        await one.until(lambda: one.ha.shutdown.ready, "the node may end")
        assert one.service() is ServiceState.FREEZE and one.desk.running == set()
        assert one.ha.status()["shutdown"]["mode"] == "reboot"
    await one.ha.farewell()
    assert await one.layout.heartbeats.find("n1") is None and one.desk.lease is None
    one.wish = ""
    one.ha = one.make()
    async with one.runs():
        await one.until(lambda: one.desk.running == {100}, "the guest, when the node is back")
        await one.until(lambda: one.service() is ServiceState.STARTED, "started")


async def test_a_shutdown_that_is_taken_back_starts_the_guests_again(one: Policies) -> None:
    async with one.runs():
        await one.begin()
        one.wish = "reboot"
        await one.until(lambda: one.ha.shutdown.ready, "the node may end")
        one.wish = ""
        await one.until(lambda: one.desk.running == {100}, "the guest again")
        assert not one.ha.shutdown.ready


async def test_a_node_that_waits_for_migrations_gives_up_after_the_time_set(one: Policies) -> None:
    async with one.runs():
        await one.begin()
        shutdown = one.ha.shutdown
        shutdown.policy = lambda: "migrate"  # type: ignore[method-assign]
        one.wish = "reboot"
        await one.until(lambda: one.ha.holder.mode == "reboot", "the mode")
        assert not one.ha.holder.gave_up
        one.clock.now += shutdown.wait_s() + 1
        await one.until(lambda: one.ha.holder.gave_up, "that it gives up")


async def test_a_migration_that_takes_too_long_is_given_up_and_the_guest_goes_by_conditional(one: Policies) -> None:
    migrating = asyncio.Event()

    async def never_ends(vmid: int, epoch: int, target: str, live: bool, given_up: Callable[[], bool]) -> None:
        migrating.set()
        await one.until(given_up, "that it is given up")
        raise OperationFailed("migrate of guest 100 failed", why="cancelled by root@pam")

    one.operations.migrate = never_ends  # type: ignore[method-assign]
    options = Datacenter(id="dc", name="dc", ha_shutdown_policy="migrate", ha_migrate_wait=2)
    await one.layout.datacenter.create("settings", options)
    async with one.runs():
        await one.begin()
        await one.layout.nodes.create("n2", Node(name="n2", id="2", address="2"))
        await one.layout.heartbeats.create("n2", Heartbeat(node="n2", incarnation="x", sequence=1))
        one.wish = "reboot"
        async with asyncio.timeout(10):
            await migrating.wait()
        await one.until(lambda: "vm:100 (migrate: n1 reboots; n2 " in one.ha.shutdown.waits_for(), "what it waits for")
        one.clock.now += 2.5
        await one.until(lambda: one.ha.shutdown.ready, "the node may end")
        service = one.ha.view.services["vm:100"].record
        assert service.state is ServiceState.FREEZE and "did not all migrate away in the time set" in service.why
        told = [entry.why for entry in service.history]
        assert any("failed: the time set for its node's shutdown is over (migrate of guest 100" in why for why in told)


async def test_an_application_that_is_silent_is_restarted_as_often_as_set_then_an_error(one: Policies) -> None:
    async with one.runs():
        await one.begin(probe="agent", probe_interval=0.0, probe_grace=0.0, probe_failures=2)
        one.operations.commands.clear()
        one.well = False
        await one.until(lambda: one.service() is ServiceState.ERROR, "the error")
        assert one.operations.commands == [("stop", 100, 1), ("start", 100, 1)]
        why = one.ha.view.services["vm:100"].record.why
        assert "its application is not well on n1" in why and "agent does not answer" in why


async def test_a_silent_application_has_its_time_to_come_up(one: Policies) -> None:
    one.well = False
    async with one.runs():
        await one.begin(probe="agent", probe_interval=0.0, probe_grace=100.0, probe_failures=2)
        asked = one.asked
        await one.until(lambda: one.asked > asked + 5, "some probes")
        assert one.service() is ServiceState.STARTED
        one.well = True
        await one.until(lambda: one.ha.health is not None and one.ha.health._asked["vm:100"].answered, "an answer")
        one.well = False
        await one.until(lambda: ("stop", 100, 1) in one.operations.commands, "a restart")


@pytest.mark.parametrize("probe", ["", "agent", "tcp:10.0.0.5:22", "tcp:[fd00::5]:22", "http://10.0.0.5:8080/health"])
def test_a_probe_is_taken(probe: str) -> None:
    assert ProbeSettings(probe).onto(Resource(sid="vm:100")).probe == probe


@pytest.mark.parametrize("probe", ["ping", "tcp:10.0.0.5", "tcp::22", "tcp:a:0", "http://", "ftp://a", "tcp:a:x"])
def test_what_is_no_probe_is_refused(probe: str) -> None:
    with pytest.raises(BadParameter):
        ProbeSettings(probe).onto(Resource(sid="vm:100"))
