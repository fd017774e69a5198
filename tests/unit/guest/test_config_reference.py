"""The reference page is that of the option table."""

from __future__ import annotations

from pathlib import Path

from racimo.guest.config_options import OPTIONS
from racimo.guest.config_reference import reference_page

PAGE = Path(__file__).parents[3] / "docs/reference/guest-config.md"


def test_the_page_in_the_repository_is_up_to_date() -> None:
    assert PAGE.read_text() == reference_page(), (
        "run: python -m racimo.guest.config_reference > docs/reference/guest-config.md"
    )


def test_every_key_is_on_the_page() -> None:
    page = reference_page()
    assert all(f"`{option.shown}" in page for option in OPTIONS)
