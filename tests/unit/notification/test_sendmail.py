from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import structlog

from racimo.model.ha import NodeHealth
from racimo.model.notification import (
    DEFAULT_MATCHER,
    MAIL_TO_ROOT,
    EventType,
    Message,
    Origin,
    Severity,
    Target,
    TargetKind,
)
from racimo.notification.sendmail import hand_to_sendmail
from racimo.notification.undelivered import Undelivered

if TYPE_CHECKING:
    from pathlib import Path

    from conftest import World

MESSAGE = Message(id="1-a", type=EventType.TEST, severity=Severity.INFO, title="A test", text="Well.", by="n1")
TARGET = Target(name="local", kind=TargetKind.SENDMAIL, mailto=("root", "ops@b.c"), from_address="racimo@b.c")


def program(folder: Path, script: str) -> str:
    path = folder / "sendmail"
    path.write_text(f'#!/bin/sh\ncd "{folder}"\n{script}\n')
    path.chmod(0o755)
    return str(path)


async def test_the_mail_program_gets_the_mail_and_its_recipients(tmp_path: Path) -> None:
    sendmail = program(tmp_path, 'echo "$@" >words; cat >mail')
    await hand_to_sendmail(MESSAGE, TARGET, "lab", "n1", 10, sendmail)
    assert (tmp_path / "words").read_text() == "-i -f racimo@b.c -- root ops@b.c\n"
    assert "Subject: [lab] A test\n" in (tmp_path / "mail").read_text()


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("cat >/dev/null; echo no such user >&2; exit 67", "ended with 67: no such user"),
        ("exec sleep 60", "did not end within 0.3 s"),
    ],
)
async def test_a_mail_program_that_fails_or_hangs_is_told(tmp_path: Path, script: str, why: str) -> None:
    with pytest.raises(Undelivered, match=why):
        await hand_to_sendmail(
            MESSAGE, TARGET, "lab", "n1", 0.3 if "sleep" in script else 10, program(tmp_path, script)
        )


async def test_a_machine_without_a_mail_program_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(Undelivered, match="install a mail program"):
        await hand_to_sendmail(MESSAGE, TARGET, "lab", "n1", 10, str(tmp_path / "none"))


async def by_default(world: World) -> None:
    await world.layout.notification_targets.create(MAIL_TO_ROOT.name, MAIL_TO_ROOT)
    await world.layout.matchers.create(DEFAULT_MATCHER.name, DEFAULT_MATCHER)


async def test_a_new_datacenter_mails_root_without_anything_set_up(world: World, tmp_path: Path) -> None:
    world.sendmail = program(tmp_path, 'echo "$@" >words; cat >mail; echo done >told')
    await by_default(world)
    await world.speaker("n1")
    await world.health("n3", NodeHealth.FENCE)
    await world.until_quiet()
    assert (tmp_path / "words").read_text() == "-i -- root\n"
    assert "Subject: [lab] n3 is fenced\n" in (tmp_path / "mail").read_text()


async def test_a_node_without_a_mail_program_passes_the_default_over_and_the_list_says_so(world: World) -> None:
    world.sendmail = str(world.root / "none")
    await by_default(world)
    with structlog.testing.capture_logs() as logs:
        await world.speaker("n1")
        await world.health("n3", NodeHealth.FENCE)
        await world.until_quiet()
    state = await world.layout.target_states.get("mail-to-root")
    assert not state.ok and "none on n1: No such file or directory; install a mail program" in state.why
    assert [entry for entry in logs if entry["event"] == "notification: n3 is fenced"]  # the log has it all the same
    assert not [entry for entry in logs if entry["log_level"] == "error" and "n3" not in entry["event"]]


async def test_what_is_built_in_can_be_changed_switched_off_and_removed(world: World) -> None:
    await by_default(world)
    settings = world.settings("n1")
    await settings.change_target("mail-to-root", None, lambda target: replace(target, mailto=("ops@b.c",)))
    assert (await settings.target("mail-to-root")).origin is Origin.MODIFIED
    await settings.change_matcher("default-matcher", lambda matcher: replace(matcher, disable=True))
    assert (await settings.matcher("default-matcher")).origin is Origin.MODIFIED
    await settings.remove_matcher("default-matcher")
    await settings.remove_target("mail-to-root")
    assert await settings.targets() == []
