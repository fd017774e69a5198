from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import structlog
from receivers import hook, mail_server

from racimo.errors import OperationFailed
from racimo.model.ha import HistoryEntry, NodeHealth, Service, ServiceState
from racimo.model.node import Node
from racimo.model.notification import EventType, MailSecurity, Matcher, Message, Severity, Target, TargetKind
from racimo.notification.delivery import Delivery, Undelivered
from racimo.notification.events import Begin
from racimo.notification.quorum import QuorumWatch, who_says_it
from racimo.notification.teller import Teller
from racimo.store.layout import ROOT
from racimo.store.sealing import Sealing
from racimo.task.operation import Operation, Report

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AsyncExitStack

    from conftest import Speaker, World


async def until(world: World, look: Callable[[], Awaitable[bool]]) -> None:
    """Look after each change of the store."""
    changes = world.store.watch(ROOT, await world.store.revision())
    async with asyncio.timeout(10), aclosing(changes):
        while not await look():
            await anext(changes)


async def until_quiet(world: World) -> None:
    """Until nothing waits to be delivered."""

    async def quiet() -> bool:
        return not await world.layout.messages.all()

    await until(world, quiet)


async def test_a_fence_is_said_once_and_once_that_it_is_over_whoever_sends(world: World) -> None:
    async with hook() as chat:
        await world.hears_all(chat.url)
        await world.speaker("n1")
        await world.speaker("n2")
        await world.health("n3", NodeHealth.ONLINE)
        await world.health("n3", NodeHealth.FENCE)
        assert await chat.has(1) == ["n3 is fenced"]
        await until_quiet(world)
        await world.silence("n1")  # the sender dies, and the next one looks at all there is
        world.sender = "n2"
        world.speakers["n2"].notifier._look_at_all()
        await world.health("n3", NodeHealth.UNKNOWN)
        await world.health("n3", NodeHealth.FENCE, "and once more")
        await world.health("n3", NodeHealth.ONLINE)
        assert await chat.has(2) == ["n3 is fenced", "n3 is back"]
        await until_quiet(world)
        assert chat.got[1]["over"] is True
        assert chat.got[1]["about"] == chat.got[0]["id"]
        await world.health("n3", NodeHealth.FENCE)
        assert await chat.has(3) == ["n3 is fenced", "n3 is back", "n3 is fenced"]


async def test_what_the_dead_sender_had_not_delivered_its_successor_delivers(world: World) -> None:
    async with hook(status=503) as chat:
        await world.hears_all(chat.url)
        await world.speaker("n1")
        await world.speaker("n2")
        await world.health("n3", NodeHealth.FENCE)
        await chat.was_called(1)
        await world.silence("n1")
        chat.status = 200
        world.sender = "n2"
        world.speakers["n2"].post.wake()
        assert await chat.has(1) == ["n3 is fenced"]
        await until_quiet(world)
        assert chat.got[0]["node"] == "n1"


async def test_who_heard_the_beginning_hears_the_end_and_nobody_else(world: World) -> None:
    async with hook() as errors, hook() as infos:
        await world.hears_all(errors.url, "errors")
        await world.hears_all(infos.url, "infos")
        for name, severity in (("errors", Severity.ERROR), ("infos", Severity.INFO)):
            matcher = Matcher(name=f"all-{name}", targets=(name,), severities=(severity,))
            await world.layout.matchers.update(f"all-{name}", lambda _, new=matcher: new)  # type: ignore[misc]
        await world.speaker("n1")
        await world.health("n3", NodeHealth.FENCE)
        await errors.has(1)
        await world.health("n3", NodeHealth.ONLINE)
        assert await errors.has(2) == ["n3 is fenced", "n3 is back"]
        await until_quiet(world)
        assert infos.got == []


async def test_a_node_with_many_guests_makes_few_messages(world: World) -> None:
    async with hook() as chat:
        await world.hears_all(chat.url)
        await world.health("n1", NodeHealth.FENCE)
        for vmid in range(100, 120):
            moved = HistoryEntry(at=0, what="n1 → n2", why="n1's lease ran out")
            service = Service(
                sid=f"vm:{vmid}", state=ServiceState.REQUEST_START, node="n2", epoch=2, history=(moved,)
            )  # fmt: skip
            await world.layout.services.create(f"vm:{vmid}", service)
        await world.speaker("n1")
        assert await chat.has(2) == ["n1 is fenced", "vm:100 is recovered from n1, and 19 more"]
        assert chat.got[1]["fields"]["guest"].split(",") == [str(vmid) for vmid in range(100, 120)]


class Fails(Operation[list[str]]):
    kind = "backup"
    subject = ""

    async def execute(self, services: list[str], report: Report, undo: AsyncExitStack) -> None:
        if services:
            raise OperationFailed(services[0])


