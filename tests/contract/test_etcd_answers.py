"""What the etcd store makes of lost answers, late requests, wrong certificates, a full member and a closed gateway."""

from __future__ import annotations

import asyncio
import itertools
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
from etcd_member import EtcdMember, free_port
from lossy_proxy import LossyProxy
from pki import TestAuthority

from racimo.errors import Conflict, StoreError, StoreUnavailable, StoreUnknown, WatchLost
from racimo.store.base import ABSENT, Compare, Put
from racimo.store.etcd import EtcdStore
from racimo.store.etcd_gateway import OUTAGE_PATIENCE, Gateway
from racimo.store.etcd_txn import REQUESTS, encode
from racimo.store.members import EtcdMembers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from racimo.store.etcd import TlsFiles

_roots = (f"/answers/{number}/" for number in itertools.count())


@asynccontextmanager
async def opened(endpoints: list[str], tls: TlsFiles | None, request_timeout: float = 3.0) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(endpoints, tls, request_timeout=request_timeout)
    try:
        yield store
    finally:
        await store.close()


@contextmanager
def started(folder: Path, tls: TlsFiles, settings: Mapping[str, object]) -> Iterator[EtcdMember]:
    member = EtcdMember(folder, "n1", tls, client_port=free_port(), peer_port=free_port(), settings=settings)
    try:
        member.start({"n1": member.peer_url})
        member.wait_ready()
        yield member
    finally:
        member.kill()


async def filling(store: EtcdStore) -> AsyncIterator[int]:
    for number in itertools.count(1):
        await store.txn(puts=[Put("/filling", bytes(200_000)), Put(f"/number/{number}", b"")])
        yield number


async def request_keys(member: EtcdMember, tls: TlsFiles) -> list[str]:
    gateway = Gateway([member.client_url], tls)
    answer = await gateway.ask("/v3/kv/range", {"key": encode(REQUESTS), "range_end": encode("/racimo-requests0")})
    await gateway.close()
    return [entry["key"] for entry in answer.get("kvs", [])]


@pytest.mark.parametrize("with_other_member", [True, False])
async def test_a_write_whose_answer_is_lost_is_found_committed_once(
    etcd: EtcdMember, client_tls: TlsFiles, with_other_member: bool
) -> None:
    root = next(_roots)
    async with LossyProxy(etcd.client_url) as proxy:
        endpoints = [proxy.url, *([etcd.client_url] if with_other_member else [])]
        async with opened(endpoints, client_tls) as store:
            start = await store.txn([Compare(root + "a", ABSENT)], [Put(root + "a", b"0")]) or 0
            proxy.lose_answers(1)
            revision = await store.txn([Compare(root + "a", start)], [Put(root + "a", b"1")])
            assert proxy.lost.is_set()
            stored = await store.get(root + "a")
            assert stored is not None
            assert (stored.value, stored.revision) == (b"1", revision)
            changes = store.watch(root, start)
            assert (await anext(changes)).revision == revision
            again = await store.txn([Compare(root + "a", stored.revision)], [Put(root + "a", b"2")])
            assert (await anext(changes)).revision == again


