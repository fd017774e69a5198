"""What the etcd store does when members die, stall, are cut off, or lose answers: never a wrong or doubled effect.

In every fault, workers go on counting by compare-and-set while a watch looks on; afterwards the counter, the marks
of the increments, what the workers were told and what the watch saw must agree.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import signal
import subprocess
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import TYPE_CHECKING

import pytest
from counting import counting
from netns_cluster import NetnsCluster

from racimo.errors import StoreError, StoreUnavailable
from racimo.store.base import Put
from racimo.store.etcd import EtcdStore
from racimo.store.members import EtcdMembers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from pki import TestAuthority

pytestmark = pytest.mark.root

REQUEST_TIMEOUT = 5.0

BOUND = REQUEST_TIMEOUT + 1.5
"""Seconds that no call may exceed, however the cluster fails (with half a second for a busy machine)."""

_roots = (f"/faults/{number}/" for number in itertools.count())


@pytest.fixture(scope="module")
def running_cluster(tmp_path_factory: pytest.TempPathFactory, authority: TestAuthority) -> Iterator[NetnsCluster]:
    cluster = NetnsCluster(tmp_path_factory.mktemp("cluster"), authority)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture
def cluster(running_cluster: NetnsCluster) -> Iterator[NetnsCluster]:
    yield running_cluster
    running_cluster.heal()


@asynccontextmanager
async def opened(
    cluster: NetnsCluster, *first: str, request_timeout: float = REQUEST_TIMEOUT
) -> AsyncIterator[EtcdStore]:
    """A store that asks the members in ``first`` before the others."""
    order = [*first, *(name for name in cluster.names if name not in first)]
    store = EtcdStore([cluster.endpoints[name] for name in order], cluster.tls, request_timeout=request_timeout)
    try:
        yield store
    finally:
        await store.close()


async def find_leader(cluster: NetnsCluster) -> str:
    members = EtcdMembers(list(cluster.endpoints.values()), cluster.tls)
    try:
        while True:
            for name, endpoint in cluster.endpoints.items():
                status = await members.status(endpoint)
                if status.leader == status.id:
                    return name
    finally:
        await members.close()


def fill(path: Path) -> None:
    """Use up all the space there is with one file."""
    with path.open("wb") as file, suppress(OSError):
        while True:
            os.write(file.fileno(), b"\0" * 65536)


def another(cluster: NetnsCluster, name: str) -> str:
    return next(each for each in cluster.names if each != name)


async def test_the_leader_is_killed(cluster: NetnsCluster) -> None:
    leader = await find_leader(cluster)
    async with opened(cluster, leader) as store, counting(store, next(_roots)) as count:
        cluster.members[leader].kill()
        await count.increments(30)
    assert count.longest < BOUND


async def test_a_follower_that_serves_the_client_is_killed_and_restarted(cluster: NetnsCluster) -> None:
    follower = another(cluster, await find_leader(cluster))
    async with opened(cluster, follower) as store, counting(store, next(_roots)) as count:
        cluster.members[follower].kill()
        await count.increments(30)
        cluster.restart(follower)
        await count.increments(30)
    assert count.longest < BOUND


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_a_member_is_paused_for_longer_than_the_election_time_out(cluster: NetnsCluster, role: str) -> None:
    leader = await find_leader(cluster)
    name = leader if role == "leader" else another(cluster, leader)
    async with opened(cluster, name) as store, counting(store, next(_roots)) as count:
        cluster.members[name].signal(signal.SIGSTOP)
        await asyncio.sleep(3.0)
        await count.increments(30)
        cluster.members[name].signal(signal.SIGCONT)
        await count.increments(30)
    assert count.longest < BOUND


@pytest.mark.parametrize("role", ["leader", "follower"])
async def test_a_member_is_cut_off_from_its_peers_but_not_from_the_client(cluster: NetnsCluster, role: str) -> None:
    leader = await find_leader(cluster)
    name = leader if role == "leader" else another(cluster, leader)
    async with opened(cluster, name) as store, counting(store, next(_roots)) as count:
        cluster.link(name, "peers", up=False)
        await asyncio.sleep(2.0)
        await count.increments(30)
        cluster.link(name, "peers", up=True)
        await count.increments(30)
    assert count.longest < BOUND


async def test_a_member_is_cut_off_from_everybody(cluster: NetnsCluster) -> None:
    leader = await find_leader(cluster)
    async with opened(cluster, leader) as store, counting(store, next(_roots)) as count:
        cluster.link(leader, "peers", up=False)
        cluster.link(leader, "clients", up=False)
        await count.increments(30)
    assert count.longest < BOUND


async def test_all_members_are_killed_and_come_back(cluster: NetnsCluster) -> None:
    async with opened(cluster) as store, counting(store, next(_roots)) as count:
        for member in cluster.members.values():
            member.kill()
        with pytest.raises(StoreUnavailable):
            await store.revision()
        for name in cluster.names:
            cluster.restart(name)
        await count.increments(30)
    assert count.longest < BOUND


async def test_a_watch_goes_on_when_history_is_compacted_and_its_member_dies(cluster: NetnsCluster) -> None:
    leader = await find_leader(cluster)
    follower = another(cluster, leader)
    members = EtcdMembers(list(cluster.endpoints.values()), cluster.tls)
    async with opened(cluster, follower) as store, counting(store, next(_roots)) as count:
        await members.compact(await store.revision() - 3)
        await count.increments(10)
        cluster.members[follower].kill()
        await count.increments(30)
    await members.close()
    assert count.longest < BOUND


async def test_one_paused_member_delays_no_read_and_no_write_for_long(cluster: NetnsCluster) -> None:
    follower = another(cluster, await find_leader(cluster))
    root = next(_roots)
    loop = asyncio.get_running_loop()
    async with opened(cluster, follower) as store:
        await store.txn(puts=[Put(root + "a", b"")])
        cluster.members[follower].signal(signal.SIGSTOP)
        begun = loop.time()
        await store.txn(puts=[Put(root + "a", b"")])
        assert loop.time() - begun < 2.5
    async with opened(cluster, follower) as store:
        begun = loop.time()
        await store.get(root + "a")
        assert loop.time() - begun < 1.0


async def test_without_a_quorum_the_error_comes_in_time_and_names_every_member(cluster: NetnsCluster) -> None:
    first, second, third = cluster.names
    root = next(_roots)
    loop = asyncio.get_running_loop()
    async with opened(cluster, first, request_timeout=2.5) as store:
        revision = await store.txn(puts=[Put(root + "a", b"before")]) or 0
        cluster.members[second].kill()
        cluster.members[third].signal(signal.SIGSTOP)
        for call in (
            store.get(root + "a"),
            store.list(root),
            store.txn(puts=[Put(root + "a", b"during")]),
            anext(aiter(store.watch(root, revision))),
        ):
            begun = loop.time()
            with pytest.raises(StoreError) as caught:
                await call
            assert loop.time() - begun < 2.5 + 3.0  # a watch is silent for a while before it is doubted
            for name in cluster.names:
                assert cluster.endpoints[name] in str(caught.value), str(caught.value)
            assert "timed out" in str(caught.value) or "no answer yet" in str(caught.value)
        cluster.heal()
        await store.txn(puts=[Put(root + "b", b"after")])


async def test_a_member_whose_disk_is_full_is_left_out_and_catches_up_when_there_is_space(
    cluster: NetnsCluster, tmp_path: Path
) -> None:
    leader = await find_leader(cluster)
    member = cluster.members[leader]
    root = next(_roots)
    member.kill()
    with on_a_small_disk(member.data, tmp_path / "kept", "200m"):
        cluster.restart(leader)
        await asyncio.to_thread(cluster.wait_healthy)
        fill(member.data / "ballast")
        async with opened(cluster, leader) as store, counting(store, root) as count:
            for number in range(40):
                await store.txn(puts=[Put(f"/ballast/{number}", b"x" * 1_000_000)])
            await count.increments(30)
            assert member.process is not None
            assert member.process.poll() is not None, "etcd gives up on a full disk"
            (member.data / "ballast").unlink()
            cluster.restart(leader)
            await asyncio.to_thread(cluster.wait_healthy)
        assert count.longest < BOUND
        member.kill()
    await asyncio.to_thread(cluster.heal)


@contextmanager
def on_a_small_disk(data: Path, aside: Path, size: str) -> Iterator[None]:
    """The folder is on a file system of its own for a while; what it holds then goes back to where it was."""
    data.rename(aside)
    data.mkdir(mode=0o700)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=0700", "tmpfs", str(data)], check=True)
    try:
        subprocess.run(["cp", "-a", f"{aside}/.", str(data)], check=True)
        yield
        shutil.rmtree(aside)
        subprocess.run(["cp", "-a", str(data), str(aside)], check=True)
    finally:
        subprocess.run(["umount", str(data)], check=True)
        data.rmdir()
        aside.rename(data)
