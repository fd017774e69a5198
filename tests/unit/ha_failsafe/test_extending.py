"""One node's side of a round: what it asks, what it takes for an answer, and what becomes of its lease."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from one_node import OneNode

from racimo.ha.failsafe import MOST_MEMBERS, Answer, Question
from racimo.ha.timing import PROFILES
from racimo.model.ha import Heartbeat
from racimo.model.node import Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

DEFAULT, FAST = PROFILES["default"], PROFILES["fast"]
MEMBERS = ("n1", "n2", "n3")


async def shown(condition: Callable[[], bool]) -> None:
    """Wait until the view shows it: nobody tells."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Said:
    """Members that say what they were told to say."""

    def __init__(self) -> None:
        self.answers = {name: Answer(name, True, "", MEMBERS) for name in MEMBERS}
        self.asked: list[tuple[str, Question]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    async def ask(self, member: Node, question: Question) -> Answer:
        self.asked.append((member.name, question))
        self.meanwhile()
        if member.name not in self.answers:
            raise OSError("no route to host")
        return self.answers[member.name]


class Asking(OneNode):
    """n1 of three, its lease given by the store and its view read; the store is not asked any more afterwards."""

    @classmethod
    @asynccontextmanager
    async def of(cls, members: int = 3) -> AsyncIterator[Asking]:
        one = cls()
        one.said = Said()
        for number in range(1, members + 1):
            name = f"n{number}"
            await one.layout.nodes.create(name, Node(name=name, id=name, address=name))
        one.ha.failsafe.neighbours = one.said
        reading = asyncio.create_task(one.ha.view.run())
        await shown(lambda: one.ha.view.revision > 0)
        await one.ha.holder._begin()
        await one.ha.holder.beat()
        await shown(lambda: "n1" in one.ha.view.heartbeats)
        try:
            yield one
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            await one.store.close()

    said: Said

    @property
    def deadline(self) -> float:
        assert self.desk.lease is not None
        return self.desk.lease.deadline_ns / 1e9

    async def round(self) -> bool:
        return await self.ha.failsafe.round()


async def test_when_all_have_promised_the_lease_lasts_from_before_they_were_asked() -> None:
    async with Asking.of() as one:
        one.clock.now += 4
        sent = one.clock.now

        def later() -> None:
            one.clock.now += 0.4

        one.said.meanwhile = later
        assert await one.round()
        assert one.deadline == pytest.approx(sent + DEFAULT.lease)
        assert sorted(name for name, _ in one.said.asked) == ["n2", "n3"]


async def test_the_heartbeat_names_all_that_are_asked() -> None:
    async with Asking.of() as one:
        assert (await one.layout.heartbeats.get("n1")).peers == MEMBERS


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (None, "cannot be reached"),
        (Answer("n2", False, "it reaches the store", MEMBERS), "refuses: it reaches"),
        (Answer("another", True, "", MEMBERS), "another machine"),
        (Answer("n2", True, "", (*MEMBERS, "n4")), "knows n4"),
    ],
)
async def test_one_that_does_not_promise_is_enough_to_refuse(answer: Answer | None, why: str) -> None:
    async with Asking.of() as one:
        before = one.deadline
        one.clock.now += 4
        if answer is None:
            del one.said.answers["n2"]
        else:
            one.said.answers["n2"] = answer
        assert not await one.round()
        assert one.deadline == before and why in one.ha.failsafe.why


async def test_answers_that_come_when_the_guests_are_to_be_dead_already_are_too_late() -> None:
    async with Asking.of() as one:
        before = one.deadline

        def late() -> None:
            one.clock.now = before - DEFAULT.kill_margin

        one.said.meanwhile = late
        assert not await one.round()
        assert one.deadline == before


async def test_a_lease_that_has_run_out_is_not_extended() -> None:
    async with Asking.of() as one:
        one.clock.now = one.deadline + 1
        assert not await one.round()
        assert one.said.asked == []


async def test_without_its_guard_a_node_extends_nothing() -> None:
    async with Asking.of() as one:
        one.desk.guard_silent = 5.0
        assert not await one.round()


async def test_a_process_that_has_no_heartbeat_of_its_own_in_the_store_extends_nothing() -> None:
    """It knows neither by which profile nor by which names observers count."""
    async with Asking.of() as one:
        again = one.make()
        again.failsafe.neighbours = one.said
        await again.holder._begin()
        assert again.holder.holds() and again.holder.extendable() is None


async def test_while_a_heartbeat_with_a_shorter_lease_may_stand_in_the_store_extensions_are_as_short() -> None:
    async with Asking.of() as one:
        one.ha.holder._sent[one.ha.holder.sequence] = (one.clock.boottime_ns(), DEFAULT)
        one.ha.holder.profile = lambda: FAST
        await one.store.close()  # the next heartbeat is sent, and nobody knows what became of it
        await one.ha.holder.beat()
        one.clock.now += 1
        assert await one.round()
        assert one.deadline == pytest.approx(one.clock.now + FAST.lease)


async def test_a_member_that_was_named_and_is_not_in_view_any_more_has_to_be_asked_still() -> None:
    async with Asking.of() as one:
        del one.ha.view.nodes["n3"]
        assert not await one.round()
        assert "n3 cannot be asked" in one.ha.failsafe.why


async def test_a_member_that_came_while_others_were_asked_spoils_the_round() -> None:
    async with Asking.of() as one:
        joined = Node(name="n4", id="n4", address="n4")

        def join() -> None:
            one.ha.view._apply(*("/racimo/1/nodes/n4", one.layout.nodes.put("n4", joined).value, 99))

        one.said.meanwhile = join
        assert not await one.round()
        assert "members have changed" in one.ha.failsafe.why


async def test_a_datacenter_too_large_to_ask_names_nobody() -> None:
    async with Asking.of(MOST_MEMBERS + 1) as one:
        assert (await one.layout.heartbeats.get("n1")).peers == ()
        assert not await one.round()


async def test_who_reaches_the_store_promises_nothing() -> None:
    async with Asking.of() as one:
        answer = one.ha.failsafe.answer(Question("n2", "n2", 10.0))
        assert not answer.promised and "reaches the store" in answer.why


async def test_who_is_out_of_touch_promises_members_and_nobody_else() -> None:
    async with Asking.of() as one:
        one.clock.now += 5
        assert one.ha.failsafe.answer(Question("n2", "n2", 10.0)) == Answer("n1", True, "", MEMBERS)
        assert not one.ha.failsafe.answer(Question("n2", "its namesake", 10.0)).promised
        assert not one.ha.failsafe.answer(Question("n9", "n9", 10.0)).promised
        assert not one.ha.failsafe.answer(Question("n2", "n2", 3600.0)).promised


async def test_a_candidate_that_somebodys_heartbeat_does_not_name_waits() -> None:
    async with Asking.of() as one:
        assert one.ha.manager._is_candidate()
        stranger = Heartbeat(node="n2", incarnation="b", sequence=1, peers=("n2", "n3"))
        await one.layout.heartbeats.create("n2", stranger)
        await shown(lambda: "n2" in one.ha.view.heartbeats)
        assert not one.ha.manager._is_candidate()
