"""The backends that the contract is held against: every one with a fresh, empty store for each test."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from etcd_member import EtcdMember, free_port
from pki import TestAuthority

from racimo.store.etcd import EtcdStore
from racimo.store.members import EtcdMembers
from racimo.store.memory import MemoryStore
from racimo.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from racimo.store.base import Store
    from racimo.store.etcd import TlsFiles

_names = itertools.count()


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> TestAuthority:
    return TestAuthority(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="session")
def client_tls(authority: TestAuthority) -> TlsFiles:
    return authority.issue("client")


@pytest.fixture(scope="session")
def etcd(tmp_path_factory: pytest.TempPathFactory, authority: TestAuthority) -> Iterator[EtcdMember]:
    """A single member on the loopback that demands client certificates."""
    folder = tmp_path_factory.mktemp("etcd")
    member = EtcdMember(folder, "n1", authority.issue("n1"), client_port=free_port(), peer_port=free_port())
    try:
        member.start({"n1": member.peer_url})
        member.wait_ready()
        yield member
    finally:
        member.kill()


class Backend:
    """One kind of store under test. ``root`` is a prefix that no other test uses."""

    def __init__(self, open_store: Callable[[], Store], compact: Callable[[Store, int], Awaitable[None]]) -> None:
        self.root = f"/test/{next(_names)}/"
        self.open_store, self.compact = open_store, compact
        self.store = open_store()


@pytest.fixture(params=["memory", "sqlite", "etcd"])
async def backend(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Backend]:
    opened: list[Store] = []

    def opening(make: Callable[[], Store]) -> Callable[[], Store]:
        def open_one() -> Store:
            opened.append(make())
            return opened[-1]

        return open_one

    match request.param:
        case "memory":
            memory = MemoryStore()
            backend = Backend(opening(lambda: memory), compact_memory)
        case "sqlite":
            path = tmp_path / "store.sqlite"
            backend = Backend(opening(lambda: SqliteStore(path, history=64)), compact_sqlite)
        case _:
            member: EtcdMember = request.getfixturevalue("etcd")
            tls: TlsFiles = request.getfixturevalue("client_tls")
            backend = Backend(opening(lambda: EtcdStore([member.client_url], tls)), compacting_etcd(member, tls))
    yield backend
    for store in opened:
        await store.close()


@pytest.fixture
def store(backend: Backend) -> Store:
    return backend.store


@pytest.fixture
def root(backend: Backend) -> str:
    return backend.root


async def compact_memory(store: Store, revision: int) -> None:
    assert isinstance(store, MemoryStore)
    store.compact(revision)


async def compact_sqlite(store: Store, revision: int) -> None:
    """Its history is bounded: fill it."""
    from racimo.store.base import Put

    while await store.revision() < revision + 65:
        await store.txn(puts=[Put("/filler", b"")])


def compacting_etcd(member: EtcdMember, tls: TlsFiles) -> Callable[[Store, int], Awaitable[None]]:
    async def compact(store: Store, revision: int) -> None:
        members = EtcdMembers([member.client_url], tls)
        await members.compact(revision)
        await members.close()

    return compact
