"""One lab of three nodes for each module of tests about guests, and a lab guest to be had in one line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from lab_talk import standing_lab

from racimo.lab.demo import create_guest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from racimo.lab.lab import Lab

_numbers = iter(range(110, 200))


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Three nodes, one datacenter."""
    with standing_lab("rg") as lab:
        yield lab


@pytest.fixture
def vmid() -> int:
    """A number that no other test used: a guest's journal and console bear it."""
    return next(_numbers)


@pytest.fixture
async def make_guest(lab: Lab, vmid: int) -> Callable[..., Awaitable[int]]:
    """Makes this test's lab guest on n1 and returns its number: ``await make_guest(memory=256)``."""

    async def make(**more: Any) -> int:
        await create_guest(lab.node("n1"), vmid, lab, **more)
        return vmid

    return make
