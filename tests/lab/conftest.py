"""Labs for tests: each beside any other lab on the machine, under names of its own, and gone afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from node_logs import node_logs

from racimo.lab.cleanup import clean_up
from racimo.lab.datacenter import make_datacenter
from racimo.lab.lab import Lab, make_nodes, plan_nodes
from racimo.lab.place import LabPlace


@dataclass
class Steps:
    """What a lab told while it was made."""

    told: list[tuple[str, float]] = field(default_factory=list)

    def __call__(self, what: str, seconds: float) -> None:
        self.told.append((what, seconds))

    @property
    def seconds(self) -> float:
        return sum(seconds for _, seconds in self.told)


MakeLab = Callable[..., Awaitable[Lab]]
MADE = pytest.StashKey[Lab]()
"""The lab that a test made for itself."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that failed shows what the nodes of its lab logged."""
    report = yield
    if report.failed and report.when == "call":
        values = [item.stash.get(MADE, None), *getattr(item, "funcargs", {}).values()]
        labs = [lab for value in values if isinstance(lab := getattr(value, "lab", value), Lab)]
        if labs:
            report.sections.append(("logs of the lab's nodes", node_logs(labs[0])))
    return report


@pytest.fixture
def place() -> Iterator[LabPlace]:
    """A place for one lab; whatever a test leaves there is ended and removed."""
    state = Path(tempfile.mkdtemp(prefix="racimo-lab-", dir="/var/tmp"))  # not /tmp: it may be no place for overlays
    own = LabPlace(name=f"rt{os.getpid()}", state=state / "state", cache=LabPlace.from_environment().cache)
    try:
        yield own
    finally:
        asyncio.run(clean_up(own))
        shutil.rmtree(state, ignore_errors=True)


@pytest.fixture
async def make_lab(place: LabPlace, request: pytest.FixtureRequest) -> AsyncIterator[MakeLab]:
    """Makes the one lab of a test: ``await make_lab(nodes=3, bare=True)``."""

    async def make(*, nodes: int = 3, witness: bool = False, bare: bool = False, steps: Steps | None = None) -> Lab:
        tell = steps or Steps()
        lab = await make_nodes(place, plan_nodes(nodes, witness=witness), bare=bare, tell=tell)
        request.node.stash[MADE] = lab
        if not bare:
            await make_datacenter(lab, tell)
        return lab

    yield make
    await clean_up(place)