async def test_a_failed_task_is_said_once_until_it_works_again(world: World) -> None:
    async with hook() as chat:
        await world.hears_all(chat.url)
        world.sender = "n2"
        first, _ = await world.speaker("n1"), await world.speaker("n2")
        for troubles in (["the disk is full"], ["the disk is full"], [], []):
            upid = first.tasks.submit(Fails(), troubles)
            await first.tasks.wait(upid, 5)
            await asyncio.sleep(0.15)  # longer than what is gathered into one message
        assert await chat.has(2) == ["Task backup of n1 failed on n1", "Task backup of n1 works again"]
        await until_quiet(world)
        assert len(chat.got) == 2
        assert "the disk is full" in chat.got[0]["message"]


async def test_a_mail_server_that_hangs_holds_up_nobody_and_its_state_says_why(world: World) -> None:
    async with hook() as chat, mail_server(silent=True) as mails:
        await world.hears_all(chat.url)
        broken = Target(
            name="ops", kind=TargetKind.SMTP, server="127.0.0.1", port=mails.port, mode=MailSecurity.INSECURE,
            from_address="a@b.c", mailto=("ops@b.c",),
        )  # fmt: skip
        await world.layout.notification_targets.create("ops", broken)
        await world.layout.matchers.create("mail", Matcher(name="mail", targets=("ops",)))
        speaker = await world.speaker("n1")
        begun = time.monotonic()
        await world.health("n3", NodeHealth.FENCE)
        await chat.has(1)
        assert time.monotonic() - begun < 5
        assert "ops" in speaker.post._busy


async def test_a_target_that_was_away_gets_everything_in_order_when_it_is_back(world: World) -> None:
    async with hook() as chat:
        url = chat.url
    await world.hears_all(url)
    await world.speaker("n1")
    await world.health("n3", NodeHealth.FENCE)

    async def is_known() -> bool:
        return await world.layout.target_states.find("chat") is not None

    await until(world, is_known)
    state = await world.layout.target_states.get("chat")
    assert not state.ok
    assert "Connect" in state.why
    await world.health("n3", NodeHealth.ONLINE)

    async def both_wait() -> bool:
        return len(await world.layout.messages.all()) == 2

    await until(world, both_wait)
    async with hook(port=int(url.split(":")[2].split("/")[0])) as chat:
        assert await chat.has(2) == ["n3 is fenced", "n3 is back"]
        await until_quiet(world)
    assert (await world.layout.target_states.get("chat")).ok


async def test_a_message_that_is_refused_again_and_again_does_not_stop_the_next(world: World) -> None:
    async with hook(status=400) as chat:
        await world.hears_all(chat.url)
        await world.speaker("n1")
        await world.health("n3", NodeHealth.FENCE)
        await chat.was_called(3)
        await until_quiet(world)
        chat.status = 200
        await world.health("n3", NodeHealth.ONLINE)
        assert await chat.has(1) == ["n3 is back"]


async def test_a_machine_that_was_removed_says_nothing(world: World) -> None:
    speaker = await world.speaker("n1")
    teller = Teller(world.layout, speaker.mirror, "n1", time.time, node_id="old")
    begin = Begin("task:x:n1:n1", EventType.TASK, Severity.ERROR, "Task x failed", "so")
    for ids in ("", "new"):
        if ids:
            await world.layout.nodes.create("n1", Node(name="n1", id=ids, address="n1"))
            await speaker.mirror.wait_for(await world.store.revision(), 5)
        await teller.tell([begin])
        assert await world.layout.said.all() == {}
    await world.layout.nodes.update("n1", lambda node: replace(node, id="old"))
    await speaker.mirror.wait_for(await world.store.revision(), 5)
    await teller.tell([begin])
    assert list(await world.layout.said.all()) == ["task:x:n1:n1"]


# one delivery

MESSAGE = Message(
    id="17-ab", type=EventType.FENCING, severity=Severity.ERROR, title="n1 is fenced\nBcc: all@b.c", text="Why: ñ.",
    fields={"node": "n1"}, at=1_800_000_000.0, by="n2", about="16-aa",
)  # fmt: skip
DELIVER = Delivery(lambda: "lab", "n2", Sealing(Path("/nowhere/sealing.json")))
"""Targets in the clear, as they stood before there was sealing."""


def smtp(port: int, **fields: object) -> Target:
    return Target(
        name="ops", kind=TargetKind.SMTP, server="127.0.0.1", port=port, mode=MailSecurity.INSECURE,
        from_address="racimo@b.c", mailto=("ops@b.c", "boss@b.c"), **fields,  # type: ignore[arg-type]
    )  # fmt: skip


async def test_a_mail_says_what_it_is_about_and_answers_the_one_before() -> None:
    async with mail_server(wants="racimo:hush") as mails:
        await DELIVER(MESSAGE, smtp(mails.port, username="racimo", password="hush"))
    (mail,) = mails.mails
    assert mails.logins == ["racimo:hush"]
    assert mail["Subject"] == "[lab] n1 is fenced Bcc: all@b.c"
    assert mail["Bcc"] is None
    assert (mail["To"], mail["From"]) == ("ops@b.c, boss@b.c", "Racimo lab <racimo@b.c>")
    assert (mail["Message-ID"], mail["In-Reply-To"]) == ("<17-ab@lab.racimo>", "<16-aa@lab.racimo>")
    assert mail["Auto-Submitted"] == "auto-generated"
    assert "Why: ñ." in mail.get_content()


