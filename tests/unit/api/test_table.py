"""The whole table of a node, row by row."""

from __future__ import annotations

import json
import re

import pytest

from racimo.api.admission import admit_class
from racimo.api.context import Origin, Who
from racimo.api.endpoint import Access, Endpoint
from racimo.api.schema import openapi
from racimo.errors import NotLoggedIn, Unauthorised
from racimo.node.table import build_table

TABLE = build_table()
each_row = pytest.mark.parametrize("row", TABLE.rows, ids=lambda row: f"{row.method} {row.path}")
NOBODY, USER, ROOT, PEER = (
    Who(Origin.NETWORK),
    Who(Origin.NETWORK, user="ana@pve"),
    Who(Origin.LOCAL, user="root@pam"),
    Who(Origin.PEER, user="root@pam", node="n2"),
)


def test_only_logging_in_and_joining_need_no_login() -> None:
    open_rows = {f"{row.method} {row.path}" for row in TABLE if row.permission.access is Access.NOBODY}
    assert open_rows == {
        "GET /access/ticket", "POST /access/ticket", "GET /access/domains", "POST /racimo/join/check",
        "POST /racimo/join/commit",
    }  # fmt: skip


@each_row
def test_a_row_refuses_whom_no_privilege_could_let_in(row: Endpoint) -> None:
    for who in (ROOT, PEER):
        admit_class(row, who)
    if row.permission.access is Access.NOBODY:
        return
    with pytest.raises(NotLoggedIn):
        admit_class(row, NOBODY)
    if row.permission.access is Access.NODES:
        with pytest.raises(Unauthorised):
            admit_class(row, USER)
    else:
        admit_class(row, USER)


@each_row
def test_a_row_is_complete(row: Endpoint) -> None:
    assert row.summary
    assert row.permission.access is not Access.PRIVILEGE or row.permission.privileges
    names = set(re.findall(r"\{([a-z0-9_]+)\*?\}", row.path))
    known = row.parameters.names() | row.parameters.derived.keys()
    for permission in (row.permission, *row.permission.also):
        named = {*re.findall(r"\{([a-z0-9_]+)\*?\}", permission.path), permission.own, permission.group_of} - {""}
        assert named <= known, "a permission over an unknown parameter"
    assert ("node" in names) == (row.answers == "node") or row.answers == "any"


def test_the_schema_of_the_whole_table_is_written_and_names_each_call_once() -> None:
    document = json.loads(openapi(TABLE))
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == len(TABLE.rows)
    assert len({operation["operationId"] for operation in operations}) == len(operations)
