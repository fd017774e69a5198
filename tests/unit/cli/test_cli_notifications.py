from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from conftest import Racimo

pytestmark = pytest.mark.usefixtures("node")
TARGET, MATCHER = ("notification", "target"), ("notification", "matcher")
HOOK = (*TARGET, "add", "chat", "--type", "webhook")
MAIL = ("--type", "smtp", "--server", "mail.b.c", "--from-address", "racimo@b.c", "--mailto", "ops@b.c,boss@b.c")


def test_targets_are_added_listed_changed_and_removed_and_show_no_secret(
    racimo: Racimo, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "There is no target" in racimo(*TARGET, "list").out
    monkeypatch.setattr("sys.stdin", io.StringIO("hush\n"))
    assert racimo(*TARGET, "add", "ops", *MAIL, "--username", "u", "--password", "-").code == 0
    hook = ("--url", "https://b.c/{{ secrets.token }}", "--header", "X-Key=hush, hush", "--secret", "token=hush")
    assert racimo(*TARGET, "add", "chat", "--type", "webhook", *hook).code == 0
    said = racimo(*TARGET, "list", "--json")
    assert "hush" not in said.out
    assert said.document == [
        {"name": "chat", "type": "webhook", "origin": "user-created", "url": "https://b.c/{{ secrets.token }}",
         "method": "post", "header": ["name=X-Key"], "secret": ["name=token"], "matchers": [], "state": "unknown",
         "why": "", "since": 0},
        {"name": "ops", "type": "smtp", "origin": "user-created", "mailto": ["ops@b.c", "boss@b.c"],
         "from-address": "racimo@b.c", "server": "mail.b.c", "mode": "tls", "username": "u", "matchers": [],
         "state": "unknown", "why": "", "since": 0},
    ]  # fmt: skip
    assert racimo(*TARGET, "set", "ops", "--mode", "starttls", "--port", "2525", "--disable").code == 0
    assert "disabled" in racimo(*TARGET, "list").out
    assert racimo(*TARGET, "remove", "ops").code == 0
    said = racimo(*TARGET, "remove", "ops")
    assert "target 'ops' does not exist" in said.err


def test_matchers_name_targets_that_there_are_and_keep_them(racimo: Racimo) -> None:
    said = racimo(*MATCHER, "add", "all", "--target", "ops")
    assert said.code == 2
    assert "there is no target ops" in said.err
    racimo(*TARGET, "add", "ops", *MAIL)
    words: tuple[str, ...] = ("--match-severity", "error,warning", "--match-field", "exact:type=fencing,quorum")
    words += ("--match-calendar", "mon..fri 8:00-17:00")
    assert racimo(*MATCHER, "add", "all", "--target", "ops", *words).code == 0
    assert racimo(*MATCHER, "list", "--json").document == [
        {"name": "all", "origin": "user-created", "target": ["ops"], "mode": "all",
         "match-severity": ["error", "warning"], "match-field": ["exact:type=fencing,quorum"],
         "match-calendar": ["mon..fri 8:00-17:00"]}
    ]  # fmt: skip
    shown = " ".join(racimo(*MATCHER, "list").out.split())
    assert "severity error or warning" in shown
    said = racimo(*TARGET, "remove", "ops")
    assert "the matchers all name it" in said.err
    assert racimo(*MATCHER, "set", "all", "--delete", "match-severity,match-calendar", "--invert-match").code == 0
    assert "not (exact:type=fencing,quorum)" in " ".join(racimo(*MATCHER, "list").out.split())
    assert racimo(*MATCHER, "remove", "all").code == 0


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((*TARGET, "add", "x", "--type", "pager"), "'pager' is not smtp, sendmail or webhook"),
        ((*TARGET, "add", "x y", *MAIL), "'x y' is not a name"),
        ((*TARGET, "add", "ops", *MAIL[:-2]), "who is to have the mail?"),
        ((*TARGET, "add", "ops", *MAIL, "--password", "p"), "username: is missing"),
        ((*TARGET, "add", "ops", *MAIL, "--mode", "ssl"), "mode"),
        ((*HOOK, "--url", "ftp://x"), "is not an http:// or https:// URL"),
        ((*HOOK, "--url", "http://x", "--body", "{{ titel }}"), "stands for"),
        ((*HOOK, "--url", "http://x", "--header", "nothing"), "NAME="),
        ((*TARGET, "set", "ops"), "nothing to change was given"),
        ((*MATCHER, "add", "m", "--match-field", "type=x"), "is not like exact:type=fencing"),
        ((*MATCHER, "add", "m", "--match-calendar", "noon"), "is not a time such as"),
        ((*MATCHER, "add", "m", "--match-severity", "awful"), "match-severity"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason(racimo: Racimo, words: tuple[str, ...], why: str) -> None:
    said = racimo(*words)
    assert said.code == 2
    assert why in " ".join(said.err.split())


def test_a_test_that_does_not_arrive_says_why(racimo: Racimo) -> None:
    racimo(*HOOK, "--url", "http://127.0.0.1:9/hook")
    said = racimo(*TARGET, "test", "chat")
    assert said.code != 0
    assert "The message was not delivered" in said.err
    assert "127.0.0.1:9" in said.err
