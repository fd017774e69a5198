"""The whole table of a node, row by row."""

from __future__ import annotations

import json
import re

import pytest

from racimo.api.context import Origin, Who
from racimo.api.dispatch import admit
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


def test_only_a_machine_with_a_join_text_is_let_in_without_login() -> None:
    open_rows = {f"{row.method} {row.path}" for row in TABLE if row.permission.access is Access.NOBODY}
    assert open_rows == {"POST /racimo/join/check", "POST /racimo/join/commit"}


@each_row
def test_a_row_lets_in_whom_it_says(row: Endpoint) -> None:
    for who in (ROOT, PEER):
        admit(row, who)
    if row.permission.access is Access.NOBODY:
        return
    with pytest.raises(NotLoggedIn):
        admit(row, NOBODY)
    if row.permission.access is Access.USER:
        admit(row, USER)
    else:
        with pytest.raises(Unauthorised):
            admit(row, USER)


@each_row
def test_a_row_is_complete(row: Endpoint) -> None:
    assert row.summary
    assert row.permission.access is not Access.PRIVILEGE or row.permission.privileges
    names = set(re.findall(r"\{([a-z0-9_]+)\*?\}", row.path))
    assert set(re.findall(r"\{([a-z0-9_]+)\}", row.permission.path)) <= row.parameters.names(), (
        "a permission over an unknown parameter"
    )
    assert ("node" in names) == (row.answers == "node") or row.answers == "any"


def test_the_schema_of_the_whole_table_is_written_and_names_each_call_once() -> None:
    document = json.loads(openapi(TABLE))
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len(operations) == len(TABLE.rows)
    assert len({operation["operationId"] for operation in operations}) == len(operations)
