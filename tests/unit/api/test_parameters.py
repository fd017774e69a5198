from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.api.context import Origin, Who
from racimo.api.incoming import Incoming
from racimo.api.parameters import bind, boolean, gathered
from racimo.errors import BadParameter, BadRequest

from .nodes import Echo

if TYPE_CHECKING:
    from pydantic import JsonValue

PATH = {"node": "n1", "vmid": "100"}


@pytest.mark.parametrize(
    ("given", "name", "understood"),
    [
        ({"onboot": "1"}, "onboot", True),
        ({"onboot": "on"}, "onboot", True),
        ({"onboot": "YES"}, "onboot", True),
        ({"onboot": "true"}, "onboot", True),
        ({"onboot": True}, "onboot", True),
        ({"onboot": 1}, "onboot", True),
        ({"onboot": "0"}, "onboot", False),
        ({"onboot": "off"}, "onboot", False),
        ({"onboot": "no"}, "onboot", False),
        ({"onboot": "false"}, "onboot", False),
        ({"onboot": False}, "onboot", False),
        ({}, "onboot", None),
        ({"full-clone": "1"}, "full_clone", True),
        ({"nodes": "n1,n2;n3 n4"}, "nodes", ("n1", "n2", "n3", "n4")),
        ({"nodes": ["n1", "n2"]}, "nodes", ("n1", "n2")),
        ({"nodes": ["n1,n2", "n3"]}, "nodes", ("n1", "n2", "n3")),
        ({"nodes": ""}, "nodes", ()),
        ({"keep": "1, 2"}, "keep", [1, 2]),
        ({"keep": [1, 2]}, "keep", [1, 2]),
        ({"name": "web"}, "name", "web"),
        ({"name": 12}, "name", "12"),
        ({"name": True}, "name", "1"),
        ({"vmid": "100"}, "vmid", 100),
        ({"vmid": 100}, "vmid", 100),
        ({"_dc": "123"}, "vmid", 100),
    ],
)
def test_values_are_understood_as_clients_write_them(
    given: dict[str, JsonValue], name: str, understood: object
) -> None:
    assert getattr(bind(Echo, given, PATH), name) == understood


@pytest.mark.parametrize(
    ("given", "name", "reason"),
    [
        ({"onboot": "maybe"}, "onboot", "not a boolean"),
        ({"onboot": ["1", "1"]}, "onboot", "not a boolean"),
        ({"name": ["a", "b"]}, "name", "more than once"),
        ({"name": {"a": 1}}, "name", "string"),
        ({"nodes": [["n1"]]}, "nodes", "plain values"),
        ({"keep": "one"}, "keep", "integer"),
        ({"vmid": "101"}, "vmid", "contradicts '100' in the path"),
        ({"colour": "red"}, "colour", "is not a parameter of this call"),
        ({"net32": "virtio"}, "net32", "is not a parameter of this call"),
        ({"net01": "virtio"}, "net01", "is not a parameter of this call"),
        ({"full_clone": "1"}, "full_clone", "is not a parameter of this call"),
    ],
)
def test_what_cannot_be_understood_is_named(given: dict[str, JsonValue], name: str, reason: str) -> None:
    with pytest.raises(BadParameter) as raised:
        bind(Echo, given, PATH)
    assert reason in raised.value.parameters[name]


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(BadParameter) as raised:
        bind(Echo, {"colour": "red", "onboot": "maybe", "keep": "one"}, {"node": "n1", "vmid": "7"})
    assert set(raised.value.parameters) == {"colour", "onboot", "keep", "vmid"}


def test_a_missing_parameter_is_said_to_be_missing() -> None:
    with pytest.raises(BadParameter) as raised:
        bind(Echo, {}, {"node": "n1"})
    assert raised.value.parameters == {"vmid": "is missing, and it is not optional"}


def test_indexed_parameters_are_kept_as_text() -> None:
    bound = bind(Echo, {"net0": "virtio,bridge=vmbr0", "net31": "e1000", "scsi0": "local:8"}, PATH)
    assert bound.more() == {"net0": "virtio,bridge=vmbr0", "net31": "e1000", "scsi0": "local:8"}


def test_repeated_keys_make_a_list() -> None:
    assert gathered([("a", "1"), ("b", "2"), ("a", "3"), ("a", "4")]) == {"a": ["1", "3", "4"], "b": "2"}
    assert gathered([("nodes[]", "n1"), ("nodes[]", "n2")]) == {"nodes": ["n1", "n2"]}


@pytest.mark.parametrize("value", [None, "", "2", 2, 1.0, {}, []])
def test_other_values_are_no_booleans(value: JsonValue) -> None:
    with pytest.raises(ValueError, match="not a boolean"):
        boolean(value)


def incoming(body: bytes, content_type: str, query: str = "") -> Incoming:
    return Incoming(who=Who(Origin.LOCAL), method="POST", path="/x", query=query, content_type=content_type, body=body)


FORM = "application/x-www-form-urlencoded"
JSON = "application/json; charset=utf-8"


@pytest.mark.parametrize(
    ("request_", "given"),
    [
        (incoming(b"a=1&b=x%20y+z&b=%C3%B1&c=", FORM, "d=4"), {"a": "1", "b": ["x y z", "ñ"], "c": "", "d": "4"}),
        (incoming(b'{"a": 1, "b": [true, null]}', JSON, "d=4"), {"a": 1, "b": [True, None], "d": "4"}),
        (incoming(b"", JSON, "d=4"), {"d": "4"}),
        (incoming(b"", "", ""), {}),
        (incoming(b"a=1", ""), {"a": "1"}),
    ],
)
def test_query_and_body_come_together(request_: Incoming, given: dict[str, JsonValue]) -> None:
    assert request_.given() == given


@pytest.mark.parametrize(
    "request_",
    [
        incoming(b"{", JSON),
        incoming(b"[1]", JSON),
        incoming(b"[" * 100_000, JSON),
        incoming(b'{"a": 1}', JSON, "a=1"),
        incoming(b"a=%FF", FORM),
        incoming(b"\xff=1", FORM),
        incoming(b"<a/>", "text/xml"),
        incoming(b"&".join(b"a=1" for _ in range(2000)), FORM),
    ],
)
def test_a_body_that_cannot_be_read_is_a_bad_request(request_: Incoming) -> None:
    with pytest.raises(BadRequest):
        request_.given()