async def test_a_wrong_password_is_told_without_the_password() -> None:
    async with mail_server(wants="racimo:other") as mails:
        with pytest.raises(Undelivered, match=r"535 not racimo:\*\*\*") as told:
            await DELIVER(MESSAGE, smtp(mails.port, username="racimo", password="hush"))
    assert told.value.refused
    assert "hush" not in str(told.value)


async def test_some_unknown_recipients_are_no_reason_to_send_it_to_the_others_again() -> None:
    async with mail_server(refuses={"boss@b.c"}) as mails:
        await DELIVER(MESSAGE, smtp(mails.port))
        assert len(mails.mails) == 1
        mails.refuses.add("ops@b.c")
        with pytest.raises(Undelivered, match="550 unknown here") as told:
            await DELIVER(MESSAGE, smtp(mails.port))
    assert told.value.refused


async def test_a_webhook_gets_its_headers_and_no_error_shows_them() -> None:
    async with hook() as chat:
        target = Target(
            name="chat", kind=TargetKind.WEBHOOK, url=chat.url, headers={"Authorization": "Bearer {{ secrets.token }}"},
            secrets={"token": "hush"}, body='{"title": "{{ escape title }}"}',
        )  # fmt: skip
        await DELIVER(MESSAGE, target)
        assert chat.got == [{"title": MESSAGE.title}]
        assert chat.headers[0]["Authorization"] == "Bearer hush"
        chat.status = 401
        with pytest.raises(Undelivered, match=r"401 Unauthorized: answer to Bearer \*\*\*") as told:
            await DELIVER(MESSAGE, target)
    assert told.value.refused
    assert "hush" not in repr(target)


async def test_nothing_sealed_comes_into_the_log(world: World) -> None:
    async with hook(status=403) as chat:
        with structlog.testing.capture_logs() as logs:
            await world.hears_all(chat.url, headers={"Authorization": "hush"})  # type: ignore[arg-type]
            await world.speaker("n1")
            await world.health("n3", NodeHealth.FENCE)
            await chat.was_called(3)
            await until_quiet(world)
        assert any("given up" in str(entry["event"]) for entry in logs)
        assert "hush" not in str(logs)
        assert "hush" not in (await world.layout.target_states.get("chat")).why


# the quorum


@pytest.mark.parametrize(
    ("answers", "speaker"),
    [
        ({}, "n2"),
        ({"n1": None, "n3": None}, "n2"),
        ({"n1": True, "n3": True}, "n1"),
        ({"n1": None, "n3": True}, "n2"),
        ({"n1": False, "n3": None}, ""),
        ({"n1": True, "n3": False}, ""),
    ],
)
def test_one_of_those_in_touch_says_that_the_quorum_is_lost(answers: Mapping[str, bool | None], speaker: str) -> None:
    assert who_says_it("n2", answers) == speaker


class Asked:
    def __init__(self, **answers: bool | None) -> None:
        self.answers = answers

    async def ask(self, timeout: float) -> Mapping[str, bool | None]:
        return self.answers


def watch(speaker: Speaker, others: Asked, stale: list[float | None], world: World) -> QuorumWatch:
    return QuorumWatch(speaker.teller, speaker.post, others, lambda: stale[0], world.root / "said.json")


async def test_a_lost_quorum_is_said_once_past_the_store_and_its_end_too_over_a_restart(world: World) -> None:
    async with hook() as chat:
        await world.hears_all(chat.url)
        world.sender = "nobody"
        speaker = await world.speaker("n1")
        stale: list[float | None] = [5.0]
        quorum = watch(speaker, Asked(n2=True, n3=None), stale, world)
        await quorum.turn()
        stale[0] = 12.0
        await quorum.turn()
        await quorum.turn()
        assert await chat.has(1) == ["The quorum is lost"]
        assert "The same is true of n2. No answer from n3." in chat.got[0]["message"]
        again = watch(speaker, Asked(n2=True, n3=None), stale, world)
        await again.turn()
        stale[0] = None
        await again.turn()
        await again.turn()
        assert await chat.has(2) == ["The quorum is lost", "There is a quorum again"]
        assert chat.got[1]["about"] == chat.got[0]["id"]


async def test_a_node_says_nothing_while_another_one_says_it_or_has_the_store(world: World) -> None:
    async with hook() as chat:
        await world.hears_all(chat.url)
        speaker = await world.speaker("n2")
        stale: list[float | None] = [12.0]
        for others in (Asked(n1=True), Asked(n1=False)):
            quorum = watch(speaker, others, stale, world)
            assert quorum.lost
            await quorum.turn()
            stale[0] = None
            await quorum.turn()
            stale[0] = 12.0
        assert speaker.post._local == {}
        assert chat.got == []
