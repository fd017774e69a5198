from __future__ import annotations

from pathlib import Path

from racimo.node.api_reference import TARGET, reference
from racimo.node.table import build_table


def test_the_reference_is_that_of_the_endpoints() -> None:
    page = Path(__file__).parents[3] / TARGET
    assert page.read_text(encoding="utf-8") == reference(), "write it anew: python -m racimo.node.api_reference"


def test_every_endpoint_stands_in_it_once() -> None:
    page = reference()
    for row in build_table():
        assert page.count(f"`{row.method} {row.path}`") == 1
