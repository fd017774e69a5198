"""What a manager's transactions compare: what may come meanwhile, and fails them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from racimo.ha.commit import Commit
from racimo.ha.states import Fence, Move
from racimo.ha.view import Records
from racimo.model.guest import Guest, RunState, Runtime
from racimo.model.ha import Heartbeat, ManagerTerm, NodeHealth, NodeStatus, Resource, Service, ServiceState
from racimo.store.layout import Layout
from racimo.store.memory import MemoryStore

if TYPE_CHECKING:
    from collections.abc import Callable


async def basis_of(layout: Layout) -> Records:
    basis = Records()
    for name in ("nodes", "guests", "runtimes", "resources", "heartbeats", "manager", "node_statuses", "services"):
        setattr(basis, name, await getattr(layout, name).all())
    return basis


async def managed() -> tuple[Layout, Commit, Fence, Move]:
    """A manager's office, a node n2 with a heartbeat and vm:100, and the decisions to fence and to move."""
    layout = Layout(MemoryStore())
    await layout.manager.create("term", ManagerTerm(node="n1", incarnation="a", term=1))
    await layout.heartbeats.create("n2", Heartbeat(node="n2", incarnation="b", sequence=5))
    await layout.guests.create(100, Guest(vmid=100, node="n2"))
    await layout.resources.create("vm:100", Resource(sid="vm:100"))
    service = Service(sid="vm:100", state=ServiceState.STARTED, node="n2", epoch=1)
    await layout.services.create("vm:100", service)
    await layout.runtimes.create(100, Runtime(vmid=100, node="n2", epoch=1, state=RunState.RUNNING))
    basis = await basis_of(layout)
    fence = Fence("n2", basis.heartbeats["n2"].revision, NodeStatus(node="n2", health=NodeHealth.FENCE), "why")
    move = Move(
        "vm:100",
        Guest(vmid=100, node="n1", epoch=2),
        Runtime(vmid=100, node="n1", epoch=2, state=RunState.STOPPED),
        replace(service, node="n1", epoch=2),
        "why",
        fenced="n2",
    )
    return layout, Commit(layout, basis, basis.manager["term"].compare), fence, move


async def test_fencing_deletes_the_heartbeat_and_a_move_needs_that() -> None:
    layout, commit, fence, move = await managed()
    assert await layout.store.txn(*commit.transaction(move)) is None
    assert await layout.store.txn(*commit.transaction(fence)) is not None
    assert await layout.heartbeats.find("n2") is None
    commit = Commit(layout, await basis_of(layout), commit.term)
    assert await layout.store.txn(*commit.transaction(move)) is not None
    assert (await layout.guests.get(100)).epoch == 2


async def _newer_heartbeat(layout: Layout) -> None:
    await layout.heartbeats.update("n2", lambda old: replace(old, sequence=6))


async def _newer_term(layout: Layout) -> None:
    await layout.manager.update("term", lambda old: replace(old, node="n3", term=2))


@pytest.mark.parametrize("meanwhile", [_newer_heartbeat, _newer_term])
async def test_what_came_meanwhile_fails_the_fence(meanwhile: Callable[[Layout], object]) -> None:
    layout, commit, fence, _ = await managed()
    await meanwhile(layout)  # type: ignore[misc]
    assert await layout.store.txn(*commit.transaction(fence)) is None


async def _came_back(layout: Layout) -> None:
    await layout.heartbeats.create("n2", Heartbeat(node="n2", incarnation="c", sequence=1))


async def _started(layout: Layout) -> None:
    await layout.runtimes.update(100, lambda old: replace(old, state=RunState.STARTING))


async def _moved(layout: Layout) -> None:
    await layout.guests.update(100, lambda old: replace(old, node="n3", epoch=2))


@pytest.mark.parametrize("meanwhile", [_came_back, _started, _moved, _newer_term])
async def test_what_came_meanwhile_fails_the_move(meanwhile: Callable[[Layout], object]) -> None:
    layout, commit, fence, move = await managed()
    await layout.store.txn(*commit.transaction(fence))
    commit = Commit(layout, await basis_of(layout), commit.term)
    await meanwhile(layout)  # type: ignore[misc]
    assert await layout.store.txn(*commit.transaction(move)) is None
