"""Parts for tests that start a real QEMU."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from racimo.guest.qemu.machine import Hypervisor, find_hypervisor

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
async def hypervisor() -> Hypervisor:
    return await find_hypervisor()


@pytest.fixture
def sockets() -> Iterator[Path]:
    """A directory whose path is short enough for unix sockets."""
    folder = Path(tempfile.mkdtemp(prefix="racimo-q-"))
    yield folder
    shutil.rmtree(folder)
