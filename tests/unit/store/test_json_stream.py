"""JSON objects are found in a byte stream however it is cut."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from racimo.store.json_stream import JsonStream

texts = st.text(max_size=20)
objects = st.lists(st.dictionaries(texts, st.one_of(texts, st.integers(), st.lists(texts, max_size=3)), max_size=4))


@given(objects, st.sampled_from(["", "\n", " \r\n\t"]), st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_any_cut_gives_the_same_objects(values: list[object], between: str, cuts: list[int]) -> None:
    stream = between.join(json.dumps(value, ensure_ascii=False) for value in values).encode() + b"\n"
    parser, found, at, number = JsonStream(), [], 0, 0
    while at < len(stream):
        step = cuts[number % len(cuts)]
        found += parser.feed(stream[at : at + step])
        at, number = at + step, number + 1
    assert found == values


def test_an_object_is_given_as_soon_as_it_is_complete() -> None:
    parser = JsonStream()
    assert parser.feed(b'{"a": "}') == []
    assert parser.feed(b'"}') == [{"a": "}"}]
    assert parser.feed(b'{"b": {}}\n{"c"') == []
    assert parser.feed(b": 1}") == [{"b": {}}, {"c": 1}]


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ValueError, match="no JSON object"):
        JsonStream().feed(b"<html>\n")
