from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from racimo.api.endpoint import LOGGED_IN, Answers, Routes, Table
from racimo.api.parameters import OfNode, Parameters
from racimo.errors import NotImplementedHere

from .nodes import TABLE, Echo, Volume

if TYPE_CHECKING:
    from racimo.api.context import Context


async def handler(context: Context, parameters: Parameters) -> None:
    return None


def rows(*declared: tuple[str, str, type[Parameters]]) -> Routes:
    routes = Routes()
    for method, path, parameters in declared:
        routes.add(method, path, permission=LOGGED_IN, parameters=parameters, summary="")(handler)
    return routes


@pytest.mark.parametrize(
    ("path", "row", "parameters"),
    [
        ("/version", "/version", {}),
        ("/version/", "/version", {}),
        ("//version", "/version", {}),
        ("/nodes/n1/echo/100", "/nodes/{node}/echo/{vmid}", {"node": "n1", "vmid": "100"}),
        ("/nodes/n%2F1/echo/100/", "/nodes/{node}/echo/{vmid}", {"node": "n/1", "vmid": "100"}),
        ("/nodes/n1/volumes/s:100/d.raw", "/nodes/{node}/volumes/{volume*}", {"node": "n1", "volume": "s:100/d.raw"}),
        (
            "/nodes/n1/volumes/s%3A100%2Fd.raw",
            "/nodes/{node}/volumes/{volume*}",
            {"node": "n1", "volume": "s:100/d.raw"},
        ),
    ],
)
def test_a_path_finds_its_row_and_parameters(path: str, row: str, parameters: dict[str, str]) -> None:
    match = TABLE.match("GET", path)
    assert (match.endpoint.path, match.parameters) == (row, parameters)


def test_a_literal_goes_before_a_placeholder_and_a_dead_end_is_left_again() -> None:
    table = Table(rows(("GET", "/nodes/{node}", OfNode), ("GET", "/nodes/all", Parameters)))
    assert table.match("GET", "/nodes/all").endpoint.path == "/nodes/all"
    assert table.match("GET", "/nodes/n1").endpoint.path == "/nodes/{node}"
    deeper = Table(rows(("GET", "/nodes/{node}/x", OfNode), ("GET", "/nodes/all/y", Parameters)))
    assert deeper.match("GET", "/nodes/all/x").parameters == {"node": "all"}


@pytest.mark.parametrize(
    ("method", "path", "says"),
    [
        ("GET", "/", "no such path"),
        ("GET", "/nodes/n1/echo", "no such path"),
        ("POST", "/version", "this path knows GET"),
        ("PATCH", "/version", "this path knows GET"),
        ("DELETE", "/nodes/n1/volumes/a/b", "this path knows GET"),
    ],
)
def test_an_unknown_path_or_method_is_not_implemented(method: str, path: str, says: str) -> None:
    with pytest.raises(NotImplementedHere, match=says):
        TABLE.match(method, path)


def test_two_rows_for_one_call_are_refused_though_their_placeholders_differ() -> None:
    with pytest.raises(ValueError, match="Two rows"):
        Table(rows(("GET", "/a/{node}", OfNode)), rows(("GET", "/a/{volume}", Volume)))


@pytest.mark.parametrize(
    ("method", "path", "answers", "parameters"),
    [
        ("GET", "/nodes/{node}", Answers.NODE, Parameters),
        ("GET", "/nodes", Answers.NODE, OfNode),
        ("PATCH", "/nodes", Answers.ANY, Parameters),
        ("GET", "nodes", Answers.ANY, Parameters),
        ("GET", "/a/{volume*}/b", Answers.ANY, Echo),
    ],
)
def test_a_malformed_row_is_refused(method: str, path: str, answers: Answers, parameters: type[Parameters]) -> None:
    with pytest.raises(ValueError, match=r"malformed|not name"):
        Routes().add(method, path, permission=LOGGED_IN, answers=answers, parameters=parameters, summary="")(handler)
