"""Each kind of event is said once though it is seen again, and once more when it is over."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import pytest
from receivers import hook

from racimo.model.ha import HistoryEntry, NodeHealth, Service, ServiceState
from racimo.model.node import Node
from racimo.model.notification import EventType
from racimo.notification.judge import DAY_S, judge_certificate, judge_task
from racimo.notification.quorum import QuorumWatch
from racimo.task.failure import Failure
from racimo.task.record import Phase, TaskRecord
from racimo.task.upid import UpidSource

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from conftest import Speaker, World

FAILED = TaskRecord(
    UpidSource("n1", lambda: 0.0).draw("qmstart", "100", "ana@pve"), phase=Phase.ENDED, exitstatus="no space",
    failure=Failure(kind="Refused", what="no space"),
)  # fmt: skip


async def fence(world: World, speaker: Speaker, *, holds: bool) -> None:
    await world.health("n3", NodeHealth.FENCE if holds else NodeHealth.ONLINE)


async def recovery(world: World, speaker: Speaker, *, holds: bool) -> None:
    await service(world, ServiceState.RECOVERY if holds else ServiceState.STARTED)


async def error(world: World, speaker: Speaker, *, holds: bool) -> None:
    await service(world, ServiceState.ERROR if holds else ServiceState.STOPPED)


async def service(world: World, state: ServiceState) -> None:
    entry = HistoryEntry(at=0, what=str(state), why="so")
    record = Service(sid="vm:100", state=state, node="n2", epoch=2, why="so it is", history=(entry,))
    await world.store.txn([], [world.layout.services.put("vm:100", record)])


async def certificate(world: World, speaker: Speaker, *, holds: bool) -> None:
    speaker.notifier.submit(judge_certificate("n1", (20 if holds else 364) * DAY_S))


async def task(world: World, speaker: Speaker, *, holds: bool) -> None:
    speaker.notifier.submit(judge_task(FAILED if holds else replace(FAILED, exitstatus="OK", failure=None)))


async def quorum(world: World, speaker: Speaker, *, holds: bool) -> None:
    class Others:
        async def ask(self, timeout: float) -> Mapping[str, bool | None]:
            return {"n2": True}

    stale = 12.0 if holds else None
    watch = QuorumWatch(speaker.teller, speaker.post, Others(), lambda: stale, world.root / "said.json")
    await watch.turn()


@dataclass(frozen=True)
class Kind:
    event: EventType
    act: Callable[..., Awaitable[None]]
    begins: str
    ends: str


KINDS = (
    Kind(EventType.FENCING, fence, "n3 is fenced", "n3 is back"),
    Kind(EventType.RECOVERY, recovery, "vm:100 waits for recovery", "vm:100 runs again on n2"),
    Kind(EventType.SERVICE_ERROR, error, "vm:100 is in error", "vm:100 is no longer in error"),
    Kind(EventType.QUORUM, quorum, "The quorum is lost", "There is a quorum again"),
    Kind(EventType.CERTIFICATE, certificate, "The certificate of n1 expires in 20 days",
         "The certificate of n1 is renewed"),
    Kind(EventType.TASK, task, "Task qmstart of 100 failed on n1", "Task qmstart of 100 works again"),
)  # fmt: skip


def test_no_kind_of_event_is_without_a_test() -> None:
    assert {kind.event for kind in KINDS} == set(EventType) - {EventType.TEST}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.event))
async def test_it_is_said_once_and_once_that_it_is_over(world: World, kind: Kind) -> None:
    async with hook() as chat:
        await world.hears_all(chat.url)
        await world.layout.nodes.create("n1", Node(name="n1", id="n1", address="n1"))
        speaker = await world.speaker("n1")
        await kind.act(world, speaker, holds=True)
        assert await chat.has(1) == [kind.begins]
        await kind.act(world, speaker, holds=True)
        speaker.notifier._look_at_all()
        await world.health("n9", NodeHealth.FENCE)  # said after whatever the second time made
        assert await chat.has(2) == [kind.begins, "n9 is fenced"]
        await kind.act(world, speaker, holds=False)
        assert await chat.has(3) == [kind.begins, "n9 is fenced", kind.ends]
        await kind.act(world, speaker, holds=False)
        await world.health("n9", NodeHealth.ONLINE)
        assert await chat.has(4) == [kind.begins, "n9 is fenced", kind.ends, "n9 is back"]
        first, _, third, _ = chat.got
        assert (first["type"], first["over"], third["over"]) == (str(kind.event), False, True)
        assert third["about"] == first["id"]
