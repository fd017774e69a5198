from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .certificates import Authority
from .nodes import Datacenter, Node

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def datacenter(tmp_path: Path) -> AsyncIterator[Datacenter]:
    datacenter = Datacenter(tmp_path, Authority(tmp_path / "ca"))
    for node in (datacenter.n1, datacenter.n2):
        await node.start()
    yield datacenter
    for node in (datacenter.n1, datacenter.n2):
        await node.stop()


@pytest.fixture
async def n1(datacenter: Datacenter) -> Node:
    return datacenter.n1


@pytest.fixture
async def n2(datacenter: Datacenter) -> Node:
    return datacenter.n2
