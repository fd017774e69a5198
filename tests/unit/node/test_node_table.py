from __future__ import annotations

import pytest

from racimo.api.endpoint import Access, Answers, Endpoint
from racimo.node.table import build_table

ROWS = build_table().rows


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.method} {row.path}")
def test_every_row_says_what_it_does_and_who_may(row: Endpoint) -> None:
    assert row.summary
    assert row.permission.access is not Access.PRIVILEGE or row.permission.privileges
    described = [name for name, field in row.parameters.model_fields.items() if field.description]
    assert described or len(row.parameters.model_fields) <= 3 or row.parameters.structured


def test_only_who_joins_or_logs_in_gets_in_without_a_login() -> None:
    open_to_all = {row.path for row in ROWS if row.permission.access is Access.NOBODY}
    assert open_to_all == {"/racimo/join/check", "/racimo/join/commit", "/access/ticket", "/access/domains"}


ABOUT_A_NODE_THAT_MAY_BE_AWAY = {"/nodes/{node}/wakeonlan", "/nodes/{node}/config"}


def test_what_is_about_one_node_is_answered_by_it() -> None:
    astray = {row.path for row in ROWS if row.path.startswith("/nodes/{node}/") and row.answers is not Answers.NODE}
    assert astray == ABOUT_A_NODE_THAT_MAY_BE_AWAY
