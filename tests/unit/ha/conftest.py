"""The modules of the HA tests stand beside them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from one_node import OneNode


@pytest.fixture
async def one() -> AsyncIterator[OneNode]:
    from one_node import OneNode

    node = OneNode()
    await node.records()
    yield node
    await node.store.close()
