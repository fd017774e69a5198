"""A node that left its cluster: marks of HA guests must not be the death of guests of its own."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING

import pytest

from racimo.ha.alone import until_clustered
from racimo.ha.clock import SystemClock
from racimo.ha.identity import IdentityFile
from racimo.ha.local import LocalKeeper
from racimo.model.lease import Lease
from racimo.model.paths import NodePaths

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

IDENTITY = '{"name": "n1", "id": "1", "address": "192.0.2.1", "clustered": %s, "endpoints": []}'


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[LocalKeeper]:
    keeper = LocalKeeper(NodePaths(tmp_path))
    keeper.paths.etc.mkdir(parents=True)
    (keeper.paths.etc / "node.json").write_text(IDENTITY % "false")
    yield keeper
    keeper.close()


async def marks_are(keeper: LocalKeeper, wanted: set[int]) -> None:
    async with asyncio.timeout(10):
        while keeper.marked() != wanted:  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def test_a_node_that_stands_alone_forgets_marks_but_not_those_of_guests_that_still_run(
    keeper: LocalKeeper,
) -> None:
    keeper.mark(999_999_990)
    keeper.mark(999_999_991)
    keeper.write(Lease(2**62, 1, 1, "of old", 1))
    name = ("-name", "racimo-guest-999999991")
    guest = await asyncio.create_subprocess_exec(sys.executable, "-c", "import time; time.sleep(60)", *name)
    file = IdentityFile(keeper.paths.etc / "node.json", SystemClock())
    waiting = asyncio.create_task(until_clustered(file, keeper, SystemClock()))
    try:
        await marks_are(keeper, {999_999_991})
        assert keeper.read() is None, "without a lease the guard kills the one that is left"
    finally:
        guest.kill()
        await guest.wait()
    await marks_are(keeper, set())
    (keeper.paths.etc / "node.json").write_text(IDENTITY % "true")
    assert (await asyncio.wait_for(waiting, 10)).name == "n1"


async def test_a_node_of_a_cluster_keeps_its_marks(keeper: LocalKeeper) -> None:
    (keeper.paths.etc / "node.json").write_text(IDENTITY % "true")
    keeper.mark(999_999_990)
    file = IdentityFile(keeper.paths.etc / "node.json", SystemClock())
    assert (await until_clustered(file, keeper, SystemClock())).clustered
    assert keeper.marked() == {999_999_990}
