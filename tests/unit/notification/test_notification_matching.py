from __future__ import annotations

from datetime import datetime

import pytest

from racimo.model.notification import EventType, Matcher, MatchMode, Message, Severity, Target, TargetKind
from racimo.notification.calendar import parse_span
from racimo.notification.events import FOLD_AT, Begin, fields_of, folded, text_of, title_of
from racimo.notification.matching import matches, parse_field, receivers
from racimo.notification.template import check, filled

FENCED = Message(
    id="1-a", type=EventType.FENCING, severity=Severity.ERROR, title='n1 is "fenced"', text="a\nb",
    fields={"node": "n1", "guest": "100,101"}, at=0.0,
)  # fmt: skip


@pytest.mark.parametrize(
    ("conditions", "taken"),
    [
        ({}, True),
        ({"disable": True}, False),
        ({"invert": True}, False),
        ({"severities": (Severity.ERROR, Severity.WARNING)}, True),
        ({"severities": (Severity.INFO,)}, False),
        ({"severities": (Severity.INFO,), "invert": True}, True),
        ({"fields": ("exact:type=fencing",)}, True),
        ({"fields": ("exact:type=quorum,fencing",)}, True),
        ({"fields": ("exact:type=quorum",)}, False),
        ({"fields": ("exact:node=n1", "exact:guest=101")}, True),
        ({"fields": ("exact:guest=10",)}, False),
        ({"fields": ("regex:guest=^10[1-9]$",)}, True),
        ({"fields": ("regex:node=^n[23]$",)}, False),
        ({"fields": ("exact:user=root@pam",)}, False),
        ({"fields": ("exact:node=n1", "exact:type=quorum")}, False),
        ({"fields": ("exact:node=n1", "exact:type=quorum"), "mode": MatchMode.ANY}, True),
        ({"severities": (Severity.INFO,), "fields": ("exact:severity=error",), "mode": MatchMode.ANY}, True),
    ],
)
def test_a_matcher_takes_what_its_conditions_say(conditions: dict[str, object], taken: bool) -> None:
    assert matches(Matcher(name="m", **conditions), FENCED) is taken  # type: ignore[arg-type]


def test_a_message_goes_once_to_each_target_that_is_there_and_switched_on() -> None:
    targets = {name: Target(name=name, kind=TargetKind.SENDMAIL, disable=name == "off") for name in ("a", "b", "off")}
    matchers = [Matcher(name="1", targets=("b", "a", "gone")), Matcher(name="2", targets=("a", "off"))]
    assert receivers(FENCED, matchers, targets) == ("a", "b")
    assert receivers(FENCED, [], targets) == ()


@pytest.mark.parametrize("text", ["type=fencing", "exact:type", "like:type=x", "regex:node=(", "exact:Type=x", ""])
def test_a_condition_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is not"):
        parse_field(text)


@pytest.mark.parametrize(
    ("span", "moment", "holds"),
    [
        ("mon..fri 8:00-17:00", "2026-11-20 08:00", True),  # a Friday
        ("mon..fri 8:00-17:00", "2026-11-20 17:00", False),
        ("mon..fri 8-17", "2026-11-21 09:00", False),
        ("sat,sun", "2026-11-21 00:00", True),
        ("fri..mon", "2026-11-23 23:59", True),
        ("fri..mon", "2026-11-24 00:00", False),
        ("22:00-6:00", "2026-11-20 05:59", True),
        ("22:00-6:00", "2026-11-20 06:00", False),
        ("fri 22:00-6:00", "2026-11-21 05:00", True),
        ("fri 22:00-6:00", "2026-11-20 05:00", False),
        ("0:00-24:00", "2026-11-20 23:59", True),
    ],
)
def test_a_time_of_the_week_holds_when_it_says(span: str, moment: str, holds: bool) -> None:
    assert parse_span(span).holds(datetime.fromisoformat(moment)) is holds


@pytest.mark.parametrize("text", ["", "fri..xyz", "8:00", "25:00-26:00", "8:61-9:00", "8:00-8:00", "mon 8-9 10"])
def test_a_time_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match=r"such as mon\.\.fri 8:00-17:00"):
        parse_span(text)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{title}}", 'n1 is "fenced"'),
        ('{"text": "{{ escape title }}: {{ escape message }}"}', '{"text": "n1 is \\"fenced\\": a\\nb"}'),
        ("{{ json fields }}", '{"node": "n1", "guest": "100,101"}'),
        ("{{ fields.node }}/{{ fields.none }}/{{ secrets.token }}", "n1//hush"),
        ("?q={{ url-encode title }}", "?q=n1%20is%20%22fenced%22"),
        ("{{ severity }} {{ type }} {{ over }}", "error fencing false"),
        ("{ {title}", "{ {title}"),
    ],
)
def test_a_template_is_filled(template: str, text: str) -> None:
    check(template, {"token": "hush"})
    assert filled(template, FENCED, {"token": "hush"}) == text


@pytest.mark.parametrize("template", ["{{ titel }}", "{{ secrets.other }}", "{{ secrets }}"])
def test_a_place_that_stands_for_nothing_is_refused(template: str) -> None:
    with pytest.raises(ValueError, match=r"\{\{"):
        check(template, {"token": "hush"})


def begin(number: int) -> Begin:
    fields = {"guest": str(number), "node": "n2"}
    return Begin(f"recovery:vm:{number}", EventType.RECOVERY, Severity.WARNING, f"vm:{number} moves", "so", fields)


def test_few_things_are_said_one_by_one_and_many_together() -> None:
    assert [len(group) for group in folded(begin(n) for n in range(FOLD_AT))] == [1] * FOLD_AT
    (group,) = folded(begin(n) for n in range(10))
    assert title_of(group) == "vm:0 moves, and 9 more"
    assert text_of(group).count("* so") == 10
    assert fields_of(group) == {"guest": "0,1,2,3,4,5,6,7,8,9", "node": "n2"}
    assert [len(group) for group in folded(begin(n) for n in range(90))] == [40, 40, 10]


def test_of_one_thing_said_twice_at_once_the_last_counts() -> None:
    assert [len(group) for group in folded([begin(1), begin(1)])] == [1]
