"""One lab of three nodes for all tests of HA, each of which begins with it at rest; and one of two with a witness."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from ha_lab import HaLab, with_guest

from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import make_datacenter
from racimo.lab.lab import make_nodes, plan_nodes
from racimo.lab.place import LabPlace

if TYPE_CHECKING:
    from collections.abc import Iterator

FIGURES = pytest.StashKey[list[str]]()


@contextmanager
def ha_lab(name: str, nodes: int, *, witness: bool) -> Iterator[HaLab]:
    """A lab with one guest under HA, gone afterwards."""
    state = Path(tempfile.mkdtemp(prefix="racimo-ha-", dir="/var/tmp"))  # not /tmp: it may be no place for overlays
    place = LabPlace(f"{name}{os.getpid()}", state / "state", LabPlace.from_environment().cache)

    async def make() -> HaLab:
        lab = await make_nodes(place, plan_nodes(nodes, witness=witness), bare=False, tell=lambda what, seconds: None)
        await make_datacenter(lab, lambda what, seconds: None)
        return await with_guest(lab)

    try:
        yield asyncio.run(make())
    finally:
        asyncio.run(clean_up(place))
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture(scope="session")
def three_nodes() -> Iterator[HaLab]:
    with ha_lab("rtha", 3, witness=False) as lab:
        yield lab


@pytest.fixture(scope="module")
def two_nodes() -> Iterator[HaLab]:
    with ha_lab("rthw", 2, witness=True) as lab:
        yield lab


@pytest.fixture
async def three(three_nodes: HaLab) -> HaLab:
    """Three nodes at rest, with a guest that HA keeps running."""
    await three_nodes.at_rest()
    return three_nodes


@pytest.fixture
async def two(two_nodes: HaLab) -> HaLab:
    """Two nodes and a witness at rest, with a guest that HA keeps running."""
    await two_nodes.at_rest()
    return two_nodes


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> list[str]:
    """Lines for the summary at the end: what was measured."""
    return request.config.stash.setdefault(FIGURES, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    lines = config.stash.get(FIGURES, [])
    if lines:
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.write_line(line)
