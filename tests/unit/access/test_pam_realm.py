from __future__ import annotations

import asyncio
import os
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from racimo.access.pam import Pam
from racimo.access.pam_helper import check
from racimo.errors import NotLoggedIn, OperationFailed

HELPER = """
import json, sys
asked = json.load(sys.stdin)
print("ok" if asked["password"] == "right" else "Authentication failure")
sys.exit(0 if asked["password"] == "right" else 1)
"""


@pytest.fixture
def helper(tmp_path: Path) -> list[str]:
    script = tmp_path / "helper.py"
    script.write_text(HELPER)
    return [sys.executable, "-I", str(script)]


async def test_what_the_helper_says_counts(helper: list[str]) -> None:
    pam = Pam(helper)
    assert await pam.is_right("anna", "right")
    assert not await pam.is_right("anna", "wrong")


async def test_pam_itself_refuses_an_account_that_does_not_exist() -> None:
    assert not await Pam().is_right("nobody-has-this-name", "x")


async def test_pam_s_modules_are_told_the_password_and_have_the_last_word(tmp_path: Path) -> None:
    """With a configuration of its own: a program is the module, and takes one password of one account."""
    program = tmp_path / "program"
    program.write_text('#!/bin/sh\ntest "$PAM_USER" = anna && test "$(tr -d "\\0")" = "right"\n')
    program.chmod(0o700)
    (tmp_path / "racimo").write_text(
        f"auth required pam_exec.so expose_authtok quiet {program}\naccount required pam_permit.so\n"
    )
    assert await asyncio.to_thread(check, "racimo", "anna", "right", str(tmp_path)) == "ok"
    assert await asyncio.to_thread(check, "racimo", "anna", "wrong", str(tmp_path)) != "ok"
    assert await asyncio.to_thread(check, "racimo", "ben", "right", str(tmp_path)) != "ok"
    (tmp_path / "racimo").write_text("auth required pam_permit.so\naccount required pam_deny.so\n")
    assert await asyncio.to_thread(check, "racimo", "anna", "right", str(tmp_path)) != "ok"


@pytest.mark.parametrize("name", ["", "a\x00b"])
async def test_a_name_that_is_no_text_for_pam_never_gets_there(name: str) -> None:
    with pytest.raises(OperationFailed):
        await Pam().is_right(name, "x")


async def test_a_helper_that_hangs_is_ended(tmp_path: Path) -> None:
    note = tmp_path / "pid"
    script = f"import os, sys, time; open({str(note)!r}, 'w').write(str(os.getpid())); time.sleep(60)"
    with pytest.raises(OperationFailed, match="took over"):
        await Pam([sys.executable, "-c", script], timeout=1.0).is_right("anna", "x")
    with pytest.raises(ProcessLookupError):
        os.kill(int(note.read_text()), 0)


def what_anybody_sees() -> bytes:
    """Command lines and environments of all processes."""
    seen = b""
    for process in Path("/proc").iterdir():
        for part in ("cmdline", "environ"):
            with suppress(OSError):
                seen += (process / part).read_bytes()
    return seen


async def test_the_password_is_in_no_process_list(tmp_path: Path) -> None:
    fifo = tmp_path / "go"
    os.mkfifo(fifo)
    script = f"import sys; sys.stdin.read(); open({str(fifo)!r}).read(); sys.exit(1)"
    asked = asyncio.create_task(Pam([sys.executable, "-c", script]).is_right("anna", "very secret indeed"))
    writer = await asyncio.to_thread(open, fifo, "w")
    seen = await asyncio.to_thread(what_anybody_sees)
    writer.close()
    assert not await asked
    assert b"very secret indeed" not in seen


async def test_the_account_s_new_password_goes_to_standard_input(tmp_path: Path) -> None:
    note = tmp_path / "given"
    script = f"import sys; open({str(note)!r}, 'w').write(sys.stdin.read())"
    await Pam(change=[sys.executable, "-c", script]).change("anna", "new password")
    assert note.read_text() == "anna:new password\n"


async def test_a_flood_waits_in_a_line_that_is_not_endless(helper: list[str]) -> None:
    pam = Pam(["sleep", "30"], timeout=60)
    waiting = [asyncio.create_task(pam.is_right("anna", "x")) for _ in range(64)]
    await asyncio.sleep(0)
    with pytest.raises(NotLoggedIn, match="Too many"):
        await pam.is_right("anna", "x")
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
