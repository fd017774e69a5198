from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from guest_nodes import Datacenter, datacenter
from guest_parts import ChildUnits

from racimo.guest.host import GuestHost
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
def paths(tmp_path: Path) -> NodePaths:
    return NodePaths(tmp_path)


@pytest.fixture
async def units() -> AsyncIterator[ChildUnits]:
    units = ChildUnits()
    yield units
    await units.close()


@pytest.fixture
async def host(paths: NodePaths, units: ChildUnits) -> AsyncIterator[GuestHost]:
    host = GuestHost(paths, units)
    yield host
    await host.close()


@pytest.fixture
async def place() -> AsyncIterator[Datacenter]:
    async with datacenter() as made:
        yield made
