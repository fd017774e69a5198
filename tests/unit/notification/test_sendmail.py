from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.model.notification import EventType, Message, Severity, Target, TargetKind
from racimo.notification.sendmail import hand_to_sendmail
from racimo.notification.undelivered import Undelivered

if TYPE_CHECKING:
    from pathlib import Path

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