async def test_a_lost_answer_that_said_no_is_no_again(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    root = next(_roots)
    async with LossyProxy(etcd.client_url) as proxy, opened([proxy.url, etcd.client_url], client_tls) as store:
        await store.txn(puts=[Put(root + "a", b"0")])
        proxy.lose_answers(1)
        assert await store.txn([Compare(root + "a", ABSENT)], [Put(root + "a", b"1")]) is None
        assert proxy.lost.is_set()


async def test_many_lost_answers_double_nothing(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    root = next(_roots)
    async with LossyProxy(etcd.client_url) as proxy, opened([proxy.url, etcd.client_url], client_tls) as store:
        gateway = store._gateway  # the proxied member is put in front again and again
        revision = await store.txn(puts=[Put(root + "counter", b"0")]) or 0
        for number in range(1, 31):
            gateway.prefer(proxy.url)
            proxy.lose_answers(number % 3)
            done = await store.txn([Compare(root + "counter", revision)], [Put(root + "counter", str(number).encode())])
            assert done is not None and done > revision
            revision = done
        stored = await store.get(root + "counter")
        assert stored is not None and stored.value == b"30"


async def test_a_request_that_arrives_after_its_fence_has_no_effect(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    """The write without any compare of its own: sent again after the fence, and overtaken by a later one."""
    root = next(_roots)
    async with LossyProxy(etcd.client_url) as proxy, opened([proxy.url, etcd.client_url], client_tls) as store:
        await store.txn(puts=[Put(root + "warm", b"")])
        proxy.hold_requests()
        first = await store.txn(puts=[Put(root + "a", b"first")]) or 0
        assert proxy.held.is_set()
        second = await store.txn(puts=[Put(root + "a", b"second")]) or 0
        proxy.release()
        await asyncio.sleep(0.5)
        stored = await store.get(root + "a")
        assert stored is not None and (stored.value, stored.revision) == (b"second", second)
        changes = store.watch(root, first - 1)
        assert [(await anext(changes)).revision for _ in range(2)] == [first, second]


async def test_when_the_fence_finds_nobody_the_outcome_is_unknown_in_bounded_time(
    etcd: EtcdMember, client_tls: TlsFiles
) -> None:
    root = next(_roots)
    loop = asyncio.get_running_loop()
    async with LossyProxy(etcd.client_url) as proxy, opened([proxy.url], client_tls) as store:
        await store.txn(puts=[Put(root + "warm", b"")])
        proxy.hold_requests()
        begun = loop.time()
        with pytest.raises(StoreUnknown, match=r"https://127.0.0.1:\d+: timed out after 1.5 s") as caught:
            await store.txn(puts=[Put(root + "a", b"")])
        assert loop.time() - begun < 4.0
        assert "Look at the record" in str(caught.value)
        proxy.release()
        assert await store.txn(puts=[Put(root + "b", b"")]) is not None


async def test_closing_leaves_no_request_keys_behind(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    before = await request_keys(etcd, client_tls)
    async with opened([etcd.client_url], client_tls) as store:
        await asyncio.gather(*(store.txn(puts=[Put(f"/answers/keys/{number}", b"")]) for number in range(40)))
        assert len(await request_keys(etcd, client_tls)) > len(before)
    assert await request_keys(etcd, client_tls) == before


async def test_a_slot_that_another_client_swept_away_is_replaced(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    root = next(_roots)
    async with opened([etcd.client_url], client_tls) as store:
        await store.txn(puts=[Put(root + "a", b"0")])
        gateway = Gateway([etcd.client_url], client_tls)
        await gateway.ask("/v3/kv/deleterange", {"key": encode(REQUESTS), "range_end": encode("/racimo-requests0")})
        await gateway.close()
        assert await store.txn(puts=[Put(root + "a", b"1")]) is not None
        stored = await store.get(root + "a")
        assert stored is not None and stored.value == b"1"


async def test_a_client_whose_certificate_is_of_another_authority_is_told_so_by_name(
    etcd: EtcdMember, authority: TestAuthority, tmp_path: Path
) -> None:
    stranger = TestAuthority(tmp_path, "other").issue("stranger")
    mixed = type(stranger)(authority.path, stranger.cert, stranger.key)
    async with opened([etcd.client_url], mixed, 1.0) as store:
        for call in (store.get("/a"), store.txn(puts=[Put("/a", b"")])):
            with pytest.raises(StoreUnavailable, match=etcd.client_url) as caught:
                await call
            assert "certificate" in str(caught.value).lower()


async def test_a_member_whose_certificate_is_of_another_authority_is_not_trusted(
    etcd: EtcdMember, tmp_path: Path
) -> None:
    stranger = TestAuthority(tmp_path, "other").issue("stranger")
    async with opened([etcd.client_url], stranger, 1.0) as store:
        with pytest.raises(StoreUnavailable, match=f"{etcd.client_url}: its certificate is not trusted"):
            await store.get("/a")


async def test_missing_certificate_files_are_named(etcd: EtcdMember, client_tls: TlsFiles, tmp_path: Path) -> None:
    missing = type(client_tls)(client_tls.ca, tmp_path / "none.crt", client_tls.key)
    async with opened([etcd.client_url], missing) as store:
        with pytest.raises(StoreError, match=r"none\.crt.*No such file"):
            await store.get("/a")


async def test_a_renewed_certificate_is_taken_up(etcd: EtcdMember, authority: TestAuthority, tmp_path: Path) -> None:
    tls = authority.issue("renewed")
    async with opened([etcd.client_url], tls) as store:
        await store.get("/a")
        session = store._gateway._session
        first = await session.open()
        authority.issue("renewed")
        session._looked = -1e9  # as if a minute had passed
        second = await session.open()
        assert second is not first
        await store.get("/a")
        tls.key.write_bytes(b"half written")
        session._looked = -1e9
        assert await session.open() is second
        await store.get("/a")


async def test_a_member_with_its_gateway_off_is_told_apart(authority: TestAuthority, tmp_path: Path) -> None:
    tls = authority.issue("off")
    with started(tmp_path, tls, {"enable-grpc-gateway": False}) as member:
        async with opened([member.client_url], tls, 1.0) as store:
            with pytest.raises(StoreUnavailable, match="its JSON gateway is off"):
                await store.get("/a")


async def test_a_full_store_refuses_writes_clearly_and_serves_again_once_there_is_room(
    authority: TestAuthority, tmp_path: Path
) -> None:
    tls = authority.issue("full")
    quota = 4 * 1024 * 1024
    with started(tmp_path, tls, {"quota-backend-bytes": quota}) as member:
        members = EtcdMembers([member.client_url], tls)
        async with opened([member.client_url], tls) as store:
            written = 0
            with pytest.raises(StoreUnavailable, match=f"full.*{member.client_url}.*database space exceeded"):
                async for written in filling(store):  # noqa: B007 - counts what was acknowledged
                    pass
            assert len((await store.list("/number/")).records) == written
            alarms = await members.alarms()
            assert [alarm.kind for alarm in alarms] == ["NOSPACE"]
            await members.compact(await store.revision())
            await members.defragment(member.client_url)
            assert (await members.status(member.client_url)).db_size < quota
            await members.disarm(alarms[0])
            assert await store.txn(puts=[Put("/filling", b"small")]) is not None
        await members.close()


async def test_a_dead_first_member_is_passed_over(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    root = next(_roots)
    dead = f"https://127.0.0.1:{free_port()}"
    async with opened([dead, etcd.client_url], client_tls) as store:
        assert await store.txn(puts=[Put(root + "a", b"")]) is not None
        assert await store.get(root + "a") is not None


async def test_a_changed_membership_is_followed_by_requests_and_watches(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    root = next(_roots)
    async with LossyProxy(etcd.client_url) as proxy, opened([proxy.url], client_tls) as store:
        start = await store.txn(puts=[Put(root + "a", b"")]) or 0
        changes = store.watch(root, start - 1)
        assert (await anext(changes)).revision == start
        store.set_endpoints([etcd.client_url])
        proxy.hold_requests()
        revision = await store.txn(puts=[Put(root + "a", b"new")])
        assert (await anext(changes)).revision == revision


async def test_nobody_there_names_every_member_and_its_reason(client_tls: TlsFiles) -> None:
    dead = [f"https://127.0.0.1:{free_port()}" for _ in range(2)]
    async with opened(dead, client_tls, 1.0) as store:
        for call in (store.get("/a"), store.txn(puts=[Put("/a", b"")]), anext(aiter(store.watch("/", 1)))):
            with pytest.raises(StoreUnavailable) as caught:
                await call
            for endpoint in dead:
                assert f"{endpoint}: Connect call failed" in str(caught.value) or "refused" in str(caught.value)
                assert endpoint in str(caught.value)


async def test_a_store_restored_from_an_older_state_loses_its_watches(authority: TestAuthority, tmp_path: Path) -> None:
    tls = authority.issue("restored")
    port = free_port()
    with started(tmp_path / "old", tls, {}) as member:
        port = int(member.client_url.rpartition(":")[2])
        async with opened([member.client_url], tls, 10.0) as store:
            for _ in range(20):
                revision = await store.txn(puts=[Put("/a", b"")]) or 0
            changes = store.watch("/", revision - 1)
            assert (await anext(changes)).revision == revision
            member.kill()
            new = EtcdMember(tmp_path / "new", "n1", tls, client_port=port, peer_port=free_port())
            try:
                new.start({"n1": new.peer_url})
                with pytest.raises(WatchLost, match="restored from an older state"):
                    await anext(changes)
            finally:
                new.kill()


async def test_membership_is_listed_grown_and_shrunk(authority: TestAuthority, tmp_path: Path) -> None:
    tls = authority.issue("membership")
    with started(tmp_path / "n1", tls, {}) as first:
        second = EtcdMember(tmp_path / "n2", "n2", tls, client_port=free_port(), peer_port=free_port())
        members = EtcdMembers([first.client_url], tls)
        try:
            assert [(each.name, each.learner) for each in await members.list()] == [("n1", False)]
            added = await members.add([second.peer_url])
            assert (added.learner, added.started) == (True, False)
            second.start({"n1": first.peer_url, "n2": second.peer_url}, "existing")
            async with asyncio.timeout(30):
                while not await promoted(members, added.id):  # noqa: ASYNC110 - etcd tells no event
                    await asyncio.sleep(0.1)
            listed = {each.name: each for each in await members.list()}
            assert not listed["n2"].learner
            assert (await members.status(second.client_url)).id == added.id
            await members.remove(added.id)
            await members.remove(added.id)
            assert [each.name for each in await members.list()] == ["n1"]
        finally:
            second.kill()
            await members.close()


async def promoted(members: EtcdMembers, member: int) -> bool:
    try:
        await members.promote(member)
    except Conflict:
        return False
    return True


async def test_in_an_outage_the_next_requests_are_given_less_time(etcd: EtcdMember, client_tls: TlsFiles) -> None:
    """A command makes several requests: none of them after the first need wait as long, until somebody answers."""
    async with LossyProxy(etcd.client_url) as proxy:
        gateway = Gateway([proxy.url], client_tls, request_timeout=2.5)
        body = {"key": encode("/nothing")}
        await gateway.ask("/v3/kv/range", body)
        assert gateway.patience == 2.5
        gateway.set_endpoints([f"https://127.0.0.1:{free_port()}"])
        with pytest.raises(StoreUnavailable):
            await gateway.ask("/v3/kv/range", body)
        assert gateway.patience == OUTAGE_PATIENCE
        gateway.set_endpoints([proxy.url])
        await gateway.ask("/v3/kv/range", body)
        assert gateway.patience == 2.5
        await gateway.close()
