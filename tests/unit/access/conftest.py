from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .site import Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    await site.start()
    await site.furnish()
    yield site
    await site.stop()
    await site.store.close()
