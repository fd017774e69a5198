"""What attackers send: refused, and others are served meanwhile."""

from __future__ import annotations

import asyncio
import resource
import socket
import ssl
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import aiohttp
import pytest
from api.certificates import Authority

from racimo.access.passwords import Passwords
from racimo.access.tickets import LIFETIME, TicketSigner
from racimo.api.body import MAX_BODY, STRANGERS
from racimo.api.listen import BoundedListener

from .site import PASSWORD, Site

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


def memory() -> int:
    """Bytes of this process that are in memory (proc(5), statm)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def test_a_ticket_is_no_good_after_its_time_however_often_it_is_sent(site: Site) -> None:
    await site.user()
    headers = await site.ticket()
    assert [(await site.ask("GET", "/version", headers)).status for _ in range(3)] == [200, 200, 200]
    site.time.now += LIFETIME + 2
    answer = await site.ask("GET", "/version", headers)
    assert (answer.status, answer.reason) == (401, "permission denied - invalid PVE ticket")


async def test_forged_tickets_are_refused(site: Site) -> None:
    forged = TicketSigner(b"guess" * 8).ticket("root@pam", site.time())
    good = (await site.ticket("root@pam"))["Cookie"].removeprefix("PVEAuthCookie=")
    plain, _, signature = good.rpartition("::")
    stolen = f"{plain.replace('root@pam', 'anna@pve')}::{signature}"
    tries = [
        forged, stolen, plain, f"{plain}::", f"{plain}::{signature[:-4]}", f"::{signature}", "x" * 10_000, "%" * 100,
        '"', "PVE:root@pam:FFFFFFFF::x", f"{plain}::{signature}A",
    ]  # fmt: skip
    for ticket in tries:
        answer = await site.ask("GET", "/version", {"Cookie": f"PVEAuthCookie={ticket}"})
        assert answer.status == 401, ticket[:80]


async def test_the_cookie_may_be_percent_encoded_or_among_others(site: Site) -> None:
    ticket = (await site.ticket("root@pam"))["Cookie"].removeprefix("PVEAuthCookie=")
    for cookie in (quote(ticket, safe=""), quote(ticket), f'"{ticket}"', ticket):
        answer = await site.ask("GET", "/version", {"Cookie": f"lang=en; PVEAuthCookie={cookie}; x=y"})
        assert answer.status == 200, cookie


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
async def test_a_change_with_a_cookie_needs_the_form_token(site: Site, method: str) -> None:
    await site.user("ben@pve")
    root = await site.ticket("root@pam")
    others = (await site.ticket("ben@pve"))["CSRFPreventionToken"]
    path = "/access/groups/none" if method != "POST" else "/access/groups"
    for token in ("", "x", others, root["CSRFPreventionToken"][:-2]):
        sent = {"Cookie": root["Cookie"], **({"CSRFPreventionToken": token} if token else {})}
        answer = await site.ask(method, path, sent, {"groupid": "staff"} if method == "POST" else None)
        assert (answer.status, answer.reason) == (401, "Permission denied - invalid csrf token"), token
    assert (await site.ask("GET", "/access/groups", root)).data == []


async def test_a_token_needs_no_form_token_and_its_secret_must_be_right_whole(site: Site) -> None:
    await site.user()
    await site.grant("/", "anna@pve", "Administrator")
    headers = await site.token(privsep=False)
    assert (await site.ask("POST", "/access/groups", headers, {"groupid": "staff"})).status == 200
    good = headers["Authorization"]
    for wrong in (
        good[:-1], good + "0", good.replace("ci=", "cj="), good.replace("anna", "ben"), "PVEAPIToken=",
        "PVEAPIToken=anna@pve!ci", "PVEAPIToken=anna@pve!ci=", f"Bearer {good}", good.lower(), "Basic cm9vdA==",
    ):  # fmt: skip
        assert (await site.ask("GET", "/version", {"Authorization": wrong})).status == 401, wrong
    with_root = {"Authorization": "PVEAPIToken=anna@pve!ci=x", **(await site.ticket("root@pam"))}
    assert (await site.ask("GET", "/version", with_root)).status == 401


async def test_a_token_makes_no_ticket_and_changes_no_password_and_no_second_factor(site: Site) -> None:
    await site.user()
    await site.grant("/", "anna@pve", "Administrator")
    headers = await site.token(privsep=False)
    form = {"username": "anna@pve", "password": PASSWORD}
    assert (await site.ask("POST", "/access/ticket", headers, form)).status == 403
    form = {"userid": "anna@pve", "password": "another password", "confirmation-password": PASSWORD}
    assert (await site.ask("PUT", "/access/password", headers, form)).status == 403
    form = {"type": "recovery", "password": PASSWORD}
    assert (await site.ask("POST", "/access/tfa/anna@pve", headers, form)).status == 403


async def test_a_header_cannot_be_injected_through_the_reason_phrase(site: Site) -> None:
    root = await site.ticket("root@pam")
    answer = await site.ask("GET", "/access/users/a%0d%0aSet-Cookie:%20x=1%0d%0a@pve", root)
    assert answer.status == 400
    answer = await site.ask(
        "PUT", "/access/acl", root, {"path": "/vms/1", "users": "e\r\nX-Evil: 1@pve", "roles": "PVEAdmin"}
    )
    assert answer.status == 500
    assert "\n" not in answer.reason
    assert "no such user" in answer.reason


@pytest.mark.parametrize(
    "path",
    ["/nodes/n1/../../access/users", "/nodes/n1/storage/..%2F..%2Fetc/content", "/pools/..%2F..",
     "/access/groups/..%2f..%2fetc", "/access/users/..%2F@pve/token/x"],
)  # fmt: skip
async def test_a_path_that_climbs_gets_nowhere(site: Site, path: str) -> None:
    await site.user()
    for headers in (await site.ticket(), await site.ticket("root@pam")):
        assert (await site.ask("GET", path, headers)).status in (400, 403, 500, 501), path


async def test_what_a_stranger_says_about_who_forwards_is_not_believed(site: Site) -> None:
    await site.user()
    evil = {"X-Racimo-User": "root@pam", "X-Racimo-Forwarded-By": "n2"}
    assert (await site.ask("GET", "/access/users", evil)).status == 401
    users = await site.ask("GET", "/access/users", {**evil, **(await site.ticket())})
    assert [user["userid"] for user in users.data] == ["anna@pve"]


@pytest.fixture
async def two(tmp_path: Path) -> AsyncIterator[tuple[Site, Site]]:
    """Two nodes over one store, as after a login at the first for something on the second."""
    n1 = Site(tmp_path)
    n2 = Site(tmp_path, name="n2", store=n1.store, directory=n1.directory, authority=n1.authority)
    for node in (n1, n2):
        await node.start()
    await n1.furnish()
    await n2.caught_up()
    yield n1, n2
    for node in (n1, n2):
        await node.stop()
    await n1.store.close()


async def test_the_node_that_answers_looks_at_the_permissions_of_user_and_token(two: tuple[Site, Site]) -> None:
    n1, n2 = two
    await n1.user()
    headers = await n1.token()
    path = "/nodes/n2/tasks/UPID:n2:00000001:00000002:6B49D200:x::root@pam:/status"
    await n2.caught_up()
    assert (await n1.ask("GET", path, await n1.ticket())).status == 403
    await n1.grant("/nodes/n2", "anna@pve", "PVEAuditor")
    await n2.caught_up()
    assert "no such task" in (await n1.ask("GET", path, await n1.ticket())).reason.lower()
    refused = await n1.ask("GET", path, headers)
    assert (refused.status, refused.reason) == (403, "Permission check failed (/nodes/n2, Sys.Audit)")
    await n1.grant("/nodes/n2", "anna@pve!ci", "PVEAuditor")
    await n2.caught_up()
    assert (await n1.ask("GET", path, headers)).status == 500


async def test_a_ticket_of_one_node_is_good_at_the_other(two: tuple[Site, Site]) -> None:
    n1, n2 = two
    await n1.user()
    await n2.caught_up()
    login = await n1.log_in()
    assert (await n2.ask("GET", "/version", {"Cookie": f"PVEAuthCookie={login.ticket}"})).status == 200


async def test_a_certificate_of_another_authority_makes_nobody_a_node(site: Site, tmp_path: Path) -> None:
    files = Authority(tmp_path / "evil").issue("n1")
    context = ssl.create_default_context(cafile=str(site.tls.ca))
    context.load_cert_chain(files.certificate, files.key)
    reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port, ssl=context)
    writer.write(b"POST /api2/json/racimo/x HTTP/1.1\r\nHost: n1\r\nX-Racimo-User: root@pam\r\n\r\n")
    with suppress(ssl.SSLError, ConnectionError):
        assert await reader.read(100) == b""
    writer.close()


async def test_a_body_of_a_gigabyte_is_refused_before_it_is_read(site: Site) -> None:
    before = memory()
    context = ssl.create_default_context(cafile=str(site.tls.ca))
    for length in (b"Content-Length: 1073741824", b"Transfer-Encoding: chunked"):
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port, ssl=context)
        writer.write(b"POST /api2/json/access/ticket HTTP/1.1\r\nHost: n1\r\n" + length + b"\r\n\r\n")
        sent, block = 0, b"10000\r\n" + b"x" * 65536 + b"\r\n" if b"chunked" in length else b"x" * 65536
        answered = asyncio.create_task(reader.readline())
        try:
            while sent < 1 << 30 and not answered.done():
                writer.write(block)
                await writer.drain()
                sent += 65536
        except ConnectionError:
            pass
        assert (await answered).startswith(b"HTTP/1.1 400 The body is too large")
        assert sent < 8 * MAX_BODY
        writer.close()
    assert memory() - before < 64 << 20


async def test_bodies_of_strangers_take_no_more_than_their_share(site: Site) -> None:
    """Forty strangers send four megabytes each, and never end."""
    context = ssl.create_default_context(cafile=str(site.tls.ca))
    before, size = memory(), MAX_BODY - 1

    async def stranger() -> tuple[asyncio.StreamWriter, bytes]:
        reader, writer = await asyncio.open_connection("127.0.0.1", site.server.port, ssl=context)
        head = f"POST /api2/json/access/ticket HTTP/1.1\r\nHost: n1\r\nContent-Length: {size + 1}\r\n\r\n"
        writer.write(head.encode() + b"x" * size)
        try:
            async with asyncio.timeout(3):
                return writer, await reader.readline()
        except TimeoutError:
            return writer, b""

    ends = await asyncio.gather(*(stranger() for _ in range(40)))
    assert any(b"Too many bodies at once" in line for _, line in ends)
    assert 0 < site.server._bodies.held <= STRANGERS
    assert memory() - before < 300 << 20  # the senders' own buffers are in this process too
    assert (await site.ask("GET", "/version", await site.ticket("root@pam"))).status == 200
    for writer, _ in ends:
        writer.transport.abort()


async def test_a_thousand_slow_connections_keep_nobody_from_being_served(site: Site) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    before, slow = memory(), []
    try:
        for n in range(1000):
            connection = socket.create_connection(("127.0.0.1", site.server.port))
            connection.setblocking(False)
            slow.append(connection)
            connection.send(b"\x16\x03\x01" if n % 2 else b"GET /api2/json/version HTTP/1.1\r\nHost:")
            if n % 50 == 0:
                await asyncio.sleep(0)
        headers, begun = await site.ticket("root@pam"), time.monotonic()
        for _ in range(5):
            assert (await site.ask("GET", "/version", headers)).status == 200
        assert time.monotonic() - begun < 10
        assert memory() - before < 500 << 20
    finally:
        for connection in slow:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_connections_beyond_the_bound_are_closed_and_there_is_room_again_after(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(BoundedListener, "limit", 5)
    address = ("127.0.0.1", site.server.port)
    first = [await asyncio.open_connection(*address) for _ in range(5)]
    reader, writer = await asyncio.open_connection(*address)
    assert await asyncio.wait_for(reader.read(), 10) == b""
    for _, kept in [*first, (reader, writer)]:
        kept.close()
        await kept.wait_closed()
    headers = await site.ticket("root@pam")
    async with asyncio.timeout(10):
        while True:
            with suppress(aiohttp.ClientError):
                assert (await site.ask("GET", "/version", headers)).status == 200
                break


async def test_a_flood_of_logins_is_refused_and_others_are_served(site: Site) -> None:
    await site.user()
    site.access.realms._passwords = Passwords(memory_kib=16384)
    headers, before = await site.ticket(), memory()
    flood = [
        asyncio.create_task(site.ask("POST", "/access/ticket", {}, {"username": f"u{n}@pve", "password": "x"}))
        for n in range(300)
    ]
    await asyncio.sleep(0)
    begun = time.monotonic()
    assert (await site.ask("GET", "/version", headers)).status == 200
    served = time.monotonic() - begun
    assert {answer.status for answer in await asyncio.gather(*flood)} == {401}
    assert served < 10
    assert memory() - before < 200 << 20
